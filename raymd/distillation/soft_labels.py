"""Soft labels as blocks: how [N, K] probabilities are cut, encoded, decoded and looked up by id.

A student's probabilities enter in runs of consecutive sample ids; Arrow IPC streams of about
64 MB leave, one record batch each, with metadata that says what the rows are. The same format
serves the students' raw blocks and the teacher's merged ones. A row belongs to (sample id,
view): view 0 is the clean image, or the first of several seeded augmented views.

    N samples   K classes   B batch
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

Encoding = Literal["float16", "float32"]

BLOCK_BYTES = 64 * 2**20
_METADATA_KEY = b"raymd"
_COLUMN = "soft_labels"
_ALIGNMENT = 8  # of an Arrow stream's bodies
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


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


def encode_block(rows_NK: np.ndarray, *, metadata: Mapping[str, Any]) -> np.ndarray:
    """A block as the bytes of an Arrow IPC stream.

    Args:
        rows_NK: float16 or float32 probabilities, [rows, K].
        metadata: What the rows are (run, cycle, student, first sample id, view, temperature …);
            anything JSON can hold. Written with sorted keys: repeats are byte-identical.

    Returns:
        uint8 [bytes], ready for the object store and for a file.
    """
    num_rows, num_classes = rows_NK.shape
    data, stored_NK = empty_block(num_rows, num_classes, dtype=rows_NK.dtype, metadata=metadata)
    stored_NK[...] = rows_NK
    return data


def empty_block(
    num_rows: int, num_classes: int, *, dtype: np.dtype[Any], metadata: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """A block whose rows are still to be written where they will stay, without another copy.

    Args:
        num_rows, num_classes, dtype: Of the rows.
        metadata: As for encode_block.

    Returns:
        The block's bytes, uint8, and its rows in them, [rows, K] to be written.
    """
    kind = pa.list_(pa.field("item", pa.from_numpy_dtype(dtype)), num_classes)
    header = {_METADATA_KEY: json.dumps(dict(metadata), sort_keys=True).encode()}
    schema = pa.schema([pa.field(_COLUMN, kind)], metadata=header)
    head = schema.serialize().to_pybytes() + _batch_head(num_rows, num_classes, dtype)
    body = num_rows * num_classes * dtype.itemsize
    tail = bytes(-body % _ALIGNMENT) + _END_OF_STREAM
    # Arrow's pool gives back memory that is mapped already; numpy's would be mapped anew.
    data = np.frombuffer(pa.allocate_buffer(len(head) + body + len(tail)), dtype=np.uint8)
    data[: len(head)] = np.frombuffer(head, dtype=np.uint8)
    data[len(head) + body :] = np.frombuffer(tail, dtype=np.uint8)
    rows = data[len(head) : len(head) + body].view(dtype)
    return data, rows.reshape(num_rows, num_classes)


@lru_cache(maxsize=8)
def _batch_head(num_rows: int, num_classes: int, dtype: np.dtype[Any]) -> bytes:
    """What an Arrow stream says of a record batch before its values: their shape and kind alone,
    so a process asks Arrow once for all the blocks of a layout."""
    values = pa.py_buffer(np.zeros(num_rows * num_classes, dtype=dtype))
    # from buffers, for pa.array would import pandas
    flat = pa.Array.from_buffers(pa.from_numpy_dtype(dtype), num_rows * num_classes, [None, values])
    column = pa.FixedSizeListArray.from_arrays(flat, num_classes)
    message = pa.record_batch([column], names=[_COLUMN]).serialize()
    body = flat.nbytes + -flat.nbytes % _ALIGNMENT
    head: bytes = message[: message.size - body].to_pybytes()
    return head


def decode_block(block: Any) -> tuple[dict[str, Any], np.ndarray]:
    """A block's metadata and its rows [rows, K], without copying the rows.

    Args:
        block: What encode_block returned, or the same bytes in any buffer.

    Raises:
        ValueError: the bytes are not a block.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(block)) as reader:
            batch = reader.read_next_batch()
            # Lengths that point behind the buffers would crash the process when read.
            batch.validate()
            metadata = json.loads((reader.schema.metadata or {})[_METADATA_KEY])
            column = batch.column(_COLUMN)
            rows = _values(column.flatten())
    except (pa.ArrowException, OSError, KeyError, ValueError, StopIteration) as error:
        raise ValueError(f"these bytes are not a soft-label block: {error}") from error
    return metadata, rows.reshape(len(column), column.type.list_size)


def _values(flat: Any) -> np.ndarray:
    """An Arrow array's memory; Arrow's own way to numpy would import pandas for it."""
    if flat.null_count:
        raise ValueError("values are missing")
    dtype = np.dtype(flat.type.to_pandas_dtype())
    start = flat.offset * dtype.itemsize
    values: np.ndarray = np.frombuffer(flat.buffers()[1], dtype, count=len(flat), offset=start)
    values.flags.writeable = False
    return values


class TeacherRows:
    """A teacher's blocks, read by sample id. Holds the blocks' memory, copies only the batch."""

    def __init__(self, blocks: Sequence[np.ndarray], *, layout: BlockLayout) -> None:
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

    def rows(self, sample_ids_B: torch.Tensor, *, view: int = 0) -> torch.Tensor:
        """The teacher's probabilities of these samples, float32 [B, K], on the CPU.

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
        first = view * layout.blocks_per_view
        if layout.blocks_per_view == 1:
            stored_BK = self._blocks[first].take(sample_ids_B.numpy(), axis=0)
        else:
            stored_BK = self._gather(first, sample_ids_B.numpy())
        rows_BK = torch.from_numpy(stored_BK).float()
        return rows_BK.div_(rows_BK.sum(dim=-1, keepdim=True))

    def _gather(self, first: int, sample_ids_B: np.ndarray) -> np.ndarray:
        """Rows as they are stored. A batch has few of each block: copying them one by one is four
        times as fast as a gather for each block."""
        block_B, offset_B = np.divmod(sample_ids_B, self.layout.rows_per_block)
        shape = len(sample_ids_B), self.layout.num_classes
        stored_BK = np.empty(shape, dtype=self._blocks[first].dtype)
        places = zip((first + block_B).tolist(), offset_B.tolist(), strict=True)
        for row_K, (block, offset) in zip(stored_BK, places, strict=True):
            row_K[:] = self._blocks[block][offset]
        return stored_BK
