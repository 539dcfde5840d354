"""Soft labels as blocks: how [N, K] probabilities are cut, and looked up by id.

A student's probabilities enter in runs of consecutive sample ids; blocks of about 64 MB leave
(encoding.py). The same blocks serve the students' raw rows and the teacher's merged ones. A row has
all probabilities, or a few of them (top_k.py). It belongs to (sample id, view): view 0 is the clean
image, or the first of several seeded augmented views.

    N samples   K classes   B batch   E entries of a row that keeps a few
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raymd.distillation.top_k import Rows, TeacherBatch, TopKRows, written_out

BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class BlockLayout:
    """How N samples (in V views) are cut into blocks. A function of N, K and V alone, so that
    every student, rank and restart cuts alike.

    Attributes:
        num_samples: N, the training part after subset and hold-out.
        num_classes: K.
        num_views: V; blocks of view v follow those of view v-1.
    """

    num_samples: int
    num_classes: int
    num_views: int = 1

    @property
    def rows_per_block(self) -> int:
        """Rows of every block but a view's last: 64 MiB of float16, at least one row."""
        return max(1, BLOCK_BYTES // (2 * self.num_classes))

    @property
    def blocks_per_view(self) -> int:
        """Blocks that one view needs."""
        return -(-self.num_samples // self.rows_per_block)

    @property
    def num_blocks(self) -> int:
        """Blocks of all views."""
        return self.blocks_per_view * self.num_views

    def view(self, block: int) -> int:
        """The view whose rows a block holds."""
        return block // self.blocks_per_view

    def rows(self, block: int) -> tuple[int, int]:
        """First sample id of a block, and the one behind its last."""
        first = block % self.blocks_per_view * self.rows_per_block
        return first, min(first + self.rows_per_block, self.num_samples)


class TeacherRows:
    """A teacher's blocks, read by sample id. Holds the blocks' memory, copies only the batch."""

    def __init__(self, blocks: Sequence[Rows], *, layout: BlockLayout) -> None:
        """
        Args:
            blocks: All blocks of one teacher as decode_block's rows, in block order.
            layout: How they were cut.

        Raises:
            ValueError: a block is missing or has other rows than the layout says.
        """
        shapes = [block.shape for block in blocks]
        ranges = [layout.rows(block) for block in range(layout.num_blocks)]
        expected = [(stop - first, layout.num_classes) for first, stop in ranges]
        if shapes != expected:
            raise ValueError(f"teacher blocks of shapes {shapes}, expected {expected}")
        self.layout = layout
        self._blocks = list(blocks)
        # A batch has rows of one kind: all classes of each, if any block has them.
        few = [block for block in blocks if isinstance(block, TopKRows)]
        self._few = few if len(few) == len(blocks) else None

    def rows(self, sample_ids_B: torch.Tensor, *, view: int = 0) -> TeacherBatch:
        """The teacher's probabilities of these samples, on the CPU: float32 [B, K], or a few
        of each row where the teacher has no more.

        Rows are renormalised after the float16 storage, whose rows miss a sum of 1 by up to
        4e-4: KL would turn negative.

        Raises:
            IndexError: an id or a view that the teacher has no row for.
        """
        layout = self.layout
        first_id, last_id = (int(end) for end in sample_ids_B.aminmax())
        known = first_id >= 0 and last_id < layout.num_samples
        if view not in range(layout.num_views) or not known:
            raise IndexError(f"view {view} of sample ids {sample_ids_B}: not in {layout}")
        ids_B = sample_ids_B.numpy()
        if self._few:
            return self._gather_few(self._few, ids_B, view).batch()
        block = self._blocks[view]
        if layout.blocks_per_view == 1 and not isinstance(block, TopKRows):
            stored_BK = block.take(ids_B, axis=0)
        else:
            stored_BK = self._gather(ids_B, view)
        rows_BK = torch.from_numpy(stored_BK).float()
        return rows_BK.div_(rows_BK.sum(dim=-1, keepdim=True))

    def _places(self, ids_B: np.ndarray, view: int) -> Iterator[tuple[int, int]]:
        """Each sample's block, and its row there."""
        block_B, row_B = np.divmod(ids_B, self.layout.rows_per_block)
        block_B += view * self.layout.blocks_per_view
        return zip(block_B.tolist(), row_B.tolist(), strict=True)

    def _gather(self, ids_B: np.ndarray, view: int) -> np.ndarray:
        """Rows as they are stored. A batch has few of each block: copying them one by one is four
        times as fast as a gather for each block."""
        stored_BK = np.empty((len(ids_B), self.layout.num_classes), dtype=self._blocks[0].dtype)
        for row_K, (block, row) in zip(stored_BK, self._places(ids_B, view), strict=True):
            row_K[:] = written_out(self._blocks[block][row : row + 1])
        return stored_BK

    def _gather_few(self, blocks: Sequence[TopKRows], ids_B: np.ndarray, view: int) -> TopKRows:
        """The same of rows that keep a few classes, all as wide as the widest of their blocks."""
        places = list(self._places(ids_B, view))
        shape = len(ids_B), max(blocks[block].classes.shape[1] for block, _ in places)
        gathered = TopKRows(
            np.zeros(shape, dtype=blocks[0].classes.dtype), np.zeros(shape, dtype=blocks[0].dtype),
            np.empty(len(ids_B), dtype=np.float32), self.layout.num_classes,
        )  # fmt: skip
        for n, (block, row) in enumerate(places):
            rows = blocks[block]
            entries = rows.classes.shape[1]
            gathered.classes[n, :entries] = rows.classes[row]
            gathered.excess[n, :entries] = rows.excess[row]
            gathered.base[n] = rows.base[row]
        return gathered
