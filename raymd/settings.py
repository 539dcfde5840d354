"""The science of a run: FitConfig with every choice taken, and what a resume compares.

resolve.py makes it of a FitConfig and a recipe; every worker reads it, the run directory keeps it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from raymd.distillation.schedule import Schedule, build_schedule
from raymd.errors import UserError
from raymd.student_options import LrSchedule, Optimizer, Precision

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
class Settings:
    """The science of a run: whatever changes its weights, and nothing else.

    Attributes are FitConfig's of the same name with the recipe's values filled in, and
        subset, image_size, augment: None means all training images, their own size, and the
            data set's own augmentation.
        students: One entry each, in the order asked for.
    """

    method: str
    t: float
    tin: int
    td: int
    epochs: int
    kl_scale: Literal["t2", "none"]
    lr_drop: Literal["exact", "cycle"]
    val_fraction: float
    seed: int
    dataset: str
    subset: int | None
    image_size: int | None = None
    augment: tuple[str, ...] | None = None
    mixup_alpha: float = 0.2
    students: tuple[StudentConfig, ...]

    def schedule(self) -> Schedule:
        """The run's list of epochs, the same for every student."""
        return build_schedule(
            method=self.method, epochs=self.epochs, tin=self.tin, td=self.td, lr_drop=self.lr_drop
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
        augment = settings["augment"]
        augment = tuple(augment) if augment is not None else None
        return cls(**{**settings, "students": students, "augment": augment})


def _check_keys(cls: type[Any], settings: Mapping[str, Any]) -> None:
    known = {entry.name for entry in dataclasses.fields(cls)}
    if known != settings.keys():
        raise UserError(
            f"settings of another raymd version: unknown {sorted(settings.keys() - known)},"
            f" missing {sorted(known - settings.keys())}; go on with that version, or begin a new"
            " run (--name)"
        )
