"""A result and its history as tables for pandas, one row a fact.

Enters: a Result and the ``epoch`` events of its history. Leaves: DataFrames, whose columns are
named as in result.json (docs/result.md) and in the events (docs/events.md). pandas is imported
only here and only when it is asked for.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from raymd.result import EnsembleResult, Result, Score, StudentResult
from raymd.view.event_types import EpochFields

if TYPE_CHECKING:
    import pandas as pd

ENSEMBLE = "ensemble"


def students_frame(result: Result) -> "pd.DataFrame":
    """How each student and the ensemble ended.

    Returns:
        A row a student in the order asked for, the ensemble last; columns ``student``, ``arch``,
        ``parameters``, ``epochs``, ``best_epoch``, and for the ``last`` and the ``best`` weights
        ``test_last``, ``test_last_low``, ``test_last_high`` (95 % interval) and ``val_last``:
        accuracies as parts of 1. What a run does not have is missing (NaN, None).
    """
    import pandas as pd

    rows = [
        {
            "student": student.id,
            "arch": student.arch,
            "parameters": student.parameters,
            "epochs": student.epochs,
            "best_epoch": student.best_epoch,
            **_scores(student),
        }
        for student in result.students
    ]
    members = set(result.ensemble.members)
    whole = {
        "student": ENSEMBLE,
        "arch": None,
        "parameters": sum(s.parameters for s in result.students if s.id in members),
        "epochs": result.epochs,
        "best_epoch": None,
        **_scores(result.ensemble),
    }
    frame = pd.DataFrame([*rows, whole])
    return frame.astype({"best_epoch": "Int64"})  # whole numbers, or missing


def _scores(entry: StudentResult | EnsembleResult) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for which, scores in (("last", entry.last), ("best", entry.best)):
        test = None if scores is None else scores.test
        val = None if scores is None else scores.val
        low, high = (None, None) if test is None else test.interval
        found |= {
            f"test_{which}": _accuracy(test),
            f"test_{which}_low": low,
            f"test_{which}_high": high,
            f"val_{which}": _accuracy(val),
        }
    return found


def _accuracy(score: Score | None) -> float | None:
    return None if score is None else score.accuracy


def history_frame(history: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """Every epoch of every student.

    Args:
        history: Events, merged (events.merge_history); others than ``epoch`` are passed over.

    Returns:
        A row a student and epoch, by epoch; columns as the event's keys, without ``event``.
    """
    import pandas as pd

    columns = list(EpochFields.__annotations__)
    rows = [{key: event[key] for key in columns} for event in history if event["event"] == "epoch"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"kd_loss": "float64", "val_accuracy": "float64"})


def cycles_frame(result: Result) -> "pd.DataFrame":
    """Each cycle's teacher.

    Returns:
        A row a cycle and student; columns ``cycle``, ``student``, ``weight`` (a_i, Eq. 8) and
        ``accuracy`` (v_i, as published; missing of a student that published none).
    """
    import pandas as pd

    rows = [
        {
            "cycle": record.cycle,
            "student": student,
            "weight": weight,
            "accuracy": record.accuracies.get(student),
        }
        for record in result.cycles
        for student, weight in record.weights.items()
    ]
    return pd.DataFrame(rows, columns=["cycle", "student", "weight", "accuracy"])
