"""FitConfig to Settings: what the user left open is filled in from the recipe.

FitConfig, the data's size -> Settings, announcements
"""

import dataclasses
from typing import Any, TypeVar

from raymd.announcements import announcements
from raymd.config import FitConfig
from raymd.distillation.methods import get_method
from raymd.frozen import read_teachers
from raymd.models.names import absolute_source
from raymd.recipes import Recipe, default_val_fraction, get_recipe, recipe_for
from raymd.settings import DEFAULT_MIXUP_ALPHA, Settings, StudentConfig
from raymd.student_options import student_ids
from raymd.teaching_options import TEACHING

T = TypeVar("T")


def _either(said: T | None, default: T) -> T:
    return default if said is None else said


def resolve(config: FitConfig, *, num_train: int, image_size: int) -> tuple[Settings, list[str]]:
    """Fill in what the user left open, from the recipe.

    Args:
        config: What the user said.
        num_train: Training images of the data set (a larger count than ``subset`` is cut to it).
        image_size: The side in pixels at which networks see them.

    Returns:
        The settings, and an announcement of one line for each choice worth knowing.

    Raises:
        UserError: Options that do not go together.
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
        teachers=read_teachers(config.teachers or (), students=config.students),
        **_teaching(config),
    )
    settings.check()
    return settings, announcements(said, settings, recipe, num_samples=num_samples)


def _teaching(config: FitConfig) -> dict[str, Any]:
    """What was said of teaching, by the user or the recipe; weights are the method's own if not."""
    said = {name: getattr(config, name) for name in TEACHING}
    said["weights"] = said["weights"] or get_method(config.method).weights
    return {name: value for name, value in said.items() if value is not None}


def _students(config: FitConfig, recipe: Recipe) -> tuple[StudentConfig, ...]:
    ids = student_ids(config.students)
    return tuple(
        _student(config, recipe, student_id, arch)
        for student_id, arch in zip(ids, config.students, strict=True)
    )


def _student(config: FitConfig, recipe: Recipe, student_id: str, arch: str) -> StudentConfig:
    """One student's options: its own over the run's over the recipe's over the defaults."""
    said = config.options_of(student_id)
    if said.get("init_from") is not None:
        said["init_from"] = absolute_source(said["init_from"])
    options = recipe.options(
        arch,
        optimizer=said.get("optimizer"),
        trained_weights=bool(said.get("pretrained") or said.get("init_from")),
    )
    if said.get("init_from") is not None:
        options.pop("pretrained", None)  # a recipe may say so, and a student begins with one only
    return StudentConfig(id=student_id, arch=arch, **{**options, **said})
