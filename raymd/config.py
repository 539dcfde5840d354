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

from raymd.data.names import AUGMENTATIONS, absolute_dataset, check_augment, check_dataset
from raymd.distillation.methods import METHODS, get_method
from raymd.errors import UserError, unknown_name
from raymd.fields import about, about_of, choices_of
from raymd.frozen import absolute_teacher, read_teachers
from raymd.models.names import absolute_source, check_name
from raymd.paths import absolute_path
from raymd.recipes import LrDrop, absolute_recipe, check_recipe
from raymd.student_options import OPTIONS, StudentOptions, read_students, student_ids
from raymd.teaching_options import TEACHING, TeachingOptions
from raymd.yaml_text import load_yaml

Resume = Literal["false", "true", "auto"]
Device = Literal["auto", "cpu", "cuda", "mps"]
View = Literal["auto", "live", "lines", "json", "none"]
Placement = Literal["auto", "resident", "sliced"]
OnStudentLoss = Literal["fail", "continue"]
EXAMPLE = "--students resnet18,resnet50"
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|st|steps?|e|epochs?)")
_YAML_HEADER = "# settings of a raymd run; null leaves the choice to the data set's recipe\n"


@dataclass(frozen=True, kw_only=True)
class FitConfig(StudentOptions, TeachingOptions):
    """What the user asks of a run; None leaves a setting to the data set's recipe.

    Every field is documented by its ``about``, which ``python -m raymd.fit --help`` prints. Values
    may be texts, as a flag brings them. The fields of StudentOptions are said here for all
    students, and in ``student`` for one; those of TeachingOptions hold for all.

    Raises:
        UserError: A value of the wrong type, outside its limits, or an unknown name; with the
            value received, what is allowed and the flag.
    """

    students: tuple[str, ...] = field(
        metadata=about(
            "networks to train together, with commas between: resnet18,resnet50; also"
            " timm:NAME and package.module:function"
        )
    )
    student: Mapping[str, StudentOptions] = field(
        default_factory=dict,
        metadata=about("options of single students: --student.resnet50.lr 0.05", read_apart=True),
    )
    teachers: tuple[str, ...] | None = field(
        default=None,
        metadata=about(
            "frozen teachers, NETWORK:RUN or NETWORK:FILE with commas between: the teachers of kd"
            " and kd-stored, members of the students' own teacher elsewhere"
        ),
    )
    dataset: str = field(
        default="digits",
        metadata=about(
            "digits, mnist, fashion_mnist, cifar10, cifar100, imagenet (with --data_dir), or your"
            " own: folder:DIR, parquet:DIR, arrow:DIR"
        ),
    )
    data_dir: str | None = field(
        default=None, metadata=about("folder where the data set is, or is downloaded to")
    )
    data_cache: str | None = field(
        default=None,
        metadata=about(
            "where each node keeps data of an object store; default: $RAYMD_DATA_CACHE, or"
            " ~/.cache/raymd/data"
        ),
    )
    image_size: int | None = field(
        default=None,
        metadata=about("side in pixels at which networks see the images", minimum=4, maximum=1024),
    )
    subset: int | None = field(
        default=None, metadata=about("use only so many of the training images", minimum=1)
    )
    augment: tuple[str, ...] | None = field(
        default=None,
        metadata=about(
            "what training images undergo; default: the data set's own", names=AUGMENTATIONS
        ),
    )
    mixup_alpha: float | None = field(
        default=None, metadata=about("of mixup's Beta distribution; default: 0.2", above=0)
    )
    recipe: str | None = field(
        default=None,
        metadata=about(
            "cifar, cifar-views, imagenet, digits, mnist, finetune, or FILE.yaml; default: by data"
        ),
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
    lr_drop: LrDrop | None = field(
        default=None,
        metadata=about(
            "the learning rate drops tenfold at 50 % and 75 % of all epochs, or each time at the"
            " next cycle's beginning"
        ),
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
    device: Device = field(
        default="auto", metadata=about("auto: a GPU if the cluster has one; mps: Apple's, one node")
    )
    cpus_per_worker: float | None = field(
        default=None, metadata=about("CPUs reserved for each training worker", above=0)
    )
    gpus_per_worker: float | None = field(
        default=None,
        metadata=about("GPUs reserved for each training worker; 0.5: two share one", minimum=0),
    )
    placement: Placement = field(
        default="auto",
        metadata=about(
            "resident: all students train at the same time; sliced: they take turns, any number of"
            " them; auto: resident if all fit. The weights are the same"
        ),
    )
    slots: int | None = field(
        default=None,
        metadata=about("train so many workers at a time; default: as many as fit", minimum=1),
    )
    wait_s: float | None = field(
        default=None,
        metadata=about(
            "wait at most so many seconds for other raymd jobs of the cluster; default: for ever",
            minimum=0,
        ),
    )
    on_student_loss: OnStudentLoss = field(
        default="fail",
        metadata=about("when a student fails for good: end the run, or go on with the others"),
    )
    barrier_timeout_s: float | None = field(
        default=None,
        metadata=about(
            "a student that keeps all others waiting for its soft labels so many seconds counts as"
            " lost; default: never",
            above=0,
        ),
    )
    checkpoint_every: str = field(
        default="60s",
        metadata=about("commit so often, and at each phase's end: 90s, 10m, 500steps, 1epoch"),
    )
    storage: str = field(default="runs", metadata=about("folder or URI that holds the runs"))
    name: str | None = field(
        default=None, metadata=about("the run's folder in the storage; default: a timestamped one")
    )
    resume: Resume = field(
        default="false",
        metadata=about(
            "go on with the named run, or with the latest one; auto: begin one if there is none"
        ),
    )
    address: str | None = field(
        default=None, metadata=about("Ray cluster to join; default: one on this machine")
    )
    view: View = field(
        default="auto",
        metadata=about("live in a terminal, else lines; json: one event a line; none: nothing"),
    )
    log: tuple[str, ...] | None = field(
        default=None,
        metadata=about("where else scalars go, beside TensorBoard's folder", names=("wandb",)),
    )
    verbose: bool = field(default=False, metadata=about("show the logs of Ray and the workers"))

    def __post_init__(self) -> None:
        super().__post_init__()
        ids = student_ids(self.students)
        object.__setattr__(self, "student", read_students(self.student, ids=ids))
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

    def options_of(self, student: str) -> dict[str, Any]:
        """What was said of a student, by itself or with all; its own options go over those."""
        own = self.student[student].said() if student in self.student else {}
        run = self.said()
        if own.get("init_from") is not None:
            run.pop("pretrained", None)
        if own.get("pretrained"):
            run.pop("init_from", None)
        return {**run, **own}

    def with_absolute_paths(self) -> Self:
        """The same for who stands in another folder, as whoever reads a run's config.yaml may."""

        def moved(source: str | None) -> str | None:
            return source and absolute_source(source)

        return dataclasses.replace(
            self,
            dataset=absolute_dataset(self.dataset),
            data_dir=self.data_dir and absolute_path(self.data_dir),
            data_cache=self.data_cache and absolute_path(self.data_cache),
            storage=absolute_path(self.storage),
            recipe=self.recipe and absolute_recipe(self.recipe),
            teachers=self.teachers and tuple(absolute_teacher(text) for text in self.teachers),
            init_from=moved(self.init_from),
            student={
                student: dataclasses.replace(options, init_from=moved(options.init_from))
                for student, options in self.student.items()
            },
        )

    def validate(self) -> None:
        """Check the names, and what limits alone cannot say; needs no data.

        Raises:
            UserError: With the value received, what is allowed and the flag.
        """
        for arch in self.students:
            check_name(arch)
        method = get_method(self.method)
        read_teachers(self.teachers or (), students=self.students)
        if method.is_cohort and self.on_student_loss == "continue":
            raise UserError(
                f"on_student_loss continue with method {self.method}: its students take every step"
                " together, so none can go on without another (--on_student_loss fail)"
            )
        if self.teacher == "stored" and method.source == "live":
            raise UserError(
                f"teacher stored: method {self.method} is taught live, and its stored variant has a"
                " name of its own (--method kd-stored)"
            )
        if self.recipe is not None:
            check_recipe(self.recipe)
        parse_checkpoint_every(self.checkpoint_every)
        self._validate_devices()
        check_dataset(self.dataset)
        if self.augment is not None:
            check_augment(self.augment)
        if self.name is not None and not _FOLDER_NAME.fullmatch(self.name):
            raise UserError(
                f"name {self.name!r}: takes a plain folder name of letters, digits, '.', '_' and"
                " '-' (--name; --storage takes the folder around it)"
            )

    def _validate_devices(self) -> None:
        gpus = self.gpus_per_worker
        if gpus and self.device in ("cpu", "mps"):
            raise UserError(
                f"gpus_per_worker {gpus:g} with device {self.device}: Ray counts CUDA's GPUs"
                " (--gpus_per_worker, --device)"
            )
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise UserError(
                f"gpus_per_worker {gpus:g}: takes a part of one GPU or a whole number of them"
                " (--gpus_per_worker)"
            )


@dataclass(frozen=True)
class CheckpointEvery:
    """How often a student commits beside the ends of phases; one of the three is set."""

    seconds: float | None = None
    steps: int | None = None
    epochs: int | None = None


def parse_checkpoint_every(text: str) -> CheckpointEvery:
    """Read ``--checkpoint_every``: a number with s, m, min, h, steps or epochs behind it.

    Raises:
        UserError: It is none, or zero; with examples.
    """
    match = _INTERVAL.fullmatch(text.strip().lower())
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    kind = "epochs" if unit.startswith("e") else "steps" if unit.startswith("st") else "seconds"
    if number <= 0 or (kind != "seconds" and number != int(number)):
        raise UserError(
            f"checkpoint_every {text!r}: takes a time or a number of steps or epochs, such as 90s,"
            " 10m, 1h, 500steps, 1epoch (--checkpoint_every)"
        )
    if kind == "seconds":
        return CheckpointEvery(seconds=number * {"s": 1, "m": 60, "h": 3600}[unit[0]])
    return CheckpointEvery(**{kind: int(number)})


def parse_yaml(text: str) -> dict[str, object]:
    """The settings that a YAML text names.

    Raises:
        UserError: Not YAML, or not a mapping of names to values.
    """
    try:
        settings = load_yaml(text)
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


def config_dict(config: FitConfig) -> dict[str, Any]:
    """All settings as plain values, what is said most first; single students' options as said."""
    values = {entry.name: getattr(config, entry.name) for entry in ordered_fields()}
    values["student"] = {student: options.said() for student, options in config.student.items()}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def ordered_fields() -> list["dataclasses.Field[Any]"]:
    """FitConfig's fields: its own, those of teaching, then those of single students."""
    groups = {**dict.fromkeys(TEACHING, 1), **dict.fromkeys(OPTIONS, 2)}
    return sorted(dataclasses.fields(FitConfig), key=lambda entry: groups.get(entry.name, 0))


def commented_yaml(config: FitConfig) -> str:
    """All settings as YAML, each below its documentation, as ``--print_config`` shows them."""
    parts = [_YAML_HEADER]
    for entry in ordered_fields():
        notes = [about_of(entry).help, about_of(entry).limits()]
        if choices_of(entry):
            notes.append(f"one of {', '.join(choices_of(entry))}")
        value = {entry.name: config_dict(config)[entry.name]}
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        parts.append(f"# {'; '.join(note for note in notes if note)}\n{text}")
    return "".join(parts)


def to_yaml(config: FitConfig) -> str:
    """All settings as YAML, in their order; from_yaml gives back an equal FitConfig."""
    settings = config_dict(config)
    return _YAML_HEADER + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
