"""Soft labels that keep a few classes of each row: the likeliest, and all others alike.

A row has a *base*, the probability of every class, and *entries*: classes with an *excess* over
it. Such rows are closed under the weighted mean (Eq. 8), whose base is the mean of the bases and
whose entries are those of all, so that merging loses nothing. An entry without excess changes
nothing, whichever class it names: it fills rows that have fewer than others.

Place on the data's way: a student's probabilities enter, TopKRows leave for a block and TopKBatch
for the loss.

    N rows   B batch   K classes   E entries of a row
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raymd.distillation.formats import class_bytes

CHUNK_ROWS = 4096


@dataclass(frozen=True)
class TopKRows:
    """Rows as they are stored.

    Attributes:
        classes: uint16 or uint32 [N, E], rising within a row but for filling entries at its end.
        excess: float16 or float32 [N, E], probability above the base.
        base: float32 [N].
        num_classes: K.
    """

    classes: np.ndarray
    excess: np.ndarray
    base: np.ndarray
    num_classes: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return len(self.base), self.num_classes

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers."""
        return self.excess.dtype

    @property
    def nbytes(self) -> int:
        """What they take."""
        return self.classes.nbytes + self.excess.nbytes + self.base.nbytes

    def __getitem__(self, rows: slice | np.ndarray) -> "TopKRows":
        """Some of the rows."""
        return TopKRows(self.classes[rows], self.excess[rows], self.base[rows], self.num_classes)

    def batch(self) -> "TopKBatch":
        """The same rows to reckon with, each brought to a sum of 1."""
        classes_BE = torch.from_numpy(self.classes.astype(np.int64))
        excess_BE = torch.from_numpy(self.excess.astype(np.float32))
        base_B = torch.from_numpy(self.base.astype(np.float32))
        sum_B = self.num_classes * base_B + excess_BE.sum(dim=1)
        return TopKBatch(classes_BE, excess_BE / sum_B[:, None], base_B / sum_B, self.num_classes)

    def dense(self) -> np.ndarray:
        """The same rows written out, [N, K] of their dtype."""
        rows_NK = np.empty(self.shape, dtype=self.dtype)
        for start in range(0, len(rows_NK), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            rows_NK[rows] = self[rows]._written_out()
        return rows_NK

    def _written_out(self) -> np.ndarray:
        rows_NK = np.repeat(self.base[:, None], self.num_classes, axis=1)
        row_N1 = np.arange(len(rows_NK))[:, None]
        # added one by one: filling entries name a class that may be there already
        np.add.at(rows_NK, (row_N1, self.classes), self.excess.astype(np.float32))
        return rows_NK


@dataclass(frozen=True)
class TopKBatch:
    """A batch's soft labels on their way to the loss.

    Attributes:
        classes: int64 [B, E].
        excess: float32 [B, E].
        base: float32 [B].
        num_classes: K.
    """

    classes: Tensor
    excess: Tensor
    base: Tensor
    num_classes: int

    def each(self, change: Callable[[Tensor], Tensor]) -> "TopKBatch":
        """The same with a change made to each tensor: another place, say."""
        return TopKBatch(
            change(self.classes), change(self.excess), change(self.base), self.num_classes
        )

    def dense(self) -> Tensor:
        """The probabilities of all classes, float32 [B, K]."""
        rows_BK = self.base[:, None].repeat(1, self.num_classes)
        return rows_BK.scatter_add_(1, self.classes, self.excess)

    def argmax(self) -> Tensor:
        """The likeliest class of each row, the first of equals, int64 [B]."""
        excess_B, entry_B = self.excess.max(dim=1)
        top_B = self.classes.gather(1, entry_B[:, None])[:, 0]
        return torch.where(excess_B > 0, top_B, 0)


Rows = np.ndarray | TopKRows
"""Stored soft labels: all probabilities, float16 or float32 [N, K], or a few of each row."""

TeacherBatch = Tensor | TopKBatch
"""A batch's soft labels: float32 [B, K], or a few of each row."""


def keep_top_k(probs_NK: Tensor, k: int, *, dtype: np.dtype) -> TopKRows:
    """The k likeliest classes of each row; the others share what remains evenly.

    Args:
        probs_NK: float32 on the CPU; rows sum to 1.
        k: 1 to K.
        dtype: float16 or float32.
    """
    num_classes = probs_NK.shape[1]
    assert 1 <= k <= num_classes, f"top {k} of {num_classes} classes"
    kept_NE, classes_NE = probs_NK.topk(k, dim=1)
    classes_NE, order_NE = classes_NE.sort(dim=1)
    kept_NE = kept_NE.gather(1, order_NE)
    rest_N = (1.0 - kept_NE.sum(dim=1)).clamp_(min=0.0)
    base_N = rest_N / max(1, num_classes - k)
    # rounding of the sum must not put the base above what was kept
    excess_NE = (kept_NE - base_N[:, None]).clamp_(min=0.0)
    return _stored(classes_NE, excess_NE, base_N, num_classes, dtype)


def merge_top_k(blocks: Sequence[TopKRows], weights: Sequence[float]) -> TopKRows:
    """The weighted mean of rows (Eq. 8), with the entries of all.

    Args:
        blocks: The same rows of each member, of one dtype, in id order.
        weights: ``a_i`` in the same order.

    Returns:
        Rows of their dtype, with as many entries as the fullest row needs.
    """
    num_rows, dtype = blocks[0].shape[0], blocks[0].dtype
    chunks = [
        _merge_chunk([block[start : start + CHUNK_ROWS] for block in blocks], weights)
        for start in range(0, num_rows, CHUNK_ROWS)
    ]
    widest = max(classes_NE.shape[1] for classes_NE, _, _ in chunks)
    classes_NE, excess_NE = (
        torch.cat([_widened(chunk[part], widest) for chunk in chunks]) for part in (0, 1)
    )
    base_N = torch.cat([chunk[2] for chunk in chunks])
    return _stored(classes_NE, excess_NE, base_N, blocks[0].num_classes, dtype)


def _merge_chunk(
    blocks: Sequence[TopKRows], weights: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    classes_NE = torch.cat(
        [torch.from_numpy(block.classes.astype(np.int64)) for block in blocks], dim=1
    )
    pairs = list(zip(blocks, weights, strict=True))
    excess_NE = torch.cat(
        [torch.from_numpy(block.excess.astype(np.float32)) * a for block, a in pairs], dim=1
    )
    base_N = torch.zeros(len(classes_NE))
    for block, a in pairs:
        base_N.add_(torch.from_numpy(block.base.astype(np.float32)), alpha=a)
    # Stable, so that what members say of one class is added up in their order.
    classes_NE, order_NE = classes_NE.sort(dim=1, stable=True)
    is_new_NE = torch.ones_like(classes_NE)
    is_new_NE[:, 1:] = classes_NE[:, 1:] != classes_NE[:, :-1]
    slot_NE = is_new_NE.cumsum(dim=1) - 1
    summed_NE = torch.zeros_like(excess_NE).scatter_add_(1, slot_NE, excess_NE.gather(1, order_NE))
    merged_NE = torch.zeros_like(classes_NE).scatter_(1, slot_NE, classes_NE)
    used = int(slot_NE[:, -1].max()) + 1
    return merged_NE[:, :used], summed_NE[:, :used], base_N


def _widened(entries_NE: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(entries_NE, (0, width - entries_NE.shape[1]))


def _stored(
    classes_NE: Tensor, excess_NE: Tensor, base_N: Tensor, num_classes: int, dtype: np.dtype
) -> TopKRows:
    unsigned = np.dtype(f"u{class_bytes(num_classes)}")
    excess_NE = excess_NE.to(getattr(torch, dtype.name))
    return TopKRows(
        classes_NE.numpy().astype(unsigned), excess_NE.numpy(), base_N.numpy(), num_classes
    )


def cheapest(rows: TopKRows) -> Rows:
    """The rows as they are, or written out where that takes no more bytes."""
    num_rows, num_classes = rows.shape
    return rows if rows.nbytes < num_rows * num_classes * rows.dtype.itemsize else rows.dense()


def written_out(rows: Rows) -> np.ndarray:
    """All probabilities of stored rows, [N, K] of their dtype."""
    return rows.dense() if isinstance(rows, TopKRows) else rows


def all_classes(batch: TeacherBatch) -> Tensor:
    """All probabilities of a batch's soft labels, [B, K]."""
    return batch.dense() if isinstance(batch, TopKBatch) else batch
