"""Encoded images with labels, from any kind of folder -> a Dataset.

Place on the data's way: parts.py chooses the images; here they are measured and decoded into the
uint8 arrays that runs train on. Every image is looked at twice: its header, from which sizes and
memory follow, then its pixels. Large images that would not fit stay encoded.

    N images   H height   W width   C channels, 1 if every image is grey, else 3
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from raymd.data.augment import Augmentation, augmentation_for
from raymd.data.dataset import CIFAR_MEAN, CIFAR_STD, Dataset, Split
from raymd.data.decode import Encoded, UnreadableImageError, decode, read_header
from raymd.data.encoded import EncodedSplit
from raymd.data.geometry import Geometry, check_memory, choose_geometry, fits_memory, too_large
from raymd.data.manifest import Manifest, sorted_rows
from raymd.data.parts import Part, Source, choose_parts
from raymd.errors import DataError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TASK_IMAGES = 32  # for one thread at a time
STATISTICS_ROWS = 4096
SHOWN = 5


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
    """Decode two parts, or leave them encoded if the images are large and would not fit.

    Args:
        name: The data set's, for messages.
        train, test: The parts; without a test part, some of the training part is held out.
        image_size: The side that networks see; None: chosen by ``choose_geometry``.
        subset, seed: Decode only those training images that ``splits.prepare`` would keep.
        notes: What the caller has to announce.

    Raises:
        UserError: a subset of more images than there are.
        DataError: labels that do not fit, images that cannot be read (all are counted, the first
            five named), or more than fit into memory.
    """
    chosen = choose_parts(name, train, test, subset=subset, seed=seed)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        reading = _Reading([chosen.train, chosen.test], name, pool)
        sizes_N2, channels = reading.headers()
        geometry, seen = choose_geometry(sizes_N2, image_size=image_size)
        fits = fits_memory(reading.total, geometry, channels=channels)
        if geometry.keeps_ratio and not fits:
            too_many = too_large(reading.total, geometry, channels=channels)
            return left_encoded(
                name, train, test, image_size=geometry.image_size, subset=subset, seed=seed,
                notes=(*notes, f"{too_many}: they are decoded batch by batch, in colour"),
            )  # fmt: skip
        check_memory(reading.total, geometry, channels=channels, name=name)
        pixels = reading.pixels(geometry, channels=channels)
    mean, std = _statistics(pixels[0], geometry.image_size)
    return Dataset(
        name=name,
        train=Split.from_arrays(pixels[0], chosen.train.labels),
        test=Split.from_arrays(pixels[1], chosen.test.labels),
        classes=chosen.classes,
        mean=mean,
        std=std,
        augmentation=augmentation_for(
            side=min(geometry.height, geometry.width), is_grey=channels == 1
        ),
        image_size=geometry.image_size,
        notes=(*notes, *chosen.notes, *seen),
    )


def left_encoded(
    name: str,
    train: Source,
    test: Source | None,
    *,
    image_size: int,
    subset: int | None = None,
    seed: int = 0,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """A data set whose images are decoded while networks train; none is looked at now.

    They count in the order of their ids, so that what was packed anew is the same data set.

    Args:
        name, train, test, subset, seed, notes: As for ``build_dataset``.
        image_size: The side that networks see.

    Raises:
        UserError, DataError: as ``choose_parts``; ids that stand twice.
    """
    of_train = train.manifest()
    of_test = None if test is None else test.manifest()
    orders = (sorted_rows(of_train), None if of_test is None else sorted_rows(of_test))
    chosen = choose_parts(name, train, test, subset=subset, seed=seed, orders=orders)

    def split(part: Part, manifest: Manifest) -> EncodedSplit:
        return EncodedSplit(manifest, part.rows, torch.from_numpy(part.labels), image_size)

    return Dataset(
        name=name,
        train=split(chosen.train, of_train),
        test=split(chosen.test, of_test or of_train),
        classes=chosen.classes,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augmentation=Augmentation(resized_crop=True, flip=True),
        image_size=image_size,
        notes=(*notes, *chosen.notes),
    )


class _Reading:
    """Two looks at every image of some parts: its header, then its pixels."""

    def __init__(self, parts: list[Part], name: str, pool: ThreadPoolExecutor) -> None:
        self.parts, self.name, self.pool = parts, name, pool
        self.total = sum(len(part.rows) for part in parts)
        self.damage: dict[tuple[int, int], str] = {}

    def headers(self) -> tuple[np.ndarray, int]:
        """Width and height of each image that can be read, [N, 2], and their channels."""
        headers = []
        for number, part in enumerate(self.parts):
            header_N3 = np.zeros((len(part.rows), 3), dtype=np.int64)
            _for_each(part, _header_into(header_N3), self.pool, self.damage, number)
            headers.append(header_N3)
        known_N3 = np.concatenate(headers)
        known_N3 = known_N3[known_N3[:, 0] > 0]
        if not len(known_N3):
            _refuse_damage(self.parts, self.damage, self.name)
        return known_N3[:, :2], 1 if known_N3[:, 2].all() else 3

    def pixels(self, geometry: Geometry, *, channels: int) -> list[np.ndarray]:
        """Each part's pixels, uint8 [N, H, W, C]; DataError if any is damaged."""
        pixels = []
        for number, part in enumerate(self.parts):
            shape = (len(part.rows), geometry.height, geometry.width, channels)
            pixels_NHWC = np.empty(shape, dtype=np.uint8)
            _for_each(part, _pixels_into(pixels_NHWC, geometry), self.pool, self.damage, number)
            pixels.append(pixels_NHWC)
        if self.damage:
            _refuse_damage(self.parts, self.damage, self.name)
        return pixels


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
