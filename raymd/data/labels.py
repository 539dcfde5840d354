"""Labels as files have them -> numbers 0..K-1 with the classes' names.

Place on the data's way: images.py calls it before any image is decoded.

    N, M images of the parts   K classes
"""

from typing import NamedTuple

import numpy as np

from raymd.errors import DataError

MAX_CLASSES = 100_000
SHOWN = 5


class Labels(NamedTuple):
    """Both parts' labels as int64 in 0..K-1, the K names, and notes of what was changed."""

    train: np.ndarray
    test: np.ndarray | None
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def dense_labels(
    train_N: np.ndarray, test_M: np.ndarray | None, *, names: tuple[str, ...], source: str
) -> Labels:
    """Number the classes 0..K-1.

    Args:
        train_N, test_M: Integers or texts, as the files have them; None without a test part.
        names: What the files say labels 0, 1, … are called; () if they do not.
        source: What the labels are of, for messages.

    Raises:
        DataError: negative or unnamed labels, classes in the test part alone, one class only.
    """
    if test_M is not None and (train_N.dtype.kind == "i") != (test_M.dtype.kind == "i"):
        raise DataError(f"{source}: labels of one part are numbers, of the other part texts")
    labels = (
        _with_names(train_N, test_M, names=names, source=source)
        if names and train_N.dtype.kind == "i"
        else _by_value(train_N, test_M, source=source)
    )
    num_seen = len(np.unique(labels.train))
    if num_seen < 2:
        only = repr(labels.classes[int(labels.train[0])])
        raise DataError(f"{source}: class {only} is the only one; two are needed (--dataset)")
    return labels


def _with_names(
    train_N: np.ndarray, test_M: np.ndarray | None, *, names: tuple[str, ...], source: str
) -> Labels:
    parts = [part for part in (train_N, test_M) if part is not None]
    low, high = min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)
    if low < 0 or high >= len(names):
        raise DataError(
            f"{source}: labels go from {low} to {high}, but the files' metadata name "
            f"{len(names)} classes only"
        )
    seen = np.unique(train_N)
    if test_M is not None:
        unseen = np.setdiff1d(test_M, seen)
        _refuse_unseen([names[label] for label in unseen.tolist()], source)
    absent = [name for label, name in enumerate(names) if label not in set(seen.tolist())]
    notes = (f"{count(absent, 'class', 'classes')} without images",) if absent else ()
    return Labels(train_N, test_M, names, notes)


def _by_value(train_N: np.ndarray, test_M: np.ndarray | None, *, source: str) -> Labels:
    values, dense_N = np.unique(train_N, return_inverse=True)
    if len(values) > MAX_CLASSES:
        got = f"{len(values):,} different labels"
        raise DataError(f"{source}: {got}, allowed are {MAX_CLASSES:,}; is the column an id?")
    classes = tuple(str(value) for value in values.tolist())
    dense_M = None
    if test_M is not None:
        _refuse_unseen([str(value) for value in np.setdiff1d(test_M, values).tolist()], source)
        dense_M = np.searchsorted(values, test_M).astype(np.int64)
    notes: tuple[str, ...] = ()
    if values.dtype.kind == "i" and (values != np.arange(len(values))).any():
        span = f"{classes[0]} to {classes[-1]} with gaps"
        if int(values[-1]) - int(values[0]) == len(values) - 1:
            span = f"{classes[0]} to {classes[-1]}"
        notes = (f"labels {span} became 0 to {len(values) - 1}; the names keep the originals",)
    return Labels(dense_N.astype(np.int64).reshape(-1), dense_M, classes, notes)


def _refuse_unseen(unseen: list[str], source: str) -> None:
    if unseen:
        raise DataError(
            f"{source}: {count(unseen, 'class', 'classes')} in the test part but not in the "
            f"training part; add training images or take the class out of the test part"
        )


def count(names: list[str], one: str, many: str) -> str:
    """The number of names and the first few: "2 classes (cat, dog)"."""
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return f"{len(names):,} {one if len(names) == 1 else many} ({shown})"
