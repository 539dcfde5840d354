"""The science of a run: FitConfig with every choice taken, and what a resume compares.

Enters: a FitConfig, the number of training images and their size. Leaves: Settings, which every
worker reads and which the run directory keeps, and the announcements of what the recipe chose.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from raymd.distillation.methods import get_method
from raymd.distillation.schedule import Schedule, build_schedule
from raymd.errors import UserError
from raymd.recipes import (
    FEW_SAMPLES,
    Precision,
    Recipe,
    default_val_fraction,
    get_recipe,
    recipe_for,
)
from raymd.student_options import OPTIONS, LrSchedule, Optimizer

if TYPE_CHECKING:
    from raymd.config import FitConfig

T = TypeVar("T")
DEFAULT_MIXUP_ALPHA = 0.2
FINETUNE = "finetune"


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


def _either(said: T | None, default: T) -> T:
    return default if said is None else said


def resolve(config: "FitConfig", *, num_train: int, image_size: int) -> tuple[Settings, list[str]]:
    """Fill in what the user left open, from the recipe.

    Args:
        config: What the user said.
        num_train: Training images of the data set (a larger count than ``subset`` is cut to it).
        image_size: The side in pixels at which networks see them.

    Returns:
        The settings, and an announcement of one line for each choice worth knowing.
    """
    if config.recipe is None:
        recipe = recipe_for(config.dataset, image_size=image_size)
    else:
        recipe = get_recipe(config.recipe)
    left_open = {name: recipe.run[name] for name in recipe.run if getattr(config, name) is None}
    said, config = config, dataclasses.replace(config, **left_open)
    assert config.epochs is not None
    assert config.tin is not None
    assert config.td is not None
    num_samples = min(num_train, _either(config.subset, num_train))
    settings = Settings(
        method=config.method,
        t=config.t,
        tin=config.tin,
        td=config.td,
        epochs=config.epochs,
        kl_scale=config.kl_scale,
        lr_drop=_either(config.lr_drop, "exact"),
        val_fraction=_either(config.val_fraction, default_val_fraction(num_samples)),
        seed=config.seed,
        dataset=config.dataset,
        subset=config.subset,
        image_size=config.image_size,
        augment=config.augment,
        mixup_alpha=_either(config.mixup_alpha, DEFAULT_MIXUP_ALPHA),
        students=_students(config, recipe),
    )
    lines = [
        *_recipe_lines(said, settings, recipe),
        *_schedule_lines(settings),
        *_weights_lines(config, settings, recipe),
    ]
    if config.val_fraction is None:
        side = "below" if num_samples < FEW_SAMPLES else "from"
        lines.append(
            f"val_fraction {settings.val_fraction:g}: {side} {FEW_SAMPLES:,} training images"
        )
    return settings, lines


def _students(config: "FitConfig", recipe: Recipe) -> tuple[StudentConfig, ...]:
    ids = student_ids(config.students)
    return tuple(
        _student(config, recipe, student_id, arch)
        for student_id, arch in zip(ids, config.students, strict=True)
    )


def _student(config: "FitConfig", recipe: Recipe, student_id: str, arch: str) -> StudentConfig:
    """One student's options: its own over the run's over the recipe's over the defaults."""
    said = options_said(config, student_id)
    options = recipe.options(
        arch,
        optimizer=said.get("optimizer"),
        trained_weights=bool(said.get("pretrained") or said.get("init_from")),
    )
    return StudentConfig(id=student_id, arch=arch, **{**options, **said})


def options_said(config: "FitConfig", student: str) -> dict[str, Any]:
    """What the user said of a student, by itself or with all; its own options go over those."""
    own = config.student[student].said() if student in config.student else {}
    run = config.said()
    if own.get("init_from") is not None:
        run.pop("pretrained", None)
    if own.get("pretrained"):
        run.pop("init_from", None)
    return {**run, **own}


def _recipe_lines(config: "FitConfig", settings: Settings, recipe: Recipe) -> Iterator[str]:
    """One line with all that the recipe chose, so that what has no flag on it is seen too."""
    chosen = [
        f"{name} {getattr(settings, name)}" for name in recipe.run if getattr(config, name) is None
    ]
    for name in OPTIONS:
        by_recipe = [
            student
            for student in settings.students
            if name not in options_said(config, student.id)
            and name in recipe.options(student.arch, optimizer=student.optimizer)
        ]
        if by_recipe:
            chosen.append(f"{name} {_by_student(by_recipe, name)}")
    if chosen:
        yield f"recipe '{recipe.name}' ({recipe.about}): {', '.join(chosen)}; flags change each"


def _weights_lines(config: "FitConfig", settings: Settings, recipe: Recipe) -> Iterator[str]:
    """Trained weights are lost at the rates that random ones need; say so where it is asked for."""
    for student in settings.students:
        trained = student.pretrained or student.init_from is not None
        lr_said = "lr" in options_said(config, student.id)
        usual = recipe.options(student.arch, optimizer=student.optimizer, trained_weights=True)
        if trained and lr_said and student.lr > 3 * usual["lr"]:
            yield (
                f"warning: {student.id} begins with trained weights, and a learning rate of"
                f" {student.lr:g} may throw them away; {usual['lr']:g} is usual (--lr)"
            )
        if trained and not lr_said and recipe.name != FINETUNE:
            yield (
                f"{student.id} begins with trained weights: lr {student.lr:g}, a tenth of the"
                f" recipe's (--lr; --recipe {FINETUNE} has a short budget for it)"
            )
    if recipe.name == FINETUNE and not any(s.pretrained or s.init_from for s in settings.students):
        yield (
            f"warning: recipe {FINETUNE!r} is for trained weights, and no student begins with any"
            " (--pretrained, --init_from)"
        )


def _by_student(students: Iterable[StudentConfig], name: str) -> str:
    values = {student.arch: _text(getattr(student, name)) for student in students}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return " / ".join(f"{value} ({arch})" for arch, value in values.items())


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _schedule_lines(settings: Settings) -> Iterator[str]:
    if not get_method(settings.method).distils:
        return
    schedule = settings.schedule()
    if not schedule.barriers:
        yield (
            f"epochs {settings.epochs}: all of them independent, as the first distillation phase"
            f" would begin after {settings.tin} (--epochs, --tin)"
        )
    drop = schedule.first_drop_inside_distillation()
    if drop is not None and any(s.lr_schedule == "step" for s in settings.students):
        yield (
            f"warning: the learning rate drops at epoch {drop + 1}, inside a distillation phase,"
            " whose teacher is from before it (--lr_drop cycle, or epochs a multiple of"
            f" {4 * (settings.tin + settings.td)})"
        )


def differences(run: Settings, asked: Settings) -> list[str]:
    """How the settings asked for differ from those of a run, as a resume's refusal tells it.

    The order of students is no difference: everything about a student follows from its id.

    Args:
        run: What the run was begun with.
        asked: What it should go on with.

    Returns:
        Such as "t: 3.0 in the run, 4.0 asked for (--t)"; empty if they are the same.
    """
    lines = [
        _difference(entry.name, getattr(run, entry.name), getattr(asked, entry.name))
        for entry in dataclasses.fields(Settings)
        if entry.name not in ("students", "dataset")
        and getattr(run, entry.name) != getattr(asked, entry.name)
    ]
    # Where a data set lies may change; what it holds is compared by its fingerprint.
    if run.dataset.partition(":")[0] != asked.dataset.partition(":")[0]:
        lines.append(_difference("dataset", run.dataset, asked.dataset))
    return lines + _student_differences(run, asked)


def _difference(label: str, run: object, asked: object, *, flag: str | None = None) -> str:
    return f"{label}: {run} in the run, {asked} asked for (--{flag or label})"


def _student_differences(run: Settings, asked: Settings) -> list[str]:
    was, now = ({s.id: s for s in settings.students} for settings in (run, asked))
    if was.keys() != now.keys():
        return [_difference("students", ",".join(was), ",".join(now))]
    return [
        _difference(
            f"{student}'s {name}",
            getattr(was[student], name),
            getattr(now[student], name),
            flag="students" if name == "arch" else name,
        )
        for student in was
        for name in ("arch", *OPTIONS)
        if getattr(was[student], name) != getattr(now[student], name)
    ]
