"""MNIST and Fashion-MNIST through torchvision, CIFAR by cifar.py; downloaded where missing.

Place on the data's way: loaders of datasets.py; a name enters, a Dataset leaves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from raymd.data.augment import Augmentation
from raymd.data.cifar import Part, open_cifar
from raymd.data.dataset import CIFAR_AUGMENTATION, CIFAR_MEAN, CIFAR_STD, Dataset, Split
from raymd.errors import DataError


def _torchvision(reader: str) -> Callable[..., Part]:
    def open_part(*, root: Path, train: bool, download: bool) -> Part:
        import torchvision

        part = getattr(torchvision.datasets, reader)(root=root, train=train, download=download)
        return Part(np.asarray(part.data), np.asarray(part.targets), tuple(part.classes))

    return open_part


@dataclass(frozen=True)
class Kind:
    """A data set that can be downloaded: what opens a part, and how its pixels are treated."""

    open_part: Callable[..., Part]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation


KINDS = {
    "mnist": Kind(_torchvision("MNIST"), (0.1307,), (0.3081,), Augmentation(pad=2)),
    "fashion_mnist": Kind(
        _torchvision("FashionMNIST"), (0.2860,), (0.3530,), Augmentation(pad=2, flip=True)
    ),
    "cifar10": Kind(partial(open_cifar, "CIFAR10"), CIFAR_MEAN, CIFAR_STD, CIFAR_AUGMENTATION),
    "cifar100": Kind(partial(open_cifar, "CIFAR100"), CIFAR_MEAN, CIFAR_STD, CIFAR_AUGMENTATION),
}


def load_torchvision(name: str, *, root: Path) -> Dataset:
    """One of KINDS, from ``root`` or downloaded to it.

    Raises:
        DataError: neither there nor to be had, or damaged.
    """
    kind = KINDS[name]
    parts = [_open(name, root=root, train=train) for train in (True, False)]
    train, test = (Split.from_arrays(part.data, part.targets) for part in parts)
    return Dataset(name, train, test, parts[0].classes, kind.mean, kind.std, kind.augmentation)


def _open(name: str, *, root: Path, train: bool) -> Part:
    from filelock import FileLock

    open_part = KINDS[name].open_part
    try:
        return open_part(root=root, train=train, download=False)
    except RuntimeError:  # torchvision's "not found or corrupted", and cifar.py's
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Several workers of one machine may get here at once and would write the same archive.
        with FileLock(root / f".{name}.lock"):
            return open_part(root=root, train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name} is not in {root.absolute()}, or not all of it, and could not be downloaded"
            f" ({error}). Put its unpacked files there, name their folder with --data_dir, or take"
            f" images of your own: --dataset folder:DIR, parquet:DIR or arrow:DIR"
        ) from error
