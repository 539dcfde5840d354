"""A search's outcome on the terminal and as ``search.json``.

SearchPlan, ranked points -> table, search.json
"""

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raymd.objectives import OBJECTIVES
from raymd.point import TRIALS, seed_folder
from raymd.result import Result
from raymd.run_folder import RESULT
from raymd.storage import Storage
from raymd.view.text import count_of, points
from tuning.hpo.plan import SearchPlan
from tuning.hpo.ranking import Ranked, Summary, chosen, told, told_values

REPORT = "search.json"
SCHEMA_VERSION = 1
ABSENT = "-"


def report(plan: SearchPlan, found: list[Ranked], folder: Storage, console: Console) -> None:
    """Show all points, and write them down."""
    best = chosen(found)
    results = [] if best is None else read_results(plan, best, folder)
    document = to_document(plan, found, results)
    folder.write(REPORT, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    console.print()
    console.print(table(plan, found))
    for line in notes(plan, found, results):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(f"search: {folder.uri} ({REPORT})"), soft_wrap=True)


def read_results(plan: SearchPlan, point: Ranked, folder: Storage) -> list[Result]:
    """The results of a point's seeds."""
    place = folder.sub(f"{TRIALS}/{point.record.trial}")
    return [
        Result.from_json(place.read(f"{seed_folder(seed)}/{RESULT}").to_pybytes().decode())
        for seed in plan.seeds
    ]


def table(plan: SearchPlan, found: list[Ranked]) -> Table:
    """A row a point, best first."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in plan.space.search:
        shown.add_column(name, overflow="fold")
    shown.add_column(f"{plan.objective} %", justify="right", no_wrap=True)
    shown.add_column("n", justify="right")
    shown.add_column("minus best", justify="right", no_wrap=True)
    shown.add_column("", overflow="fold")
    best = chosen(found)
    for point in found:
        values = [told(point.record.values[name]) for name in plan.space.search]
        summary = point.summary or (
            Summary(point.last, None, 0) if point.last is not None else None
        )
        shown.add_row(
            *values,
            summary_text(summary),
            str(len(point.record.objectives())),
            summary_text(point.against_best, sign=True),
            "best" if best is not None and point is best else status_text(point, plan),
        )
    return shown


def summary_text(summary: Summary | None, *, sign: bool = False) -> str:
    """``95.1 ± 0.3``, in percent; of one number there is no deviation."""
    if summary is None:
        return ABSENT
    mean = f"{100 * summary.mean:+.1f}" if sign else points(summary.mean).strip()
    return mean if summary.sd is None else f"{mean} ± {100 * summary.sd:.1f}"


def status_text(point: Ranked, plan: SearchPlan) -> str:
    """What is to be said of a point beside its numbers."""
    if point.status == "diverged":
        return f"{point.num_diverged} of {count_of(len(plan.seeds), 'seed')} diverged"
    if point.status == "stopped":
        return f"ended early, after epoch {point.epochs} of {plan.epochs}"
    if point.status == "failed":
        return f"failed: {point.reason}"
    return "" if point.status == "finished" else point.status


def notes(plan: SearchPlan, found: list[Ranked], results: list[Result]) -> list[str]:
    """What has to be known of the table."""
    objective = OBJECTIVES[plan.objective]
    lines = [f"{plan.objective}: {objective.about}; {count_of(plan.epochs, 'epoch')} a run"]
    if objective.warning:
        lines.append(f"warning: {objective.warning}")
    diverged = [point for point in found if point.num_diverged]
    if diverged:
        seeds = sum(point.num_diverged for point in diverged)
        lines.append(
            f"{count_of(seeds, 'seed')} of {count_of(len(diverged), 'point')} diverged; points with"
            " a diverged seed are never chosen"
        )
    if results:
        lines += _of_chosen(found, results)
    if len(plan.seeds) == 1:
        lines.append("one seed a point: differences may be luck (--seeds 5)")
    return lines


def _of_chosen(found: list[Ranked], results: list[Result]) -> list[str]:
    best = chosen(found)
    assert best is not None
    tests = ", ".join(
        f"{name} {summary_text(summary)}" for name, summary in accuracy_of_tests(results).items()
    )
    return [
        f"chosen: {told_values(best.record.values)}",
        f"its test accuracy in %, last epoch, {count_of(len(results), 'seed')}, which chose"
        f" nothing: {tests}",
    ]


def accuracy_of_tests(results: list[Result]) -> dict[str, Summary]:
    """Of the chosen point's last weights, by student, and of the ensemble."""
    seen: dict[str, list[float]] = {}
    for result in results:
        for student in result.students:
            seen.setdefault(student.id, []).append(student.last.test.accuracy)
        if len(result.students) > 1:
            seen.setdefault("ensemble", []).append(result.ensemble.last.test.accuracy)
    return {name: summary for name, v in seen.items() if (summary := Summary.of(v)) is not None}


def to_document(plan: SearchPlan, found: list[Ranked], results: list[Result]) -> dict[str, Any]:
    """What search.json holds; accuracies are parts of 1."""
    best = chosen(found)
    objective = OBJECTIVES[plan.objective]
    return {
        "schema_version": SCHEMA_VERSION,
        "name": plan.name,
        "objective": plan.objective,
        "objective_about": objective.about,
        "objective_warning": objective.warning or None,
        "epochs": plan.epochs,
        "seeds": list(plan.seeds),
        "algorithm": plan.algorithm,
        "early_stopping_epochs": list(plan.milestones),
        "num_points": plan.num_points,
        "space": plan.space.to_dict(),
        "points": [_point(point, plan) for point in found],
        "best": None if best is None else best.record.trial,
        "best_test_accuracy": {k: _plain(v) for k, v in accuracy_of_tests(results).items()},
    }


def _point(point: Ranked, plan: SearchPlan) -> dict[str, Any]:
    record = point.record
    return {
        "trial": record.trial,
        "values": record.values,
        "status": point.status,
        "reason": point.reason or None,
        "objective": _plain(point.summary),
        "stopped_after_epochs": point.epochs,
        "objective_when_stopped": point.last,
        "num_diverged": point.num_diverged,
        "minus_best": _plain(point.against_best),
        "seeds": record.to_dict()["seeds"],
        "runs": [f"{TRIALS}/{record.trial}/{seed_folder(seed)}" for seed in plan.seeds],
    }


def _plain(summary: Summary | None) -> dict[str, Any] | None:
    return None if summary is None else {"mean": summary.mean, "sd": summary.sd, "n": summary.n}
