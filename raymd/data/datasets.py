"""The registry of data sets.

Place on the data's way: its start. A spec such as "cifar10" enters, a Dataset of uint8 images
leaves, for splits.prepare. Images in files are read by folder.py and tables.py; anything else needs
one decorated function:

    @register_dataset("mine")
    def load(*, data_dir: Path | None, argument: str, image_size: int | None) -> Dataset:
        train = Split.from_arrays(pixels_NHWC, labels_N)
        return Dataset("mine", train, test, classes=("cat", "dog"), mean=..., std=...)

    N images   H height   W width   C channels
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from raymd.data.augment import augmentation_for
from raymd.data.dataset import AnySplit, Dataset, Split
from raymd.data.names import add_name, check_dataset
from raymd.data.remote import Announce, Origin, made_local, silent
from raymd.errors import UserError
from raymd.secrets import without_secrets

NUM_DIGITS_TEST = 360
DIGITS_MEAN, DIGITS_STD = (0.3052,), (0.3759,)
MIN_SIDE, MAX_SIDE = 4, 1024
RESIZED_AT_ONCE = 4096


class Loader(Protocol):
    """What ``register_dataset`` decorates.

    ``data_dir`` and ``image_size`` are the settings of these names; ``argument`` is what stands
    behind the spec's colon. A loader may leave ``image_size`` alone, as most do: ``load_dataset``
    brings what it returns to that size. One registered with ``cuts`` also takes ``subset`` and
    ``seed``.
    """

    def __call__(
        self, *, data_dir: Path | None, argument: str, image_size: int | None
    ) -> Dataset: ...


LoaderT = TypeVar("LoaderT", bound=Callable[..., Dataset])

_LOADERS: dict[str, Callable[..., Dataset]] = {}
_CUTTING: set[str] = set()


def register_dataset(
    name: str, *, argument: str = "", cuts: bool = False
) -> Callable[[LoaderT], LoaderT]:
    """Decorator that makes a loader known as ``--dataset name``.

    Args:
        name: Without a colon.
        argument: What has to follow the name's colon, as in "DIR"; "" if nothing may.
        cuts: Whether the loader takes ``subset`` and ``seed``, to read no more training images
            than ``splits.prepare`` will keep.

    Raises:
        UserError: another loader has that name, or the name is malformed.
    """

    def register(load: LoaderT) -> LoaderT:
        taken = _LOADERS.get(name)
        if taken is not None and _place(taken) != _place(load):
            raise UserError(f"data set {name!r} is already registered by {_place(taken)}")
        add_name(name, argument=argument)
        _LOADERS[name] = load
        (_CUTTING.add if cuts else _CUTTING.discard)(name)
        return load

    return register


def _place(load: Callable[..., Dataset]) -> str:
    # Not identity: running a notebook cell or reloading a module again registers a new object.
    return f"{getattr(load, '__module__', '')}.{getattr(load, '__qualname__', repr(load))}"


def load_dataset(
    spec: str,
    *,
    data_dir: Path | str | None = None,
    image_size: int | None = None,
    subset: int | None = None,
    seed: int = 0,
    data_cache: str | None = None,
    announce: Announce = silent,
) -> Dataset:
    """The data set of a spec: ``digits``, ``cifar10``, ``folder:DIR``, or your own.

    Args:
        spec: A registered name, then ":" and its argument if it takes one.
        data_dir: Folder where files are, or are downloaded to; relative ones belong to the
            calling process, so resolve them before handing them to a Ray worker. A URI, here or
            in the spec, is fetched into this node's cache first (remote.py).
        image_size: The side in pixels that networks see; None: the images' own, or what suits
            images of many sizes.
        subset, seed: The run's, for ``prepare`` too. Images in files beyond the subset are not
            decoded; other data sets come whole.
        data_cache: Where each node keeps what it fetches; None: RAYMD_DATA_CACHE, or a folder of
            the user's.
        announce: Takes lines of what is fetched.

    Raises:
        UserError: unknown name, an argument too few or too many, or a size out of range.
        DataError: files missing or damaged.
    """
    name, argument = check_dataset(spec)
    if image_size is not None and not MIN_SIDE <= image_size <= MAX_SIDE:
        limits = f"allowed are {MIN_SIDE} to {MAX_SIDE} pixels"
        raise UserError(f"image_size {image_size}: {limits} (--image_size)")
    cut = {"subset": subset, "seed": seed} if name in _CUTTING else {}
    here = made_local(spec, data_dir, cache=data_cache, announce=announce)
    dataset = _LOADERS[name](
        data_dir=here.data_dir, argument=here.argument, image_size=image_size, **cut
    )
    if here.origin is not None:
        dataset = _fetched(dataset, here.origin, argument and f"{name}:{argument}")
    return dataset if image_size is None else at_size(dataset, image_size=image_size)


def _fetched(dataset: Dataset, origin: Origin, spec: str) -> Dataset:
    """The same under the name of where it came from; other nodes fetch what stays encoded too."""
    from raymd.data.encoded import EncodedSplit  # 0.1 s, and most data need none

    train, test = (
        replace(part, origin=origin) if isinstance(part, EncodedSplit) else part
        for part in (dataset.train, dataset.test)
    )
    name = without_secrets(spec) or dataset.name
    return replace(dataset, name=name, train=train, test=test)


def at_size(dataset: Dataset, *, image_size: int) -> Dataset:
    """The data set as networks of another input size see it.

    Squares up to that size stay as they are and are scaled up batch by batch; others are resized
    now.
    """
    if dataset.image_size == image_size:
        return dataset
    height, width = dataset.train.stored_size
    note = f"images of {width}x{height} pixels are shown as {image_size}x{image_size}"
    notes = (*dataset.notes, note)
    if height == width <= image_size:
        return replace(dataset, image_size=image_size, notes=notes)
    usual = augmentation_for(side=image_size, is_grey=dataset.is_grey)
    return replace(
        dataset,
        train=_resized(dataset.train, image_size),
        test=_resized(dataset.test, image_size),
        augmentation=usual if dataset.augmentation.pad else dataset.augmentation,
        image_size=image_size,
        notes=notes,
    )


def _resized(split: AnySplit, side: int) -> Split:
    assert isinstance(split, Split), "images that stay encoded are loaded at the size asked for"
    resized = torch.cat(
        [
            F.interpolate(chunk, size=(side, side), mode="bilinear", antialias=True)
            for chunk in split.images.split(RESIZED_AT_ONCE)
        ]
    )
    return Split(resized.contiguous(memory_format=torch.channels_last), split.labels)


@register_dataset("digits")
def load_digits(**_: Any) -> Dataset:
    """scikit-learn's 1,797 grey 8x8 digits, 1,437 to train and 360 to test; never downloads."""
    from sklearn.datasets import load_digits as read

    from raymd.data.splits import stratified_ids

    bunch = read()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # 0..16 in the original
    everything = Split.from_arrays(pixels, bunch.target)
    # Seed 0 whatever the run's seed: all runs share one test set.
    test_ids = stratified_ids(everything.labels, size=NUM_DIGITS_TEST, seed=0)
    is_train = torch.ones(len(everything), dtype=torch.bool).index_fill_(0, test_ids, False)
    return Dataset(
        name="digits",
        train=everything.rows(is_train.nonzero().flatten()),
        test=everything.rows(test_ids),
        classes=tuple(str(digit) for digit in range(10)),
        mean=DIGITS_MEAN,
        std=DIGITS_STD,
    )


def _register_torchvision(name: str) -> None:
    @register_dataset(name)
    def load(*, data_dir: Path | None, **_: Any) -> Dataset:
        from raymd.data.downloads import load_torchvision

        return load_torchvision(name, root=data_dir or Path("data"))


for _name in ("mnist", "fashion_mnist", "cifar10", "cifar100"):
    _register_torchvision(_name)


@register_dataset("imagenet", cuts=True)
def load_imagenet(*, data_dir: Path | None, argument: str, **cut: Any) -> Dataset:  # noqa: ARG001
    """ImageNet, decoded batch by batch; see imagenet.py."""
    from raymd.data import imagenet

    return imagenet.load_imagenet(data_dir, **cut)


@register_dataset("folder", argument="DIR", cuts=True)
def load_folder(*, data_dir: Path | None, argument: str, **cut: Any) -> Dataset:  # noqa: ARG001
    """Images of your own, a folder for each class; see folder.py."""
    from raymd.data import folder

    return folder.load_folder(Path(argument), **cut)


@register_dataset("parquet", argument="DIR", cuts=True)
def load_parquet(*, data_dir: Path | None, argument: str, **cut: Any) -> Dataset:  # noqa: ARG001
    """Images of your own in parquet files, as on the Hugging Face hub; see tables.py."""
    from raymd.data import tables

    return tables.load_tables(Path(argument), suffix="parquet", **cut)


@register_dataset("arrow", argument="DIR", cuts=True)
def load_arrow(*, data_dir: Path | None, argument: str, **cut: Any) -> Dataset:  # noqa: ARG001
    """Images of your own in Arrow files, as ``save_to_disk`` writes them; see tables.py."""
    from raymd.data import tables

    return tables.load_tables(Path(argument), suffix="arrow", **cut)
