"""CIFAR's two versions, as small files of their authors' formats; no test downloads any."""

import hashlib
import os
import pickle
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from raymd.data import Dataset, cifar, load_dataset
from raymd.data.augment import Augmentation
from raymd.data.splits import prepare
from raymd.errors import DataError

BINARY = {
    "cifar10": ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"),
    "cifar100": ("train.bin", "test.bin"),
}
PYTHON = {
    "cifar10": ("data_batch_1", "data_batch_2", "test_batch"),
    "cifar100": ("train", "test"),
}
# torchvision passes the numbers on, of which some versions of NumPy warn
AS_TORCHVISION = pytest.mark.filterwarnings(r"ignore:dtype\(\). align")
CLASSES = ("cat", "dog", "aquarium_fish")
IMAGES = 4  # in each file


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: bytes as its str, and 0 for False where dtypes are made."""

    def save_as_str(self, content: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(content)

    def save_as_number(self, flag: bool) -> None:
        self.write(b"K" + bytes([flag]))

    dispatch = MappingProxyType(
        {**pickle._Pickler.dispatch, bytes: save_as_str, bool: save_as_number}
    )


class Original:
    """A CIFAR of a few images; it can be laid into ``root`` or ``host``, where it is downloaded.

    Attributes:
        pixels: uint8 [files, images, 3072].
        labels: int64 [files, images].
    """

    def __init__(self, name: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.name, self.patch = name, patch
        self.root, self.host = folder / "root", folder / "host"
        self.root.mkdir()
        self.host.mkdir()
        self.reader = getattr(torchvision.datasets, name.upper())
        *train, test = BINARY[name]
        files = {"train": dict.fromkeys(train, IMAGES), "test": {test: IMAGES}}
        self.binary = cifar.BINARY[name.upper()]
        self.publish(url="http://127.0.0.1:9/binary.tar.gz", **files)  # nobody listens there
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (len(BINARY[name]), IMAGES, 3072), np.uint8)
        self.labels = rng.integers(0, len(CLASSES), self.pixels.shape[:2])

    def publish(self, **changes: Any) -> None:
        self.binary = replace(self.binary, **changes)
        self.patch.setitem(cifar.BINARY, self.name.upper(), self.binary)

    def write_binary(self, root: Path | None = None) -> Path:
        folder = (root or self.root) / self.binary.folder
        folder.mkdir()
        for file, pixels, labels in zip(BINARY[self.name], self.pixels, self.labels, strict=True):
            before = np.full((IMAGES, self.binary.label_bytes), 9)  # the coarse class
            before[:, -1] = labels
            (folder / file).write_bytes(np.hstack([before, pixels]).astype(np.uint8).tobytes())
        (folder / self.binary.classes).write_text("\n".join([*CLASSES, "", ""]))
        return folder

    def write_archive(self) -> None:
        with tarfile.open(self.host / "binary.tar.gz", "w:gz") as archive:
            archive.add(self.write_binary(self.host), self.binary.folder)
        self.publish(md5=hashlib.md5((self.host / "binary.tar.gz").read_bytes()).hexdigest())

    def write_python(self, *, names: Any = CLASSES) -> Path:
        folder = self.root / self.reader.base_folder
        folder.mkdir()
        key = {"cifar10": "labels", "cifar100": "fine_labels"}[self.name]
        *train, test = (
            (file, put(folder / file, {"data": pixels, key: labels.tolist()}))
            for file, pixels, labels in zip(
                PYTHON[self.name], self.pixels, self.labels, strict=True
            )
        )
        meta = self.reader.meta
        self.patch.setattr(self.reader, "train_list", train)
        self.patch.setattr(self.reader, "test_list", [test])
        self.patch.setitem(meta, "md5", put(folder / meta["filename"], {meta["key"]: names}))
        return folder

    def load(self) -> Dataset:
        return load_dataset(self.name, data_dir=self.root)


def put(file: Path, entry: Any) -> str:
    """Pickle to the file, as Python 2 did; its MD5."""
    stream = BytesIO()
    Python2Pickler(stream, protocol=2).dump(entry)
    file.write_bytes(stream.getvalue().replace(b"cnumpy._core.", b"cnumpy.core."))
    return hashlib.md5(file.read_bytes()).hexdigest()


@pytest.fixture(params=["cifar10", "cifar100"])
def original(request, tmp_path, monkeypatch) -> Original:
    return Original(request.param, tmp_path, monkeypatch)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """No lines on the terminal of tests."""


@pytest.fixture
def archived(original, monkeypatch) -> Iterator[Original]:
    """One that can be downloaded."""
    original.write_archive()
    monkeypatch.setenv("no_proxy", "*")
    handler = partial(QuietHandler, directory=str(original.host))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        original.publish(url=f"http://127.0.0.1:{server.server_port}/binary.tar.gz")
        yield original
        server.shutdown()
        thread.join()


def fingerprint(dataset: Dataset) -> str:
    return prepare(dataset, subset=None, val_fraction=0, seed=0).fingerprint


def test_binary_version_holds_planes_of_colour_after_the_fine_label(original):
    original.write_binary()
    data = original.load()
    pixels = torch.from_numpy(original.pixels.reshape(-1, 3, 32, 32))
    assert torch.equal(torch.cat([data.train.images, data.test.images]), pixels)
    labels = [*data.train.labels.tolist(), *data.test.labels.tolist()]
    assert labels == original.labels.ravel().tolist()
    assert (data.name, data.classes, len(data.test)) == (original.name, CLASSES, IMAGES)
    assert data.augmentation == Augmentation(pad=4, flip=True)


def test_fingerprint_and_pixels_do_not_tell_which_version_was_read(original):
    folder = original.write_python()
    theirs = original.load()
    folder.rename(original.root / "gone")
    original.write_binary()
    ours = original.load()
    assert fingerprint(ours) == fingerprint(theirs)
    assert torch.equal(ours.test.images, theirs.test.images)
    assert ours.train.images.stride() == theirs.train.images.stride()


@AS_TORCHVISION
def test_python_version_is_read_as_torchvision_reads_it(original):
    original.write_python()
    data = original.load()
    theirs = original.reader(root=original.root, train=True)
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), theirs.data)
    assert data.train.labels.tolist() == theirs.targets
    assert data.classes == tuple(theirs.classes)


@pytest.mark.parametrize("write", [Original.write_binary, Original.write_python])
def test_files_that_are_there_need_neither_network_nor_a_writable_folder(original, write):
    folder = write(original)
    original.load()
    assert list(original.root.iterdir()) == [folder]


def test_missing_files_are_downloaded_in_their_binary_version(archived):
    assert archived.load().classes == CLASSES
    assert (archived.root / archived.binary.folder).is_dir()


def test_files_cut_short_by_a_kill_are_unpacked_again(archived):
    last = archived.write_binary() / BINARY[archived.name][-1]
    last.write_bytes(last.read_bytes()[:-1])
    assert len(archived.load().test) == IMAGES


def test_archive_that_is_not_the_authors_is_not_unpacked(archived):
    archived.publish(md5="0" * 32)
    with pytest.raises(DataError, match=r"could not be downloaded \(.*corrupted"):
        archived.load()
    assert not (archived.root / archived.binary.folder).exists()


def test_archive_without_a_file_is_refused(archived):
    archived.publish(test={"more.bin": IMAGES})
    with pytest.raises(DataError, match=f"{archived.binary.folder} lacks files, or some are not"):
        archived.load()


def test_failed_download_tells_where_the_files_belong(original):
    with pytest.raises(DataError, match=r"refused.*--data_dir.*parquet:DIR") as error:
        original.load()
    assert f"{original.name} is not in {original.root}, or not all of it" in str(error.value)


def test_python_version_with_a_changed_byte_is_refused_before_it_is_read(original):
    file = original.write_python() / PYTHON[original.name][-1]
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"{file} is damaged.*Delete {file.parent}.*--data_dir"):
        original.load()


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.makedirs, (str(self.folder),)


@AS_TORCHVISION
def test_pickle_that_asks_for_more_than_arrays_is_refused_and_not_run(original):
    sprung = original.root / "sprung"
    folder = original.write_python(names=Trap(sprung))
    with pytest.raises(DataError, match=rf"{folder}/.*meta asks for os.makedirs, which is no part"):
        original.load()
    assert not sprung.exists()
    with pytest.raises(TypeError, match="NoneType"):  # for want of names; too late
        original.reader(root=original.root)
    assert sprung.exists()
