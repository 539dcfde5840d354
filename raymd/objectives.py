"""What the points of a search are judged by: of finished runs, and of each epoch on the way.

Results, or a run's events, enter; one number leaves, a part of 1, higher is better. It is of
held-out images, never of test images: those are for whoever was chosen. Pure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from raymd.errors import UserError
from raymd.result import Result, Score


@dataclass(frozen=True)
class Objective:
    """What points are compared by, a part of 1; higher is better. Test images are never in it.

    Attributes:
        about: It in words.
        reduce: Of the students' held-out accuracies; None: it is not to be had from those.
        warning: What to know of it; empty if nothing.
    """

    about: str
    reduce: Callable[[Sequence[float]], float] | None
    warning: str = ""

    def of_result(self, result: Result) -> float:
        """Of a finished run.

        Raises:
            UserError: nothing was held out.
        """
        if self.reduce is None:
            return _accuracy(result.ensemble.last.val)
        return self.reduce([_accuracy(student.last.val) for student in result.students])


OBJECTIVES = {
    "mean_last": Objective("mean of the students, last epoch, held-out images", fmean),
    "best_of": Objective(
        "best student, last epoch, held-out images",
        max,
        "the best of several grows with their number even if none gets better, so it favours points"
        " with many students (--objective mean_last)",
    ),
    "ensemble": Objective(
        "ensemble of the students, last epoch, held-out images",
        None,
        "an ensemble costs as much to deploy as all its members (--objective mean_last)",
    ),
}


def _accuracy(score: Score | None) -> float:
    if score is None:
        raise UserError("no images were held out, and the objective needs some (--val_fraction)")
    return score.accuracy


class EpochMeter:
    """The objective at each epoch, once all students have come to its end.

    Args:
        students: Their ids.
        objective: What to measure.
    """

    def __init__(self, students: Sequence[str], *, objective: Objective) -> None:
        self._students = set(students)
        self._reduce = objective.reduce
        self._at: dict[int, dict[str, float]] = {}
        self._done = 0

    def take(self, event: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
        """Epochs that an event of the run completes: how many are over, and the objective then.

        An epoch that a restarted student trains again is told once.
        """
        if event["event"] == "lost":
            self._students.discard(event["student"])
        elif event["event"] == "epoch" and event["val_accuracy"] is not None:
            self._at.setdefault(event["epoch"], {})[event["student"]] = event["val_accuracy"]
        while self._students and self._students <= self._at.get(self._done, {}).keys():
            seen = self._at.pop(self._done)
            self._done += 1
            if self._reduce is not None:
                yield self._done, self._reduce([seen[student] for student in self._students])
