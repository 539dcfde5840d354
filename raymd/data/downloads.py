"""MNIST, Fashion-MNIST and CIFAR through torchvision, downloaded where they are missing.

Place on the data's way: loaders of datasets.py; a name enters, a Dataset leaves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from raymd.data.augment import Augmentation
from raymd.data.dataset import CIFAR_AUGMENTATION, CIFAR_MEAN, CIFAR_STD, Dataset, Split
from raymd.errors import DataError


@dataclass(frozen=True)
class Kind:
    """A data set of torchvision: its class's name, and how its pixels are treated."""

    reader: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation


KINDS = {
    "mnist": Kind("MNIST", (0.1307,), (0.3081,), Augmentation(pad=2)),
    "fashion_mnist": Kind("FashionMNIST", (0.2860,), (0.3530,), Augmentation(pad=2, flip=True)),
    "cifar10": Kind("CIFAR10", CIFAR_MEAN, CIFAR_STD, CIFAR_AUGMENTATION),
    "cifar100": Kind("CIFAR100", CIFAR_MEAN, CIFAR_STD, CIFAR_AUGMENTATION),
}


class TorchvisionPart(Protocol):
    """What is used of torchvision's data sets; arrays or tensors."""

    data: Any
    targets: Any
    classes: Sequence[str]


def load_torchvision(name: str, *, root: Path) -> Dataset:
    """One of KINDS, from ``root`` or downloaded to it.

    Raises:
        DataError: neither there nor to be had.
    """
    kind = KINDS[name]
    parts = [_open(kind.reader, root=root, train=train) for train in (True, False)]
    train, test = (
        Split.from_arrays(np.asarray(part.data), np.asarray(part.targets)) for part in parts
    )
    classes = tuple(parts[0].classes)
    return Dataset(name, train, test, classes, kind.mean, kind.std, kind.augmentation)


def _open(kind: str, *, root: Path, train: bool) -> TorchvisionPart:
    import torchvision
    from filelock import FileLock

    reader: Callable[..., TorchvisionPart] = getattr(torchvision.datasets, kind)
    try:
        return reader(root=str(root), train=train, download=False)
    except RuntimeError:  # torchvision's "not found or corrupted"
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Several workers of one machine may get here at once and would write the same archive.
        with FileLock(root / f".{kind}.lock"):
            return reader(root=str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{kind} is not in {root.absolute()} and could not be downloaded ({error}). Put "
            f"torchvision's unpacked files there, name their folder with --data_dir, or take "
            f"images of your own: --dataset folder:DIR, parquet:DIR or arrow:DIR"
        ) from error
