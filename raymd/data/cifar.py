"""CIFAR-10 and CIFAR-100 from their authors' files, of which none can make the reader run code.

Place on the data's way: opened by downloads.py; a folder enters, pixels, labels and class names
leave. torchvision's readers download pickles and unpickle them, so these download the binary
version instead. The Python version, which many machines have, is read where it is there: as
arrays, and nothing else. Both hold the same images in the same order, so that a run's fingerprint
does not tell which one was read.

    N images   H height   W width   C channels
"""

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raymd.errors import DataError

IMAGE_SHAPE = (3, 32, 32)  # as both versions store it
PIXEL_BYTES = 3 * 32 * 32
_HOST = "https://www.cs.toronto.edu/~kriz"


@dataclass(frozen=True)
class Part:
    """The training or the test part of a data set.

    Attributes:
        data: uint8 [N, H, W, C] or [N, H, W].
        targets: Integers [N].
        classes: Name of class k at position k.
    """

    data: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Binary:
    """The binary version: records of label bytes, the last of which is the class, then pixels.

    Attributes:
        url, md5: The archive's.
        folder: What the archive unpacks to.
        train, test: Each file of the part, in order, with its number of images.
        classes: The file with the classes' names, one a line.
        label_bytes: In front of each image.
    """

    url: str
    md5: str
    folder: str
    train: Mapping[str, int]
    test: Mapping[str, int]
    classes: str
    label_bytes: int

    def is_whole(self, root: Path, *, train: bool) -> bool:
        """Whether all files of the part are there, of the size that they must have."""
        folder, record = root / self.folder, self.label_bytes + PIXEL_BYTES
        files = self.train if train else self.test
        return (folder / self.classes).is_file() and all(
            (folder / file).is_file() and (folder / file).stat().st_size == images * record
            for file, images in files.items()
        )

    def read(self, root: Path, *, train: bool) -> Part:
        """The part, of which all files are whole."""
        folder, record = root / self.folder, self.label_bytes + PIXEL_BYTES
        files = [folder / file for file in (self.train if train else self.test)]
        content = np.concatenate([np.fromfile(file, np.uint8) for file in files])
        records = content.reshape(-1, record)
        pixels, labels = records[:, self.label_bytes :], records[:, self.label_bytes - 1]
        names = (folder / self.classes).read_text(encoding="ascii").split()
        return Part(_as_images(pixels), labels, tuple(names))


# by the names that torchvision gives to the Python version
BINARY = {
    "CIFAR10": Binary(
        url=f"{_HOST}/cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        train={f"data_batch_{number}.bin": 10_000 for number in range(1, 6)},
        test={"test_batch.bin": 10_000},
        classes="batches.meta.txt",
        label_bytes=1,
    ),
    "CIFAR100": Binary(
        url=f"{_HOST}/cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        train={"train.bin": 50_000},
        test={"test.bin": 10_000},
        classes="fine_label_names.txt",
        label_bytes=2,  # the coarse class stands first
    ),
}


def open_cifar(name: str, *, root: Path, train: bool, download: bool) -> Part:
    """One part of CIFAR10 or CIFAR100, in the version that is there, or else downloaded.

    Raises:
        RuntimeError: not there as a whole; after a download, it is not what it should be.
        OSError: it could not be downloaded.
        DataError: a file of the Python version is damaged, or asks for more than arrays.
    """
    import torchvision
    from torchvision.datasets.utils import download_and_extract_archive

    binary, python = BINARY[name], getattr(torchvision.datasets, name)
    if not binary.is_whole(root, train=train):
        files = _python_files(python, root=root, train=train)
        if all(file.is_file() for file in files):
            return _read_python(files, names=python.meta["key"])
        if download:
            download_and_extract_archive(binary.url, str(root), md5=binary.md5)
    if not binary.is_whole(root, train=train):
        raise RuntimeError(f"{root / binary.folder} lacks files, or some are not whole")
    return binary.read(root, train=train)


def _as_images(pixels: np.ndarray) -> np.ndarray:
    """uint8 [N, 32, 32, 3] of the [N, 3072] that are stored."""
    return pixels.reshape(-1, *IMAGE_SHAPE).transpose(0, 2, 3, 1)


def _python_files(python: Any, *, root: Path, train: bool) -> dict[Path, str]:
    """The files of the part with their MD5, by torchvision's own lists; that of names is last."""
    meta = (python.meta["filename"], python.meta["md5"])
    listed = (*(python.train_list if train else python.test_list), meta)
    return {root / python.base_folder / file: md5 for file, md5 in listed}


def _read_python(files: Mapping[Path, str], *, names: str) -> Part:
    """The part from pickles; ``names`` is the key of the classes' names in the last file."""
    *batches, meta = (_unpickle(file, md5=md5) for file, md5 in files.items())
    pixels = np.concatenate([batch["data"] for batch in batches])
    labels = [batch["labels" if "labels" in batch else "fine_labels"] for batch in batches]
    return Part(_as_images(pixels), np.concatenate(labels), tuple(meta[names]))


def _unpickle(file: Path, *, md5: str) -> dict[str, Any]:
    content = file.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"{file} is damaged: it is not as CIFAR's authors made it. {_mend(file)}")
    entry: dict[str, Any] = _ArraysUnpickler(content, file=file).load()
    return entry


def _mend(file: Path) -> str:
    """What to do about a file of the Python version that cannot be read."""
    return f"Delete {file.parent}, and the binary version is downloaded; or name another --data_dir"


def _dtype(name: str, *_: object) -> np.dtype[Any]:
    """np.dtype without the 0 and 1 that old files pass on, of which NumPy 2.4.0 to 2.4.4 warn."""
    return np.dtype(name)


# all that the pickle of an array asks for
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


class _ArraysUnpickler(pickle.Unpickler):
    """Makes numbers, texts, lists, dictionaries and arrays; an MD5 is no defence by itself."""

    def __init__(self, content: bytes, *, file: Path) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")  # Python 2 wrote bytes as str
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise DataError(
                f"{self._file} asks for {module}.{name}, which is no part of an array:"
                f" nothing of it was run. {_mend(self._file)}"
            )
        return _KNOWN[module, name]
