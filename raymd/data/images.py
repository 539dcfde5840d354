"""Encoded images with labels, from any kind of folder -> a Dataset.

Place on the data's way: folder.py and tables.py find the files and give each part as a Source; here
they are labelled, cut, measured and decoded into the uint8 arrays that runs train on. Every image
is looked at twice: its header, from which sizes and memory follow, then its pixels.

    N images   H height   W width   C channels, 1 if every image is grey, else 3
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch

from raymd.data.augment import augmentation_for
from raymd.data.dataset import CIFAR_MEAN, CIFAR_STD, Dataset, Split
from raymd.data.decode import Encoded, UnreadableImageError, decode, read_header
from raymd.data.geometry import Geometry, check_memory, choose_geometry
from raymd.data.labels import count, dense_labels
from raymd.data.splits import stratified_ids, subset_ids
from raymd.errors import DataError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEST_SHARE = 0.2
TASK_IMAGES = 32  # for one thread at a time
STATISTICS_ROWS = 4096
SHOWN = 5

PartT = TypeVar("PartT")


class Source(Protocol):
    """One part's images, in files; row n has the n-th label.

    Attributes:
        labels: [N], integers or texts as the files have them.
        class_names: What the files call labels 0, 1, …; () if they do not.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]

    def place(self, row: int) -> str:
        """Where a row is, for messages: a file, and the row in it."""
        ...

    def chunks(self) -> Iterator[tuple[int, Sequence[Encoded]]]:
        """All images in order, as first row and images of one chunk after the other."""
        ...


@dataclass(frozen=True)
class Part:
    """The rows of a source that are used (int64, sorted), and their labels in 0..K-1."""

    source: Source
    rows: np.ndarray
    labels: np.ndarray

    def take(self, ids: np.ndarray) -> "Part":
        """Only some of the rows."""
        return Part(self.source, self.rows[ids], self.labels[ids])


def build_dataset(
    name: str,
    train: Source,
    test: Source | None,
    *,
    image_size: int | None,
    subset: int | None = None,
    seed: int = 0,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Decode two parts.

    Args:
        name: The data set's, for messages.
        train, test: The parts; without a test part, TEST_SHARE of the training part is held out,
            the same rows in every run.
        image_size: The side that networks see; None: chosen by ``choose_geometry``.
        subset, seed: Decode only those training images that ``splits.prepare`` would keep.
        notes: What the caller has to announce.

    Raises:
        UserError: a subset of more images than there are.
        DataError: labels that do not fit, images that cannot be read (all are counted, the first
            five named), or more than fit into memory.
    """
    names = train.class_names or (test.class_names if test is not None else ())
    raw_test = None if test is None else test.labels
    labels = dense_labels(train.labels, raw_test, names=names, source=name)
    train_part = Part(train, np.arange(len(labels.train)), labels.train)
    if test is None or labels.test is None:
        train_part, test_part, held_out = _hold_out(train_part, name)
        notes = (*notes, held_out)
    else:
        test_part = Part(test, np.arange(len(labels.test)), labels.test)
    if subset is not None:
        ids = subset_ids(torch.from_numpy(train_part.labels), size=subset, seed=seed)
        train_part = train_part.take(ids.numpy())
    pixels, geometry, chosen = _read([train_part, test_part], name, image_size=image_size)
    is_grey = pixels[0].shape[3] == 1
    mean, std = _statistics(pixels[0], geometry.image_size)
    return Dataset(
        name=name,
        train=Split.from_arrays(pixels[0], train_part.labels),
        test=Split.from_arrays(pixels[1], test_part.labels),
        classes=labels.classes,
        mean=mean,
        std=std,
        augmentation=augmentation_for(side=min(geometry.height, geometry.width), is_grey=is_grey),
        image_size=geometry.image_size,
        notes=(*notes, *labels.notes, *chosen),
    )


def _hold_out(part: Part, name: str) -> tuple[Part, Part, str]:
    counts_K = np.bincount(part.labels)
    # A class of one image stays in the training part: what is tested must have been trained on.
    eligible = np.flatnonzero(counts_K[part.labels] > 1)
    size = round(TEST_SHARE * len(eligible))
    if not size:
        raise DataError(
            f"{name}: no test part, and {len(part.rows)} images are too few to hold some out; add "
            f"a test part"
        )
    labels = torch.from_numpy(part.labels[eligible])
    # Seed 0 whatever the run's seed: all runs share one test set.
    chosen = eligible[stratified_ids(labels, size=size, seed=0).numpy()]
    is_test = np.zeros(len(part.rows), dtype=bool)
    is_test[chosen] = True
    note = f"no test part: {size:,} of {len(part.rows):,} images are held out as one"
    return part.take(np.flatnonzero(~is_test)), part.take(np.flatnonzero(is_test)), note


def _read(
    parts: list[Part], name: str, *, image_size: int | None
) -> tuple[list[np.ndarray], Geometry, tuple[str, ...]]:
    damage: dict[tuple[int, int], str] = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        headers = []
        for number, part in enumerate(parts):
            header_N3 = np.zeros((len(part.rows), 3), dtype=np.int64)
            _for_each(part, _header_into(header_N3), pool, damage, number)
            headers.append(header_N3)
        known_N3 = np.concatenate(headers)
        known_N3 = known_N3[known_N3[:, 0] > 0]
        if not len(known_N3):
            _refuse_damage(parts, damage, name)
        geometry, notes = choose_geometry(known_N3[:, :2], image_size=image_size)
        channels = 1 if known_N3[:, 2].all() else 3
        total = sum(len(part.rows) for part in parts)
        check_memory(total, geometry, channels=channels, name=name)
        pixels = []
        for number, part in enumerate(parts):
            shape = (len(part.rows), geometry.height, geometry.width, channels)
            pixels_NHWC = np.empty(shape, dtype=np.uint8)
            _for_each(part, _pixels_into(pixels_NHWC, geometry), pool, damage, number)
            pixels.append(pixels_NHWC)
    if damage:
        _refuse_damage(parts, damage, name)
    return pixels, geometry, notes


def _header_into(header_N3: np.ndarray) -> Callable[[int, Encoded], None]:
    def read(slot: int, encoded: Encoded) -> None:
        header_N3[slot] = read_header(encoded)

    return read


def _pixels_into(pixels_NHWC: np.ndarray, geometry: Geometry) -> Callable[[int, Encoded], None]:
    channels = pixels_NHWC.shape[3]

    def read(slot: int, encoded: Encoded) -> None:
        pixels_NHWC[slot] = decode(encoded, geometry=geometry, channels=channels)

    return read


def _for_each(
    part: Part,
    read: Callable[[int, Encoded], None],
    pool: ThreadPoolExecutor,
    damage: dict[tuple[int, int], str],
    number: int,
) -> None:
    """Read every image of a part in threads; reasons go into ``damage`` under (number, row)."""
    slot_of_row = np.full(len(part.source.labels), -1)
    slot_of_row[part.rows] = np.arange(len(part.rows))

    def task(images: Sequence[tuple[int, Encoded]]) -> None:
        for row, encoded in images:
            try:
                read(int(slot_of_row[row]), encoded)
            except UnreadableImageError as error:
                damage.setdefault((number, row), str(error))

    for first, chunk in part.source.chunks():
        wanted = [
            (row, encoded)
            for row, encoded in enumerate(chunk, start=first)
            if slot_of_row[row] >= 0 and (number, row) not in damage
        ]
        starts = range(0, len(wanted), TASK_IMAGES)
        for _ in pool.map(task, (wanted[start : start + TASK_IMAGES] for start in starts)):
            pass  # pool.map keeps an error until its result is asked for


def _refuse_damage(parts: list[Part], damage: dict[tuple[int, int], str], name: str) -> None:
    first = sorted(damage)[:SHOWN]
    shown = "; ".join(
        f"{parts[number].source.place(row)}: {damage[number, row]}" for number, row in first
    )
    total = sum(len(part.rows) for part in parts)
    rest = f"; and {len(damage) - SHOWN:,} more" if len(damage) > SHOWN else ""
    raise DataError(
        f"{name}: {len(damage):,} of {total:,} images cannot be read: {shown}{rest}. Repair or "
        f"remove them (--dataset)"
    )


def _statistics(
    pixels_NHWC: np.ndarray, image_size: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if pixels_NHWC.shape[3] == 3:
        is_cifar_size = pixels_NHWC.shape[1:3] == (32, 32) and image_size == 32
        return (CIFAR_MEAN, CIFAR_STD) if is_cifar_size else (IMAGENET_MEAN, IMAGENET_STD)
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(pixels_NHWC), STATISTICS_ROWS):
        counts += np.bincount(
            pixels_NHWC[start : start + STATISTICS_ROWS].reshape(-1), minlength=256
        )
    share, values = counts / counts.sum(), np.arange(256) / 255
    mean = float(share @ values)
    std = float(np.sqrt(share @ (values - mean) ** 2))
    return (mean,), (max(std, 1 / 255),)  # images of one flat grey have no spread


def choose_test(parts: Mapping[str, PartT]) -> tuple[dict[str, PartT], tuple[str, ...]]:
    """The parts "train" and, if there is one, "test", which "val" stands in for; with notes."""
    train, test, val = (parts.get(name) for name in ("train", "test", "val"))
    assert train is not None
    if val is None:
        return {"train": train, **({} if test is None else {"test": test})}, ()
    if test is None:
        return {"train": train, "test": val}, ("no test part: the validation part is used as one",)
    note = "the validation part is left out: runs hold out training images (--val_fraction)"
    return {"train": train, "test": test}, (note,)


def skipped_note(names: list[str]) -> tuple[str, ...]:
    """A note on files that are no images; () if there are none."""
    return (f"skipped, since they are no images: {count(names, 'file', 'files')}",) if names else ()
