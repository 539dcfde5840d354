"""Which images of a source are trained on and which tested with, and their labels.

Place on the data's way: folder.py and tables.py find the files and give each part as a Source; the
Parts that are chosen here are decoded by images.py, or left encoded.

    N images
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from raymd.data.decode import Encoded
from raymd.data.labels import Labels, count, dense_labels
from raymd.data.manifest import Manifest
from raymd.data.splits import stratified_ids, subset_ids
from raymd.errors import DataError

TEST_SHARE = 0.2

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

    def manifest(self) -> Manifest:
        """Where the images are, for reading them one by one."""
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


class Chosen(NamedTuple):
    """Both parts as they are used, the classes' names, and notes of what was done."""

    train: Part
    test: Part
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def choose_parts(
    name: str,
    train: Source,
    test: Source | None,
    *,
    subset: int | None,
    seed: int,
    orders: tuple[np.ndarray, np.ndarray | None] | None = None,
) -> Chosen:
    """Label both parts and cut them.

    Args:
        name: The data set's, for messages.
        train, test: The parts; without a test part, TEST_SHARE of the training part is held out,
            the same rows in every run.
        subset, seed: Keep only those training images that ``splits.prepare`` would keep.
        orders: Each part's rows in the order in which they are to count; None: as they are.

    Raises:
        UserError: a subset of more images than there are.
        DataError: labels that do not fit, or too few images.
    """
    labels = labels_of(name, train, test)
    train_part = _part(train, labels.train, orders and orders[0])
    notes: tuple[str, ...] = labels.notes
    if test is None or labels.test is None:
        train_part, test_part, held_out = _hold_out(train_part, name)
        notes = (held_out, *notes)
    else:
        test_part = _part(test, labels.test, orders and orders[1])
    if subset is not None:
        ids = subset_ids(torch.from_numpy(train_part.labels), size=subset, seed=seed)
        train_part = train_part.take(ids.numpy())
    return Chosen(train_part, test_part, labels.classes, notes)


def labels_of(name: str, train: Source, test: Source | None) -> Labels:
    """Both parts' labels in 0..K-1, and what the classes are called; DataError as dense_labels."""
    names = train.class_names or (test.class_names if test is not None else ())
    raw_test = None if test is None else test.labels
    return dense_labels(train.labels, raw_test, names=names, source=name)


def _part(source: Source, labels: np.ndarray, order: np.ndarray | None) -> Part:
    whole = Part(source, np.arange(len(labels)), labels)
    return whole if order is None else whole.take(order)


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
