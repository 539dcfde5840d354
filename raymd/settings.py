"""The science of a run: FitConfig with every choice taken, and what a resume compares.

resolve.py makes it of a FitConfig and a recipe; every worker reads it, the run directory keeps it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from raymd.errors import UserError
from raymd.frozen import TeacherConfig
from raymd.student_options import LrSchedule, Optimizer, Precision, unit_of
from raymd.teaching import Teaching

DEFAULT_MIXUP_ALPHA = 0.2


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """One student of a run.

    Attributes are StudentOptions' of the same name with every choice taken, and
        id: Its name in the run, a folder's name too; its initialisation depends on it.
        arch: The network's name, as ``--students`` takes it.

    ``grad_clip``, ``label_smoothing`` and ``ema`` are 0 where there is none.
    """

    id: str
    arch: str
    lr: float
    batch_size: int
    weight_decay: float = 1e-4
    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    lr_schedule: LrSchedule = "step"
    warmup_epochs: float = 0.0
    grad_clip: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    precision: Precision = "fp32"
    channels_last: bool = True
    compile: bool = False
    workers_per_student: int = 1
    pretrained: bool = False
    init_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings(Teaching):
    """The science of a run: whatever changes its weights, and nothing else.

    Attributes are FitConfig's of the same name with the recipe's values filled in, and
        subset, image_size, augment: None means all training images, their own size, and the
            data set's own augmentation.
        students: One entry each, in the order asked for.
        teachers: Frozen ones.
    """

    t: float
    kl_scale: Literal["t2", "none"]
    val_fraction: float
    seed: int
    dataset: str
    subset: int | None
    image_size: int | None = None
    augment: tuple[str, ...] | None = None
    mixup_alpha: float = 0.2
    students: tuple[StudentConfig, ...]
    teachers: tuple[TeacherConfig, ...] = ()

    @property
    def temperature(self) -> float:
        """Of both sides of KL: the method's own, if it has one."""
        return self.teaching().t or self.t

    @property
    def publishers(self) -> tuple[str, ...]:
        """Ids of all whose soft labels or weights make teachers."""
        students = self.students if self.teaching().students_publish else ()
        return tuple([s.id for s in students] + [teacher.id for teacher in self.teachers])

    def samples_of_each(self, num_train: int) -> int:
        """Training images of one student, at the least, of so many in all."""
        return num_train // len(self.students) if self.data_split == "disjoint" else num_train

    @property
    def units(self) -> dict[str, tuple[StudentConfig, ...]]:
        """Who is trained together, by the name of ``unit_of``: each student by itself, or all."""
        together = self.teaching().is_cohort
        by_id = sorted(self.students, key=lambda student: student.id)  # in whatever order asked for
        groups = [by_id] if together else [[student] for student in self.students]
        return {unit_of([student.id for student in group]): tuple(group) for group in groups}

    def check(self) -> None:
        """See that the options of teaching go together, and with the students'.

        Raises:
            UserError: They do not; with the flags.
        """
        self.check_teaching([s.id for s in self.students], num_teachers=len(self.teachers))
        for student in self.students:
            if self.publish == "ema" and not student.ema:
                raise UserError(
                    f"publish ema: {student.id} keeps no average of its weights (--ema 0.999, or"
                    " --publish weights)"
                )
        if self.weights == "inverse_loss" and not self.val_fraction:
            raise UserError(
                "weights inverse_loss with val_fraction 0: losses are measured on held-out images"
                " (--val_fraction 0.1, or --weights accuracy)"
            )
        if self.teaching().is_cohort:
            self._check_cohort()

    def _check_cohort(self) -> None:
        own = ("data_split", "full"), ("correct_only", False), ("relabel_fraction", 1.0)
        for name, only in own:
            if getattr(self, name) != only:
                raise UserError(
                    f"{name} {getattr(self, name)}: students of method {self.method} share every"
                    f" batch, and teach each other all of it (--{name} {only}, or --method md)"
                )
        for option in ("batch_size", "workers_per_student"):
            values = {getattr(student, option): student.id for student in self.students}
            if len(values) > 1:
                said = ", ".join(f"{value} of {student}" for value, student in values.items())
                raise UserError(
                    f"{option} {said}: students of method {self.method} share every batch, so one"
                    f" value serves all (--{option})"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and dictionaries, as JSON takes them."""
        settings = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """The inverse of to_dict; UserError if fields are missing or unknown."""
        _check_keys(cls, settings)
        for student in settings["students"]:
            _check_keys(StudentConfig, student)
        students = tuple(StudentConfig(**student) for student in settings["students"])
        teachers = tuple(TeacherConfig(**teacher) for teacher in settings["teachers"])
        augment = settings["augment"]
        augment = tuple(augment) if augment is not None else None
        return cls(**{**settings, "students": students, "teachers": teachers, "augment": augment})


def _check_keys(cls: type[Any], settings: Mapping[str, Any]) -> None:
    known = {entry.name for entry in dataclasses.fields(cls)}
    if known != settings.keys():
        raise UserError(
            f"settings of another raymd version: unknown {sorted(settings.keys() - known)},"
            f" missing {sorted(known - settings.keys())}; go on with that version, or begin a new"
            " run (--name)"
        )
