"""What can be said of all students at once (``--lr``) or of one (``--student.resnet50.lr``).

Enters: flags, YAML or Python, by way of FitConfig, which inherits these fields and keeps a second
set of them for each student named. Leaves: values for settings.resolve. A new option of training
is a field here and one of settings.StudentConfig; both ways of saying it follow.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raymd.errors import UserError, nearest, unknown_name
from raymd.fields import about, about_of, read

Precision = Literal["fp32", "bf16", "fp16"]
Optimizer = Literal["sgd", "adamw"]
LrSchedule = Literal["step", "cosine"]


@dataclass(frozen=True, kw_only=True)
class StudentOptions:
    """Options of a student's training; None leaves one to the next: run, recipe, default.

    Raises:
        UserError: A value of the wrong type or outside its limits; with what is allowed.
    """

    lr: float | None = field(
        default=None, metadata=about("learning rate at the start, after any warm-up", above=0)
    )
    batch_size: int | None = field(
        default=None, metadata=about("images a step, over all workers of the student", minimum=1)
    )
    optimizer: Optimizer | None = field(
        default=None, metadata=about("SGD with momentum, or AdamW with its usual betas")
    )
    momentum: float | None = field(default=None, metadata=about("SGD's", minimum=0, below=1))
    weight_decay: float | None = field(default=None, metadata=about("the optimiser's", minimum=0))
    lr_schedule: LrSchedule | None = field(
        default=None,
        metadata=about("step: drops as --lr_drop says; cosine: to zero over the whole budget"),
    )
    warmup_epochs: float | None = field(
        default=None,
        metadata=about("epochs over which the learning rate rises from zero", minimum=0),
    )
    grad_clip: float | None = field(
        default=None, metadata=about("largest norm of a step's gradient; 0: no limit", minimum=0)
    )
    label_smoothing: float | None = field(
        default=None,
        metadata=about("of the task loss's labels, never of the teacher", minimum=0, below=1),
    )
    ema: float | None = field(
        default=None,
        metadata=about(
            "decay a step of an averaged copy of the weights, which is then evaluated and kept;"
            " 0: none (0.999 is usual; soft labels are published from the weights themselves)",
            minimum=0,
            below=1,
        ),
    )
    precision: Precision | None = field(
        default=None, metadata=about("arithmetic of forward and backward; weights stay fp32")
    )
    channels_last: bool | None = field(
        default=None, metadata=about("keep images and convolutions in channels-last memory")
    )
    compile: bool | None = field(
        default=None, metadata=about("torch.compile the network; needs a C++ compiler on a CPU")
    )
    workers_per_student: int | None = field(
        default=None,
        metadata=about("data-parallel workers (DDP) that share each batch of a student", minimum=1),
    )
    pretrained: bool | None = field(
        default=None,
        metadata=about("begin with the published weights of a torchvision or timm: network"),
    )
    init_from: str | None = field(
        default=None,
        metadata=about("begin with the weights of a run (RUN or RUN::STUDENT) or of a file"),
    )

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            if not about_of(entry).read_apart:
                object.__setattr__(self, entry.name, read(entry, getattr(self, entry.name)))
        if self.pretrained and self.init_from is not None:
            raise UserError(
                f"pretrained and init_from {self.init_from!r}: a network begins with one of them"
                " (--pretrained, --init_from)"
            )

    def said(self) -> dict[str, Any]:
        """The options that are not left open."""
        values = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in values.items() if value is not None}


def student_ids(archs: Sequence[str]) -> tuple[str, ...]:
    """An id for each network: its name, then name-2, name-3, in order of appearance.

    Characters that a folder's name should not have become "-".
    """
    ids: list[str] = []
    for arch in archs:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", arch).strip("-.") or "student"
        number, candidate = 1, stem
        while candidate in ids:
            number += 1
            candidate = f"{stem}-{number}"
        ids.append(candidate)
    return tuple(ids)


JOINT = "+"  # no student's id holds it


def unit_of(ids: Sequence[str]) -> str:
    """The name of students that are trained as one: of a single student, its id."""
    return JOINT.join(ids)


def members_of(unit: str) -> tuple[str, ...]:
    """The ids of the students that are trained under a name of ``unit_of``."""
    return tuple(unit.split(JOINT))


OPTIONS = tuple(entry.name for entry in dataclasses.fields(StudentOptions))


def read_students(value: object, *, ids: tuple[str, ...]) -> dict[str, StudentOptions]:
    """The options said of single students.

    Args:
        value: ``{id: {option: value}}``, as YAML and ``--student.ID.OPTION`` give it, or already
            read.
        ids: All ids there are.

    Raises:
        UserError: No such student or option, with the nearest, or a wrong value.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(
            f"student {value!r}: takes options by student, as in"
            f" 'student: {{{ids[0]}: {{lr: 0.05}}}}' (--student.{ids[0]}.lr 0.05)"
        )
    return {str(key): _read_one(str(key), options, ids) for key, options in value.items()}


def merge_students(before: object, over: object) -> Any:
    """Single students' options, unread as yet, over those said before (a file's, a run's)."""
    if before is None or over is None:
        return before if over is None else over
    for options in (before, over):
        if not isinstance(options, Mapping):
            return options  # read_students says what is wrong with it
    assert isinstance(before, Mapping)
    assert isinstance(over, Mapping)
    merged = dict(before)
    for student, options in over.items():
        said = before.get(student)
        if isinstance(said, Mapping) and isinstance(options, Mapping):
            merged[student] = {**said, **options}
        else:
            merged[student] = options
    return merged


def _read_one(student: str, options: object, ids: tuple[str, ...]) -> StudentOptions:
    if student not in ids:
        raise unknown_name("student", student, ids, flag=f"--student.{student}")
    if isinstance(options, StudentOptions):
        return options
    if not isinstance(options, Mapping):
        raise UserError(
            f"student {student!r}: {options!r} is no option with a value, such as lr: 0.05"
            f" (--student.{student}.lr 0.05)"
        )
    for name in options:
        if name not in OPTIONS:
            near = nearest(str(name), OPTIONS, most=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(OPTIONS)}"
            raise UserError(
                f"unknown option {name!r} of student {student!r} (--student.{student}.{name}):"
                f" {hint}"
            )
    try:
        return StudentOptions(**options)
    except UserError as error:
        # the flags that it names are this student's
        text = re.sub(r"--(\w+)", rf"--student.{student}.\1", str(error))
        raise UserError(f"student {student!r}: {text}") from error
