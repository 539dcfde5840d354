"""What a run came to: the interface to everything that comes after.

Enters: the counts that raymd/execution collects when all students have finished. Leaves:
result.json, which report, dashboard and tuning read; docs/result.md documents it. Imports neither
torch nor Ray, so a result can be read anywhere.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Self

from raymd.environment import environment
from raymd.errors import DataError
from raymd.plain import from_plain, to_plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = [
    "CITATION",
    "SCHEMA_VERSION",
    "CycleRecord",
    "EnsembleResult",
    "LostStudent",
    "Result",
    "Score",
    "Scores",
    "StudentResult",
    "environment",
    "pick_best",
    "wilson_interval",
]

SCHEMA_VERSION = 1

CITATION = """\
@article{gao2019multistructure,
  title   = {Multistructure-Based Collaborative Online Distillation},
  author  = {Gao, Liang and Lan, Xu and Mi, Haibo and Feng, Dawei and Xu, Kele and Peng, Yuxing},
  journal = {Entropy},
  volume  = {21},
  number  = {4},
  pages   = {357},
  year    = {2019},
  doi     = {10.3390/e21040357}
}
"""

# -- the schema -----------------------------------------------------------------------------


def wilson_interval(correct: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion, (low, high) in [0, 1].

    Unlike the textbook's p ± z·sqrt(p(1-p)/n) it stays within [0, 1] and keeps a width when all
    or none of few images are hit.

    Args:
        correct: Hits.
        total: Trials, at least one.
        z: Standard errors to each side; 1.96 gives 95 %.
    """
    p = correct / total
    scale = 1 + z * z / total
    centre = (p + z * z / (2 * total)) / scale
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Score:
    """How many of how many images were classified rightly (top-1).

    Raises:
        DataError: Counts that cannot be.
    """

    DERIVED: ClassVar[Mapping[str, str]] = {"accuracy": "accuracy", "interval_95": "interval"}

    correct: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.total or self.total < 1:
            raise DataError(f"score: {self.correct} of {self.total} images cannot be right")

    @property
    def accuracy(self) -> float:
        """Part of 1."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95 % interval (Wilson): of sampling test images, not of training."""
        return wilson_interval(self.correct, self.total)


@dataclass(frozen=True)
class Scores:
    """One set of weights on the test images and on the held-out ones (None without any)."""

    test: Score
    val: Score | None


@dataclass(frozen=True, kw_only=True)
class StudentResult:
    """One student.

    Attributes:
        id: Its id in the run.
        arch: The network's registered name.
        parameters: Trainable numbers of the network.
        epochs: How many it trained.
        last: Its weights after the last epoch.
        best: Its weights at ``best_epoch``; None without held-out images.
        best_epoch: Index from 0 of the epoch with the highest held-out accuracy, the first of
            equals; None without held-out images.
    """

    id: str
    arch: str
    parameters: int
    epochs: int
    last: Scores
    best: Scores | None
    best_epoch: int | None


@dataclass(frozen=True, kw_only=True)
class EnsembleResult:
    """The students' weighted mean prediction (Eq. 5).

    Attributes:
        members: Student ids.
        weights: One for each member; they sum to 1.
        last: Of the members' last weights.
        best: Of the members' best weights; the same as ``last`` without held-out images.
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    last: Scores
    best: Scores


@dataclass(frozen=True)
class LostStudent:
    """A student that the others went on without.

    Attributes:
        id: Its id in the run.
        reason: Why.
        epoch: Index from 0 of the epoch it was in.
        cycle: The first cycle whose teacher was made without it.
    """

    id: str
    reason: str
    epoch: int
    cycle: int


@dataclass(frozen=True)
class CycleRecord:
    """One cycle's teacher, made by whoever was left.

    Attributes:
        cycle: From 0.
        weights: a_i by student id (Eq. 8).
        accuracies: v_i by student id, as published.
    """

    cycle: int
    weights: dict[str, float]
    accuracies: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run, as result.json holds it.

    Attributes:
        run: The run directory, a path or a URI.
        method: Name of the method.
        dataset: As given to ``--dataset``.
        num_train, num_val, num_test: Images trained on, held out, and tested on.
        epochs: The budget of each student.
        t: Temperature of the soft labels.
        tin, td: Epochs of a cycle's two phases.
        seed: Of the run.
        students: Those that finished, in the order asked for.
        ensemble: All of these together.
        best_student: Id of the student that pick_best chose.
        cycles: Each cycle's teacher; empty for a method without.
        settings: Everything that decides the weights (Settings.to_dict).
        environment: What ``environment()`` says of the machine.
        seconds: Wall time of the attempt that finished the run.
        citation: Of the method's paper, BibTeX.
        lost: Students that did not finish, by id.
        object_store_peak_bytes: The most that the run kept in Ray's object store at once, in the
            attempt that finished it; None where nobody counted.
    """

    OPTIONAL: ClassVar[Mapping[str, Any]] = {"lost": [], "object_store_peak_bytes": None}

    run: str
    method: str
    dataset: str
    num_train: int
    num_val: int
    num_test: int
    epochs: int
    t: float
    tin: int
    td: int
    seed: int
    students: tuple[StudentResult, ...]
    ensemble: EnsembleResult
    best_student: str
    cycles: tuple[CycleRecord, ...]
    settings: dict[str, Any]
    environment: dict[str, Any]
    seconds: float
    citation: str = CITATION
    lost: tuple[LostStudent, ...] = ()
    object_store_peak_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and dictionaries, with accuracies beside the counts."""
        return {"schema_version": SCHEMA_VERSION, **to_plain(self)}

    def to_json(self) -> str:
        """The text of result.json.

        Raises:
            ValueError: A number that JSON has no text for (nan, infinity).
        """
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def history(self) -> list[dict[str, Any]]:
        """Every epoch of every student (``epoch`` events, docs/events.md), from the run's folder.

        Raises:
            OSError: The folder is not there any more, or not readable from here.
        """
        from raymd.runs import read_history  # it knows of runs, which know of results
        from raymd.storage import Storage

        return read_history(Storage.at(self.run))

    def students_frame(self) -> "pd.DataFrame":
        """A row a student, and one for the ensemble: accuracies with their intervals."""
        from raymd.view.frames import students_frame

        return students_frame(self)

    def history_frame(self) -> "pd.DataFrame":
        """A row an epoch of a student."""
        from raymd.view.frames import history_frame

        return history_frame(self.history())

    def cycles_frame(self) -> "pd.DataFrame":
        """A row a cycle and student: accuracies v_i and weights a_i (Eq. 8)."""
        from raymd.view.frames import cycles_frame

        return cycles_frame(self)

    def plot(self) -> "go.Figure":
        """Accuracy and losses against epochs, distillation phases shaded, as a Plotly figure."""
        from raymd.view.plots import plot

        return plot(self, self.history())

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of to_dict; what earlier versions did not write yet may be missing.

        Raises:
            DataError: A newer schema version, keys missing or unknown, or a wrong type.
        """
        found = document.get("schema_version")
        if isinstance(found, int) and found > SCHEMA_VERSION:
            raise DataError(
                f"result.json has schema_version {found}, and raymd {version('raymd')} reads up to"
                f" {SCHEMA_VERSION}: read it with the raymd that wrote it, or a later one"
            )
        if found != SCHEMA_VERSION:
            raise DataError(f"result.json: schema_version {found!r}, not {SCHEMA_VERSION}")
        rest = {key: value for key, value in document.items() if key != "schema_version"}
        return from_plain(cls, {**cls.OPTIONAL, **rest}, where="result.json")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The result that a result.json holds; DataError as from_dict, and for what is no JSON."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise DataError(f"result.json is damaged: {error}") from error
        if not isinstance(document, dict):
            raise DataError(f"result.json holds {text.strip()[:40]!r}, not an object")
        return cls.from_dict(document)


def pick_best(students: Iterable[StudentResult]) -> str:
    """The id of the student to use, picked without looking at the test images.

    The highest held-out accuracy of a student's best weights; of equals the one with the fewest
    parameters; of equals still, and where nothing was held out, the one that stands first.
    """
    candidates = list(students)
    if any(student.best is None or student.best.val is None for student in candidates):
        return candidates[0].id
    return max(candidates, key=_rank).id


def _rank(student: StudentResult) -> tuple[float, int]:
    assert student.best is not None
    assert student.best.val is not None
    return student.best.val.accuracy, -student.parameters
