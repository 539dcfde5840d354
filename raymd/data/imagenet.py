"""``--dataset imagenet --data_dir DIR``: ImageNet, or any set like it, never decoded as a whole.

Place on the data's way: a loader of datasets.py; a folder enters, a Dataset of encoded images
leaves. DIR has class folders in ``train`` and ``val``, or parquet or Arrow files as on the Hugging
Face hub, or what ``raymd pack`` wrote.
"""

import re
from dataclasses import replace
from pathlib import Path

from raymd.data.dataset import Dataset
from raymd.data.folder import folder_sources, has_class_folders
from raymd.data.geometry import LARGE_SIDE
from raymd.data.images import left_encoded
from raymd.data.parts import Source
from raymd.data.shards import has_parts
from raymd.data.tables import table_sources
from raymd.errors import DataError, UserError

NUM_CLASSES = 1000
WORDNET_ID = re.compile(r"n\d{8}")
SUFFIXES = ("arrow", "parquet")  # what can be read by row goes first
LAYOUT = "DIR/train/CLASS/*.JPEG with DIR/val/CLASS/*.JPEG, or parquet or Arrow files"


def load_imagenet(
    folder: Path | None, *, image_size: int | None, subset: int | None = None, seed: int = 0
) -> Dataset:
    """The data set; see ``images.left_encoded`` for the arguments.

    Raises:
        UserError: no folder is named.
        DataError: nothing that can be read is in it.
    """
    train, test, notes = find_sources(folder)
    dataset = left_encoded(
        "imagenet", train, test, image_size=image_size or LARGE_SIDE, subset=subset, seed=seed,
        notes=notes,
    )  # fmt: skip
    return replace(dataset, classes=class_names(dataset.classes))


def find_sources(folder: Path | None) -> tuple[Source, Source | None, tuple[str, ...]]:
    """The training and the test part, and notes: class folders, Arrow files, or parquet files.

    Raises:
        UserError: no folder is named.
        DataError: none of them is there.
    """
    if folder is None:
        raise UserError(f"dataset imagenet: say where it is (--data_dir DIR, which has {LAYOUT})")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"folder {folder.absolute()} {what}; --data_dir takes {LAYOUT}")
    by_name = has_class_folders(folder)  # beside them a table may be of anything
    for suffix in SUFFIXES:
        if has_parts(folder, suffix=suffix, by_name=by_name):
            return table_sources(folder, suffix=suffix)
    return folder_sources(folder)


def class_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """ImageNet's names in words where the classes are 1,000 WordNet ids, whose order is theirs;
    else as they are."""
    if len(classes) != NUM_CLASSES or not all(map(WORDNET_ID.fullmatch, classes)):
        return classes
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
