"""The defaults of each kind of data: what FitConfig leaves open, a recipe decides.

Enters: a recipe's name or file, or the data set's name and image size, from settings.resolve.
Leaves: the recipe. Each lies in a YAML file beside this one, every number of which stands there
once; ``--recipe FILE.yaml`` takes one of your own with the same keys.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from raymd.errors import UserError, unknown_name
from raymd.models.names import FAMILIES, SMALL_IMAGE_MAX_PIXELS, family, has_batchnorm
from raymd.paths import absolute_path
from raymd.student_options import OPTIONS, StudentOptions
from raymd.teaching_options import TEACHING
from raymd.yaml_text import load_yaml

LrDrop = Literal["exact", "cycle"]

RUN_KEYS = ("epochs", "tin", "td", "lr_drop", "augment", "mixup_alpha", *TEACHING)
VARIANTS = ("without_batchnorm", "adamw", "trained_weights")
FILE_ENDINGS = (".yaml", ".yml")
FEW_SAMPLES = 20_000
MNIST_PIXELS = 28

# What every recipe says unless its file says otherwise; AdamW's rate is unlike SGD's, and trained
# weights would be lost at the rate that random ones need.
ADAMW = {"lr": 1e-3, "weight_decay": 0.05}
TRAINED_WEIGHTS = {"lr_times": 0.1}


@dataclass(frozen=True)
class Recipe:
    """Default settings for one kind of data.

    Attributes:
        name: As ``--recipe`` takes it.
        about: The data it is for, in words.
        run: Values of RUN_KEYS.
        student: Values of student options (student_options.py).
        by_family: Student options that replace those, by family of networks.
        without_batchnorm, adamw, trained_weights: Student options that replace those for networks
            without BatchNorm, under AdamW, and for networks that begin with trained weights, where
            ``lr_times`` multiplies the rate.
    """

    name: str
    about: str
    run: Mapping[str, Any]
    student: Mapping[str, Any]
    by_family: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    without_batchnorm: Mapping[str, Any] = field(default_factory=dict)
    adamw: Mapping[str, Any] = field(default_factory=lambda: ADAMW)
    trained_weights: Mapping[str, Any] = field(default_factory=lambda: TRAINED_WEIGHTS)

    def options(
        self, arch: str, *, optimizer: str | None = None, trained_weights: bool = False
    ) -> dict[str, Any]:
        """The student options for one network.

        Args:
            arch: The network's name.
            optimizer: As asked for; None: the recipe's.
            trained_weights: Whether it begins with trained weights.
        """
        options = {**self.student, **self.by_family.get(family(arch), {})}
        if not has_batchnorm(arch):
            options |= self.without_batchnorm
        if (optimizer or options.get("optimizer")) == "adamw":
            options |= self.adamw
        if trained_weights:
            options |= {k: v for k, v in self.trained_weights.items() if k != "lr_times"}
            options["lr"] *= self.trained_weights.get("lr_times", 1.0)
        return options


@cache
def known_recipes() -> tuple[str, ...]:
    """The names of the recipes in the package, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def check_recipe(name: str) -> None:
    """UserError unless it is a recipe's name or a readable file of one."""
    get_recipe(name)


def get_recipe(name: str) -> Recipe:
    """The recipe of a name or of a ``.yaml`` file.

    Raises:
        UserError: No such recipe, with the nearest name, or a file that holds none.
    """
    # a file is read each time: it may be another one by now, in a notebook
    if name.endswith(FILE_ENDINGS):
        return _read(Path(name).stem, _text_of(name), where=name)
    return _packaged(name)


@cache
def _packaged(name: str) -> Recipe:
    if name not in known_recipes():
        raise unknown_name("recipe", name, known_recipes(), flag="--recipe NAME or FILE.yaml")
    text = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    return _read(name, text, where=f"{name}.yaml")


def absolute_recipe(name: str) -> str:
    """The recipe's file, if it names one, as an absolute path."""
    return absolute_path(name) if name.endswith(FILE_ENDINGS) else name


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not a text file"
        raise UserError(f"{path}: {reason} (--recipe)") from error


def _read(name: str, text: str, *, where: str) -> Recipe:
    try:
        values = load_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {' '.join(str(error).split())} (--recipe)") from error
    if not isinstance(values, dict):
        raise UserError(f"{where}: a recipe has lines like 'lr: 0.1' (--recipe)")
    _check_keys(values, {"about", "by_family", *RUN_KEYS, *VARIANTS, *OPTIONS}, where)
    for key in ("epochs", "tin", "td", "lr", "batch_size"):
        if values.get(key) is None:
            raise UserError(f"{where}: a recipe says {key}, and this one does not (--recipe)")
    variants = {key: _options(values[key], where, key=key) for key in VARIANTS if key in values}
    families = _dict(values.get("by_family", {}), where, key="by_family")
    _check_keys(families, {*FAMILIES}, where)
    families = {name: _options(options, where, key=name) for name, options in families.items()}
    return Recipe(
        name=name,
        about=str(values.get("about", where)),
        run={key: values[key] for key in RUN_KEYS if key in values},
        student=_options({k: values[k] for k in OPTIONS if k in values}, where, key="student"),
        by_family=families,
        **variants,
    )


def _dict(values: Any, where: str, *, key: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UserError(f"{where}: {key} {values!r}: takes options (--recipe)")
    return values


def _options(values: Any, where: str, *, key: str) -> dict[str, Any]:
    """Options in their types: YAML takes 1e-4 for a text."""
    factor = {"lr_times"} if key == "trained_weights" else set[str]()
    _check_keys(_dict(values, where, key=key), {*OPTIONS} | factor, where)
    try:
        options = {key: value for key, value in values.items() if key != "lr_times"}
        times = {"lr_times": _factor(values["lr_times"])} if "lr_times" in values else {}
        return StudentOptions(**options).said() | times
    except (TypeError, ValueError) as error:  # a UserError is a ValueError
        raise UserError(f"{where}: {error} (--recipe)") from error


def _factor(value: Any) -> float:
    factor = float(value)
    if not 0 < factor < math.inf:
        raise ValueError(f"lr_times {value!r}: takes a number, above 0")
    return factor


def _check_keys(values: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise unknown_name("setting", str(key), known, flag=f"{where}, --recipe")


def recipe_for(dataset: str, *, image_size: int) -> Recipe:
    """The recipe for a data set.

    Args:
        dataset: As ``--dataset`` names it, with its argument if it has one ("parquet:DIR").
        image_size: The side in pixels at which networks see its images.
    """
    name = dataset.partition(":")[0]
    if name in ("digits", "mnist"):
        return get_recipe(name)
    if name.endswith("mnist") and image_size == MNIST_PIXELS:
        return get_recipe("mnist")
    return get_recipe("cifar" if image_size <= SMALL_IMAGE_MAX_PIXELS else "imagenet")


def default_val_fraction(num_samples: int) -> float:
    """The part of the training images held out to measure v_i (Eq. 8) and to pick the best.

    Args:
        num_samples: Training images, after ``--subset``.
    """
    return 0.1 if num_samples < FEW_SAMPLES else 0.02
