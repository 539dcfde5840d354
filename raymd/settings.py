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
from raymd.recipes import FEW_SAMPLES, Precision, Recipe, default_val_fraction, recipe_for

if TYPE_CHECKING:
    from raymd.config import FitConfig

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """One student of a run.

    Attributes:
        id: Its name in the run, a folder's name too; its initialisation depends on it.
        arch: The network's registered name.
        lr: Learning rate at the start.
        batch_size: Images a step, over all of its workers.
        weight_decay: SGD's.
    """

    id: str
    arch: str
    lr: float
    batch_size: int
    weight_decay: float


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
        subset: None means all training images.
        students: One entry each, in the order asked for.
    """

    method: str
    t: float
    tin: int
    td: int
    epochs: int
    kl_scale: Literal["t2", "none"]
    lr_drop: Literal["exact", "cycle"]
    momentum: float
    precision: Precision
    val_fraction: float
    seed: int
    dataset: str
    subset: int | None
    students: tuple[StudentConfig, ...]

    def schedule(self) -> Schedule:
        """The run's list of epochs, the same for every student."""
        return build_schedule(
            method=self.method, epochs=self.epochs, tin=self.tin, td=self.td, lr_drop=self.lr_drop
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and dictionaries, as JSON takes them."""
        settings = dataclasses.asdict(self)
        return settings | {"students": list(settings["students"])}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """The inverse of to_dict; UserError if fields are missing or unknown."""
        _check_keys(cls, settings)
        for student in settings["students"]:
            _check_keys(StudentConfig, student)
        students = tuple(StudentConfig(**student) for student in settings["students"])
        return cls(**{**settings, "students": students})


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
    """Fill in what the user left open, from the data set's recipe.

    Args:
        config: What the user said.
        num_train: Training images of the data set (a larger count than ``subset`` is cut to it).
        image_size: Their side in pixels.

    Returns:
        The settings, and an announcement of one line for each choice worth knowing.
    """
    recipe = recipe_for(config.dataset, image_size=image_size)
    num_samples = min(num_train, _either(config.subset, num_train))
    settings = Settings(
        method=config.method,
        t=config.t,
        tin=_either(config.tin, recipe.tin),
        td=_either(config.td, recipe.td),
        epochs=_either(config.epochs, recipe.epochs),
        kl_scale=config.kl_scale,
        lr_drop=_either(config.lr_drop, recipe.lr_drop),
        momentum=config.momentum,
        precision=_either(config.precision, recipe.precision),
        val_fraction=_either(config.val_fraction, default_val_fraction(num_samples)),
        seed=config.seed,
        dataset=config.dataset,
        subset=config.subset,
        students=_students(config, recipe),
    )
    lines = [*_recipe_lines(config, settings, recipe), *_schedule_lines(settings)]
    if config.val_fraction is None:
        side = "below" if num_samples < FEW_SAMPLES else "from"
        lines.append(
            f"val_fraction {settings.val_fraction:g}: {side} {FEW_SAMPLES:,} training images"
        )
    return settings, lines


def _students(config: "FitConfig", recipe: Recipe) -> tuple[StudentConfig, ...]:
    ids = student_ids(config.students)
    return tuple(
        StudentConfig(
            id=student_id,
            arch=arch,
            lr=_either(config.lr, recipe.student_lr(arch)),
            batch_size=_either(config.batch_size, recipe.student_batch_size(arch)),
            weight_decay=_either(config.weight_decay, recipe.student_weight_decay(arch)),
        )
        for student_id, arch in zip(ids, config.students, strict=True)
    )


def _recipe_lines(config: "FitConfig", settings: Settings, recipe: Recipe) -> Iterator[str]:
    """One line with all that the recipe chose, so that what has no flag on it is seen too."""
    chosen = [
        f"{name} {getattr(settings, name)}"
        for name in ("epochs", "tin", "td", "lr_drop", "precision")
        if getattr(config, name) is None
    ] + [
        f"{name} {_by_student(settings.students, name)}"
        for name in ("lr", "batch_size", "weight_decay")
        if getattr(config, name) is None
    ]
    if chosen:
        yield f"recipe '{recipe.name}' ({recipe.data}): {', '.join(chosen)}; flags change each"


def _by_student(students: Iterable[StudentConfig], name: str) -> str:
    values = {student.arch: f"{getattr(student, name):g}" for student in students}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return " / ".join(f"{value} ({arch})" for arch, value in values.items())


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
    if drop is not None:
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
        for name in ("arch", "lr", "batch_size", "weight_decay")
        if getattr(was[student], name) != getattr(now[student], name)
    ]
