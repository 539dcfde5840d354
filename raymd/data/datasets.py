"""The registry of data sets, and the loaders of digits, CIFAR-10 and CIFAR-100.

Place on the data's way: its start. A spec such as "cifar10" enters, a Dataset of uint8 images
leaves, for splits.prepare. Data of your own need one decorated function:

    @register_dataset("mine")
    def load(*, data_dir: Path | None, argument: str) -> Dataset:
        train = Split.from_arrays(pixels_NHWC, labels_N)
        return Dataset("mine", train, test, classes=("cat", "dog"), mean=..., std=...)

    N images   H height   W width   C channels
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from raymd.data.dataset import CIFAR_AUGMENTATION, CIFAR_MEAN, CIFAR_STD, Dataset, Split
from raymd.data.names import add_name, check_dataset
from raymd.errors import DataError, UserError

NUM_DIGITS_TEST = 360
DIGITS_MEAN, DIGITS_STD = (0.3052,), (0.3759,)


class Loader(Protocol):
    """What ``register_dataset`` decorates.

    ``data_dir`` is the setting of that name; ``argument`` is what stands behind the spec's colon.
    """

    def __call__(self, *, data_dir: Path | None, argument: str) -> Dataset: ...


LoaderT = TypeVar("LoaderT", bound=Loader)

_LOADERS: dict[str, Loader] = {}


def register_dataset(name: str, *, argument: str = "") -> Callable[[LoaderT], LoaderT]:
    """Decorator that makes a loader known as ``--dataset name``.

    Args:
        name: Without a colon.
        argument: What has to follow the name's colon, as in "DIR"; "" if nothing may.

    Raises:
        UserError: another loader has that name, or the name is malformed.
    """

    def register(load: LoaderT) -> LoaderT:
        taken = _LOADERS.get(name)
        if taken is not None and _place(taken) != _place(load):
            raise UserError(f"data set {name!r} is already registered by {_place(taken)}")
        add_name(name, argument=argument)
        _LOADERS[name] = load
        return load

    return register


def _place(load: Loader) -> str:
    # Not identity: running a notebook cell or reloading a module again registers a new object.
    return f"{getattr(load, '__module__', '')}.{getattr(load, '__qualname__', repr(load))}"


def load_dataset(spec: str, *, data_dir: Path | str | None = None) -> Dataset:
    """The data set of a spec: ``digits``, ``cifar10``, ``cifar100``, ``parquet:DIR``, or your own.

    Args:
        spec: A registered name, then ":" and its argument if it takes one.
        data_dir: Folder where files are, or are downloaded to; relative ones belong to the
            calling process, so resolve them before handing them to a Ray worker.

    Raises:
        UserError: unknown name, or an argument too few or too many.
        DataError: files missing or damaged.
    """
    name, argument = check_dataset(spec)
    return _LOADERS[name](data_dir=Path(data_dir) if data_dir else None, argument=argument)


@register_dataset("digits")
def load_digits(*, data_dir: Path | None, argument: str) -> Dataset:  # noqa: ARG001
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


@register_dataset("cifar10")
def load_cifar10(*, data_dir: Path | None, argument: str) -> Dataset:  # noqa: ARG001
    """CIFAR-10 from torchvision: 50,000 + 10,000 images, downloaded when not there."""
    return _load_cifar("CIFAR10", root=data_dir or Path("data"))


@register_dataset("cifar100")
def load_cifar100(*, data_dir: Path | None, argument: str) -> Dataset:  # noqa: ARG001
    """CIFAR-100 from torchvision: 50,000 + 10,000 images, downloaded when not there."""
    return _load_cifar("CIFAR100", root=data_dir or Path("data"))


@register_dataset("parquet", argument="DIR")
def load_parquet(*, data_dir: Path | None, argument: str) -> Dataset:  # noqa: ARG001
    """Images of your own from DIR/train.parquet and DIR/test.parquet; see parquet.py."""
    from raymd.data.parquet import read_folder

    return read_folder(Path(argument))


class CifarPart(Protocol):
    """What is used of torchvision's data sets."""

    data: np.ndarray
    targets: list[int]
    classes: list[str]


def _load_cifar(kind: str, *, root: Path) -> Dataset:
    parts = [_open_cifar(kind, root=root, train=train) for train in (True, False)]
    train, test = (Split.from_arrays(part.data, np.asarray(part.targets)) for part in parts)
    classes = tuple(parts[0].classes)
    name = kind.lower()
    return Dataset(name, train, test, classes, CIFAR_MEAN, CIFAR_STD, CIFAR_AUGMENTATION)


def _open_cifar(kind: str, *, root: Path, train: bool) -> CifarPart:
    import torchvision
    from filelock import FileLock

    reader: Callable[..., CifarPart] = getattr(torchvision.datasets, kind)
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
            f"--dataset parquet:DIR with DIR/train.parquet and DIR/test.parquet"
        ) from error
