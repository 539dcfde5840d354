"""Eq. 8: the teacher's soft labels are the weighted mean of the students'.

Blocks of float16 or float32 rows enter, one block of the same dtype leaves. This runs in
Ray tasks on blocks of some 64 MB, so it is fused and chunked: a chunk of every student stays
in the processor's cache while it is summed in float32, then it is rounded once. Rows that keep a
few classes are merged by top_k.py.

    N rows   K classes
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from raymd.distillation.top_k import Rows, TopKRows, cheapest, merge_top_k, written_out

# A chunk's float32 sums take 256 kB, so they and a student's part stay in the processor's cache.
CHUNK_VALUES = 2**16


def merge_rows(
    blocks_NK: Sequence[Rows], weights: Sequence[float], *, out_NK: np.ndarray | None = None
) -> Rows:
    """Weighted mean of blocks of probabilities, ``S_e = sum_i a_i S_i`` (Eq. 8).

    Args:
        blocks_NK: The same rows of each student, float16 or float32, [N, K]; read only. Pass
            them in student-id order: float32 sums depend on the order, and repeats must be
            byte-identical.
        weights: ``a_i`` in the same order.
        out_NK: Where to write the mean with all classes, of the blocks' shape and dtype; by default
            new memory.

    Returns:
        [N, K] of the blocks' dtype; of blocks that keep a few classes of each row another such,
        where that takes fewer bytes.

    Raises:
        ValueError: no blocks, or blocks of different shapes or dtypes (``out_NK`` too), or not one
            weight each.
    """
    written = [] if out_NK is None else [out_NK]
    kinds = {(block.shape, block.dtype) for block in (*blocks_NK, *written)}
    if len(kinds) != 1 or len(blocks_NK) != len(weights):
        raise ValueError(f"blocks to merge differ: {kinds}, {len(weights)} weights")
    few = [block for block in blocks_NK if isinstance(block, TopKRows)]
    if len(few) == len(blocks_NK) and out_NK is None:
        return cheapest(merge_top_k(few, weights))
    return _merge_dense([written_out(block) for block in blocks_NK], weights, out_NK)


def _merge_dense(
    blocks_NK: Sequence[np.ndarray], weights: Sequence[float], out_NK: np.ndarray | None
) -> np.ndarray:
    tensors = [as_tensor(block) for block in blocks_NK]
    merged_NK = torch.empty_like(tensors[0]) if out_NK is None else torch.from_numpy(out_NK)
    num_rows, num_classes = merged_NK.shape
    step = chunk_rows(num_classes)
    sum_CK = torch.empty(min(step, num_rows), num_classes, dtype=torch.float32)
    for start in range(0, num_rows, step):
        rows = slice(start, min(start + step, num_rows))
        chunk = sum_CK[: rows.stop - rows.start].zero_()
        for tensor, weight in zip(tensors, weights, strict=True):
            chunk.add_(tensor[rows], alpha=weight)
        merged_NK[rows].copy_(chunk)
    return merged_NK.numpy()


def chunk_rows(num_classes: int) -> int:
    """Rows that are summed at once."""
    return max(1, CHUNK_VALUES // num_classes)


def as_tensor(block_NK: np.ndarray) -> torch.Tensor:
    """A tensor on the block's own memory, to read from."""
    with warnings.catch_warnings():
        # Arrays of the object store are read-only, and torch warns that writing would do harm.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(block_NK)
