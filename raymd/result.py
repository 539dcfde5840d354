"""What a run came to, and where its files lie: the interface to everything that comes after.

Enters: the counts that raymd/execution collects when all students have finished. Leaves:
result.json, which report, dashboard and tuning read; docs/result.md documents it. Imports neither
torch nor Ray, so a result can be read anywhere.
"""

import json
import math
import os
import platform
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from raymd.errors import DataError
from raymd.exchange.names import published_folder, teacher_folder

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

# -- names in the run directory, relative to it ---------------------------------------------

CONFIG = "config.yaml"
PLAN = "plan.json"
RESULT = "result.json"
REPORT = "report.html"
TENSORBOARD = "tensorboard"


def history_part(student: str, number: int) -> str:
    """A numbered part of a student's history, JSON lines (view/events.py)."""
    return f"history/{student}/part-{number:05d}.jsonl"


def student_folder(student: str) -> str:
    """A student's final files and checkpoints."""
    return f"students/{student}"


def checkpoints_folder(student: str) -> str:
    """A student's checkpoints, until the run is finished."""
    return f"{student_folder(student)}/checkpoints"


def model_record(student: str) -> str:
    """The record that makes a student's final files count."""
    return f"{student_folder(student)}/model.json"


def weights_file(student: str, which: str) -> str:
    """A student's ``best`` or ``last`` weights."""
    return f"{student_folder(student)}/{which}.safetensors"


def soft_labels_folder(cycle: int, student: str) -> str:
    """A student's raw soft labels of a cycle, until that cycle's teacher is committed."""
    return published_folder(cycle, student)


def one_teacher_folder(cycle: int, teacher: str) -> str:
    """The blocks of one teacher of a cycle."""
    return f"{teacher_folder(cycle)}/{teacher}"


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
class CycleRecord:
    """One cycle's teacher.

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
        students: In the order asked for.
        ensemble: All students together.
        best_student: Id of the student that pick_best chose.
        cycles: Each cycle's teacher; empty for a method without.
        settings: Everything that decides the weights (Settings.to_dict).
        environment: What ``environment()`` says of the machine.
        seconds: Wall time of the attempt that finished the run.
        citation: Of the method's paper, BibTeX.
    """

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

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and dictionaries, with accuracies beside the counts."""
        return {"schema_version": SCHEMA_VERSION, **_plain(self)}

    def to_json(self) -> str:
        """The text of result.json.

        Raises:
            ValueError: A number that JSON has no text for (nan, infinity).
        """
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of to_dict.

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
        return _read(cls, rest, "result.json")

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


# -- to and from plain values ---------------------------------------------------------------

_DERIVED = {Score: ("accuracy", "interval_95")}


def _plain(value: Any) -> Any:
    if isinstance(value, Score):
        derived = {"accuracy": value.accuracy, "interval_95": list(value.interval)}
        return {"correct": value.correct, "total": value.total, **derived}
    if is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _read(kind: Any, value: Any, where: str) -> Any:
    """A plain value as the annotated type; ``where`` names its place for the error."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _read(inner[0], value, where)
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin is tuple:
        _expect(value, list, where)
        return tuple(_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _expect(value, dict, where)
        return {key: _read(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is not Any:
        _expect(value, kind, where)
    return value


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(value, dict, where)
    hints = get_type_hints(kind)
    known = {entry.name for entry in fields(kind)}
    expected = known.union(_DERIVED.get(kind, ()))
    if expected != value.keys():
        raise DataError(
            f"{where}: unknown keys {sorted(value.keys() - expected)}, missing"
            f" {sorted(expected - value.keys())} (another raymd version, or edited by hand)"
        )
    return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in known})


def _expect(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DataError(f"{where}: {str(value)[:40]!r} is {type(value).__name__}, not {kind.__name__}")


# -- where it ran ---------------------------------------------------------------------------

_PACKAGES = ("raymd", "torch", "torchvision", "ray", "numpy", "pyarrow")


def environment() -> dict[str, Any]:
    """Versions and the processor of this machine; nothing personal, no environment variables.

    Returns:
        ``python``, a version (None if not installed) for each package, ``platform``, ``cpu`` (its
        model) and ``cores`` (logical ones that this process may use).
    """
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": _num_cores(),
    }


def _version(package: str) -> str | None:
    # from the metadata: importing torch would take seconds
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _num_cores() -> int:
    # a container or a scheduler may allow less than the machine has
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
