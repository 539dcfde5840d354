"""What the user said, and what a run makes of it; everything is checked here, before Ray starts.

    flags, YAML, Python -> FitConfig -> resolve(), with the data's size and recipe -> Settings

FitConfig keeps None where the user left the choice to the recipe; settings.py closes what it left
open.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import yaml

from raymd.data.names import check_dataset
from raymd.distillation.methods import METHODS, get_method
from raymd.errors import UserError, unknown_name
from raymd.fields import about, read
from raymd.models.names import known_models
from raymd.recipes import LrDrop, Precision

EXAMPLE = "--students resnet18,resnet50"
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_YAML_HEADER = "# settings of a raymd run; null leaves the choice to the data set's recipe\n"


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What the user asks of a run; None leaves a setting to the data set's recipe.

    Every field is documented by its ``about``, which ``python -m raymd.fit --help`` prints. Values
    may be texts, as a flag brings them.

    Raises:
        UserError: A value of the wrong type, outside its limits, or an unknown name; with the
            value received, what is allowed and the flag.
    """

    students: tuple[str, ...] = field(
        metadata=about(f"networks to train together, with commas between: {EXAMPLE}")
    )
    dataset: str = field(
        default="digits",
        metadata=about("digits, cifar10, cifar100, or parquet:DIR for data of your own"),
    )
    data_dir: str | None = field(
        default=None, metadata=about("folder where the data set is, or is downloaded to")
    )
    subset: int | None = field(
        default=None, metadata=about("use only so many of the training images", minimum=1)
    )
    method: str = field(
        default="md",
        metadata=about(
            f"one of {', '.join(METHODS)}; md has gradual loss weights (Eq. 11), fmd fixed ones"
        ),
    )
    epochs: int | None = field(
        default=None, metadata=about("the whole budget; cycles follow from it", minimum=1)
    )
    tin: int | None = field(
        default=None, metadata=about("epochs of a cycle's independent phase", minimum=1)
    )
    td: int | None = field(
        default=None, metadata=about("epochs of a cycle's distillation phase", minimum=1)
    )
    t: float = field(default=3.0, metadata=about("temperature of the soft labels", above=0))
    kl_scale: Literal["t2", "none"] = field(
        default="t2", metadata=about("multiply the KL by t squared, or not (Eq. 9 to the letter)")
    )
    lr: float | None = field(
        default=None, metadata=about("learning rate of every student at the start", above=0)
    )
    lr_drop: LrDrop | None = field(
        default=None,
        metadata=about(
            "the learning rate drops tenfold at 50 % and 75 % of all epochs, or each time at the"
            " next cycle's beginning"
        ),
    )
    batch_size: int | None = field(
        default=None, metadata=about("images a step, over all workers of a student", minimum=1)
    )
    weight_decay: float | None = field(
        default=None, metadata=about("SGD's, for every student", minimum=0)
    )
    momentum: float = field(default=0.9, metadata=about("SGD's", minimum=0, below=1))
    precision: Precision | None = field(
        default=None, metadata=about("arithmetic of forward and backward; weights stay fp32")
    )
    val_fraction: float | None = field(
        default=None,
        metadata=about(
            "part of the training images held out to weigh the students (Eq. 8) and to pick the"
            " best; 0: training accuracy weighs them",
            minimum=0,
            below=1,
        ),
    )
    seed: int = field(
        default=0, metadata=about("of every random draw of the run", minimum=0, below=10**9)
    )
    cpus_per_worker: float | None = field(
        default=None, metadata=about("CPUs reserved for each training worker", above=0)
    )
    gpus_per_worker: float | None = field(
        default=None,
        metadata=about("GPUs reserved for each training worker; 0.5: two share one", minimum=0),
    )
    storage: str = field(default="runs", metadata=about("folder or URI that holds the runs"))
    name: str | None = field(
        default=None, metadata=about("the run's folder in the storage; default: a timestamped one")
    )
    resume: bool = field(
        default=False, metadata=about("go on with the named run, or with the latest one")
    )
    address: str | None = field(
        default=None, metadata=about("Ray cluster to join; default: one on this machine")
    )
    verbose: bool = field(default=False, metadata=about("show the logs of Ray and the workers"))

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            object.__setattr__(self, entry.name, read(entry, getattr(self, entry.name)))
        self.validate()

    @classmethod
    def from_mapping(cls, settings: Mapping[str, object]) -> Self:
        """The configuration that names these settings and no others.

        Raises:
            UserError: An unknown setting, no students, or a wrong value.
        """
        known = [entry.name for entry in dataclasses.fields(cls)]
        for key in settings:
            if key not in known:
                raise unknown_name("setting", str(key), known, flag="--help lists all")
        if settings.get("students") is None:
            raise UserError(f"no students given: which networks shall be trained, as in {EXAMPLE}")
        arguments: dict[str, Any] = dict(settings)
        return cls(**arguments)

    def validate(self) -> None:
        """Check the names, and what limits alone cannot say; needs no data.

        Raises:
            UserError: With the value received, what is allowed and the flag.
        """
        for arch in self.students:
            if arch not in known_models():
                raise unknown_name("network", arch, known_models(), flag="--students")
        get_method(self.method)
        check_dataset(self.dataset)
        if self.name is not None and not _FOLDER_NAME.fullmatch(self.name):
            raise UserError(
                f"name {self.name!r}: takes a plain folder name of letters, digits, '.', '_' and"
                " '-' (--name; --storage takes the folder around it)"
            )
        gpus = self.gpus_per_worker
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise UserError(
                f"gpus_per_worker {gpus:g}: takes a part of one GPU or a whole number of them"
                " (--gpus_per_worker)"
            )


def parse_yaml(text: str) -> dict[str, object]:
    """The settings that a YAML text names.

    Raises:
        UserError: Not YAML, or not a mapping of names to values.
    """
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {' '.join(str(error).split())} (--config)") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise UserError(
            f"a configuration has lines like 't: 3.0', not {text.strip()[:40]!r} (--config)"
        )
    return settings


def from_yaml(text: str) -> FitConfig:
    """The configuration that a YAML text holds; UserError for a wrong one."""
    return FitConfig.from_mapping(parse_yaml(text))


def to_yaml(config: FitConfig) -> str:
    """All settings as YAML, in their order; from_yaml gives back an equal FitConfig."""
    settings = dataclasses.asdict(config) | {"students": list(config.students)}
    return _YAML_HEADER + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
