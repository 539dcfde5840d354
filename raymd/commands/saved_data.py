"""The images that a finished run is evaluated on: its own, or others with the same classes.

Place on the data's way: after it. A run's record of its settings enters; a Prepared leaves, cut,
stored and normalised as in training, so that the run's own test images score what its result says.
"""

import sys
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from raymd.config import from_yaml
from raymd.data import load_dataset
from raymd.data.cache import usable
from raymd.data.dataset import AnySplit, Dataset
from raymd.data.splits import Prepared, prepare
from raymd.errors import UserError
from raymd.run_folder import CONFIG, model_record
from raymd.runs import IDENTITY
from raymd.settings import Settings
from raymd.storage import Storage
from raymd.training.student import prepare_for

PartName = Literal["test", "val", "train"]


@dataclass(frozen=True)
class Images:
    """What is evaluated on.

    Attributes:
        data: Cut as for the run.
        part: Which part of it.
        is_own: Whether it is the data that the run was trained and tested with.
    """

    data: Prepared
    part: PartName
    is_own: bool

    @property
    def split(self) -> AnySplit:
        """The part's images and labels."""
        split = {"test": self.data.test, "val": self.data.val, "train": self.data.train}[self.part]
        if split is None:
            raise UserError(f"{self.data.name}: nothing was held out, so there is no val (--part)")
        return split


def saved_identity(run: Storage) -> tuple[Settings, str]:
    """The settings that a run was begun with, and its data's fingerprint.

    Raises:
        UserError: no run, or one of another raymd version.
    """
    record = run.record(IDENTITY)
    if record is None:
        raise UserError(f"{run.uri} has no {IDENTITY}; is it a run's folder? (RUN)")
    return Settings.from_dict(record["settings"]), record["fingerprint"]


def own_images(
    run: Storage,
    *,
    part: PartName,
    data_dir: str | None = None,
    data_cache: str | None = None,
) -> Images:
    """The data set that the run was trained with.

    Args:
        run: The run.
        part: Which part is wanted.
        data_dir: Where the data set lies now; None: where it was.
        data_cache: Where data of an object store are kept; None: where the run kept them, if this
            machine can.

    Raises:
        UserError: nothing was held out and ``val`` is wanted, or the data are not the run's.
        DataError: they are gone.
    """
    settings, fingerprint = saved_identity(run)
    config = from_yaml(run.read(CONFIG).to_pybytes().decode())
    dataset = load_dataset(
        settings.dataset,
        data_dir=data_dir or config.data_dir,
        image_size=settings.image_size,
        subset=settings.subset,  # as many images as training had may fit where all of them do not
        seed=settings.seed,
        data_cache=data_cache or usable(config.data_cache),
        announce=_tell,
    )
    data = prepare_for(settings, dataset)
    if data.fingerprint != fingerprint:
        raise UserError(
            f"dataset {settings.dataset}: the images or labels are not those that {run.uri} was"
            " trained with, or large ones fitted in memory only then, or only now; name the folder"
            " that has those (--data_dir), evaluate where as much memory is free, or evaluate on"
            f" these as other data (--dataset {settings.dataset})"
        )
    return _checked(Images(data, part, is_own=True))


def other_images(
    run: Storage,
    spec: str,
    *,
    part: PartName,
    data_dir: str | None = None,
    data_cache: str | None = None,
) -> Images:
    """Another data set, whose classes are among the run's.

    Raises:
        UserError: a class that the run does not know, other channels, or ``val`` is wanted.
        DataError: files missing or damaged.
    """
    if part == "val":
        raise UserError("part 'val': only the run's own data have one (--part, --dataset)")
    settings, _ = saved_identity(run)
    model = _model_record(run, settings)
    dataset = load_dataset(
        spec,
        data_dir=data_dir,
        image_size=model["image_size"],
        data_cache=data_cache,
        announce=_tell,
    )
    channels = dataset.train.channels
    if channels != model["in_channels"]:
        raise UserError(
            f"dataset {spec}: images have {channels} channels, but the run's networks take"
            f" {model['in_channels']} (--dataset)"
        )
    relabelled = _relabelled(dataset, tuple(model["classes"]), spec=spec)
    data = prepare(relabelled, subset=None, val_fraction=0.0, seed=settings.seed)
    return _checked(Images(data, part, is_own=False))


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _checked(images: Images) -> Images:
    assert len(images.split)  # raises where there is no such part
    return images


def as_trained(data: Prepared, run: Storage, settings: Settings) -> Prepared:
    """The data with the mean and std that a run's networks were trained with.

    Raises:
        UserError: its networks take other images, or tell other classes apart.
    """
    model = _model_record(run, settings)
    if (tuple(model["classes"]), model["in_channels"], model["image_size"]) != (
        data.classes,
        data.train.channels,
        data.image_size,
    ):
        raise UserError(
            f"{run.uri} was trained on other classes, channels or image sizes than {data.name} has"
            f" ({model['image_size']} pixels, {len(model['classes'])} classes) (--baseline)"
        )
    return replace(data, mean=tuple(model["mean"]), std=tuple(model["std"]))


def _model_record(run: Storage, settings: Settings) -> dict[str, Any]:
    record = run.record(model_record(settings.students[0].id))
    if record is None:
        raise UserError(f"{run.uri} is not finished; `raymd fit --resume` goes on with it")
    return record


def _relabelled(dataset: Dataset, classes: tuple[str, ...], *, spec: str) -> Dataset:
    """The data set with labels 0..K-1 as the run has them, matched by the classes' names."""
    unknown = [name for name in dataset.classes if name not in classes]
    if unknown:
        raise UserError(
            f"dataset {spec}: class {unknown[0]!r} is none of the run's {len(classes)} classes"
            f" ({', '.join(classes[:5])}{', …' if len(classes) > 5 else ''}) (--dataset)"
        )
    ids_K = torch.tensor([classes.index(name) for name in dataset.classes])
    train, test = (part.relabelled(ids_K[part.labels]) for part in (dataset.train, dataset.test))
    return replace(dataset, train=train, test=test, classes=classes)
