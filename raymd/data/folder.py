"""``folder:DIR``: images of your own in one folder a class, as torchvision's ImageFolder has them.

Place on the data's way: a loader of datasets.py; a folder enters, Sources leave for images.py.

    DIR/train/CLASS/image.jpg with DIR/test/CLASS/… (or DIR/val/CLASS/…), or DIR/CLASS/image.jpg
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from raymd.data.dataset import Dataset
from raymd.data.decode import Encoded
from raymd.data.images import build_dataset
from raymd.data.labels import count
from raymd.data.manifest import FileManifest
from raymd.data.names import part_of
from raymd.data.parts import choose_test, skipped_note
from raymd.errors import DataError

CHUNK_ROWS = 1024
EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
LAYOUT = "DIR/train/CLASS/*.jpg with DIR/test/CLASS/*.jpg, or DIR/CLASS/*.jpg"


@dataclass
class FolderSource:
    """Image files with the names of their class folders as labels.

    Attributes:
        root: The part's folder.
        names: The files' paths in it, with "/".
    """

    root: Path
    names: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """The file."""
        return str(self.root / self.names[row])

    def chunks(self) -> Iterator[tuple[int, Sequence[Encoded]]]:
        """Paths; they are opened by who decodes them."""
        for first in range(0, len(self.names), CHUNK_ROWS):
            yield first, [self.root / name for name in self.names[first : first + CHUNK_ROWS]]

    def manifest(self) -> FileManifest:
        """Where the files are, and their sizes."""
        return FileManifest.of(self.root, self.names)


@dataclass
class Found:
    """What a walk through class folders found beside the images."""

    others: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def load_folder(
    folder: Path, *, image_size: int | None, subset: int | None = None, seed: int = 0
) -> Dataset:
    """The data set of a folder; see ``images.build_dataset`` for the arguments.

    Raises:
        DataError: no such folder, no images, or what ``build_dataset`` refuses.
    """
    train, test, notes = folder_sources(folder)
    name = f"folder:{folder}"
    return build_dataset(
        name, train, test, image_size=image_size, subset=subset, seed=seed, notes=notes
    )


def folder_sources(folder: Path) -> tuple[FolderSource, FolderSource | None, tuple[str, ...]]:
    """The training and, if there is one, the test part; and notes.

    Raises:
        DataError: no such folder, or no images.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"folder {folder.absolute()} {what}; --dataset folder:DIR takes {LAYOUT}")
    parts, notes = _parts(folder)
    found = Found()
    train = read_source(parts["train"], found)
    test = read_source(parts["test"], found) if "test" in parts else None
    for source, part in ((train, "train"), (test, "test")):
        if source is not None and not source.names:
            raise DataError(f"no images in {parts[part].absolute()}; {LAYOUT} (--dataset)")
    if found.empty:
        empty = count(sorted(found.empty), "class folder", "class folders")
        notes = (*notes, f"no images in {empty}")
    return train, test, (*notes, *skipped_note(sorted(found.others)))


def has_class_folders(folder: Path) -> bool:
    """Whether a folder of the training part has folders in it."""
    return any(part_of(entry.name) == "train" and _has_folders(entry) for entry in folder.iterdir())


def _has_folders(entry: Path) -> bool:
    return entry.is_dir() and any(child.is_dir() for child in entry.iterdir())


def _parts(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folders of train and test, and a note if a val folder is left over."""
    parts: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        part = part_of(entry.name)
        if part and _has_folders(entry):
            if part in parts:
                raise DataError(f"{folder}: both {parts[part].name} and {entry.name} are {part}")
            parts[part] = entry
    if not parts:
        return {"train": folder}, ()
    if "train" not in parts:
        got = ", ".join(path.name for path in parts.values())
        raise DataError(f"{folder.absolute()} has {got} but no train; {LAYOUT} (--dataset)")
    return choose_test(parts)


def read_source(folder: Path, found: Found) -> FolderSource:
    """A part: its files, which are not opened."""
    names: list[str] = []
    labels: list[str] = []
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            found.others.append(entry.name)
            continue
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        images = _images(entry, found)
        if not images:
            found.empty.append(entry.name)
        names += (f"{entry.name}/{name}" for name in images)
        # macOS writes ä as two characters, other systems as one; both are the same class
        labels += [unicodedata.normalize("NFC", entry.name)] * len(images)
    return FolderSource(folder, names, np.array(labels, dtype=str))


def _images(folder: Path, found: Found) -> list[str]:
    """All images below a class folder by their paths in it, sorted; hidden files are none."""
    images = []
    for place, _, names in os.walk(folder, followlinks=True):
        inside = os.path.relpath(place, folder).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:  # noqa: PTH122
                images.append(prefix + name)
            else:
                found.others.append(name)
    return sorted(images, key=lambda name: name.split("/"))
