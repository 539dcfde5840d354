"""What is read off a finished run for the tables: accuracies in %, and seconds of devices.

    Outcomes of a point by seed -> numbers by seed

A seed whose run diverged or lost a student has no number here, and is counted apart.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

from raymd.distillation.methods import get_method
from raymd.result import Result, Scores, StudentResult
from raymd.run_folder import PLAN
from raymd.runs import read_history
from raymd.storage import Storage
from tuning.study.points import Outcome, Point
from tuning.study.statistics import BySeed

Outcomes = Mapping[int, Outcome]
Measure = Callable[[Result], float | None]


def percent(scores: Scores) -> float:
    """Test accuracy in %."""
    return 100 * scores.test.accuracy


def by_seed(outcomes: Outcomes, measure: Measure) -> BySeed:
    """A measure of every seed that has it."""
    numbers = {s: measure(o.result) for s, o in outcomes.items() if o.result is not None}
    return {seed: number for seed, number in numbers.items() if number is not None}


def _chosen(result: Result, point: Point, places: tuple[int, ...]) -> list[StudentResult] | None:
    """The students at these places of the point; None if one was lost."""
    finished = {student.id: student for student in result.students}
    ids = [point.ids[place] for place in places]
    return [finished[i] for i in ids] if all(i in finished for i in ids) else None


def last_accuracy(point: Point, places: tuple[int, ...]) -> Measure:
    """Mean test accuracy of students, by their last weights."""

    def measure(result: Result) -> float | None:
        students = _chosen(result, point, places)
        return fmean(percent(s.last) for s in students) if students else None

    return measure


def best_accuracy(point: Point, places: tuple[int, ...]) -> Measure:
    """The same by the weights that were best on held-out images; None without such."""

    def measure(result: Result) -> float | None:
        students = _chosen(result, point, places) or []
        best = [percent(s.best) for s in students if s.best is not None]
        return fmean(best) if best and len(best) == len(students) else None

    return measure


def best_of_all(result: Result) -> float:
    """Test accuracy of the last weights of the student that held-out images picked (the first where
    none were held out)."""
    return next(percent(s.last) for s in result.students if s.id == result.best_student)


def ensemble_accuracy(result: Result) -> float:
    """Test accuracy of all students' weighted mean prediction, by their last weights."""
    return percent(result.ensemble.last)


def num_diverged(outcomes: Outcomes) -> int:
    """How many seeds diverged."""
    return sum(outcome.diverged is not None for outcome in outcomes.values())


def device_seconds(outcome: Outcome) -> float | None:
    """Seconds that devices trained for the run: every epoch's, times the student's workers, times
    the GPUs that each holds, or the CPUs where it has no GPU.

    Evaluating, publishing and waiting are not among them; a repeated epoch counts once. Students
    that take every step together (dml) share their workers, and each one's seconds are those of
    all.
    """
    if outcome.result is None:
        return None
    settings = outcome.result.settings["students"]
    workers = {student["id"]: student["workers_per_student"] for student in settings}
    storage = Storage.at(outcome.run)
    plan = storage.record(PLAN) or {}
    held = plan.get("gpus_per_worker") or plan.get("cpus_per_worker") or 1.0
    spent = [
        (event["epoch"], event["seconds"] * workers[event["student"]] * held)
        for event in read_history(storage)
    ]
    if not get_method(outcome.result.method).is_cohort:
        return sum(seconds for _, seconds in spent)
    together: dict[int, float] = {}
    for epoch, seconds in spent:
        together[epoch] = max(seconds, together.get(epoch, 0.0))
    return sum(together.values())


@dataclass(frozen=True)
class Curve:
    """Held-out accuracy in % at each epoch's end: means over students, then over seeds.

    Attributes:
        epochs: From 1.
        means: One for each.
        n: Seeds.
    """

    epochs: tuple[int, ...]
    means: tuple[float, ...]
    n: int


def curve(outcomes: Outcomes) -> Curve | None:
    """The mean curve of a point's finished seeds; None of none, or where nothing was held out."""
    runs = [o.run for o in outcomes.values() if o.result is not None and o.result.num_val > 0]
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        for event in read_history(Storage.at(run)):
            if event["event"] == "epoch" and event["val_accuracy"] is not None:
                by_epoch.setdefault(event["epoch"], []).append(100 * event["val_accuracy"])
    if not by_epoch:
        return None
    epochs = sorted(by_epoch)
    means = tuple(fmean(by_epoch[epoch]) for epoch in epochs)
    return Curve(tuple(epoch + 1 for epoch in epochs), means, len(runs))
