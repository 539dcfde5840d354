"""Soft labels as blocks: how [N, K] probabilities are cut, encoded, decoded and looked up by id.

A student's probabilities enter in runs of consecutive sample ids; Arrow IPC streams of about
64 MB leave, one record batch each, with metadata that says what the rows are. The same format
serves the students' raw blocks and the teacher's merged ones. A row has all probabilities, or a
few of them (top_k.py). It belongs to (sample id, view): view 0 is the clean image, or the first of
several seeded augmented views.

    N samples   K classes   B batch
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raymd.distillation.aggregation import as_tensor
from raymd.distillation.top_k import Rows, TeacherBatch, TopKRows, written_out

BLOCK_BYTES = 64 * 2**20
_METADATA_KEY, _CLASSES_KEY = b"raymd", b"num_classes"
_COLUMN = "soft_labels"
_TOP_K_COLUMNS = ("classes", "excess", "base")
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


def encode_block(rows_NK: Rows, *, metadata: Mapping[str, Any]) -> np.ndarray:
    """A block as the bytes of an Arrow IPC stream.

    Args:
        rows_NK: float16 or float32 probabilities, [rows, K], or a few of each row.
        metadata: What the rows are (run, cycle, student, first sample id, view, temperature …);
            anything JSON can hold. Written with sorted keys: repeats are byte-identical.

    Returns:
        uint8 [bytes], ready for the object store and for a file.
    """
    if isinstance(rows_NK, TopKRows):
        return _encode_top_k(rows_NK, metadata)
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
    schema = _schema(num_classes, dtype, metadata)
    head = schema.serialize().to_pybytes() + _batch_head(num_rows, num_classes, dtype)
    body = num_rows * num_classes * dtype.itemsize
    tail = bytes(-body % _ALIGNMENT) + _END_OF_STREAM
    # Arrow's pool gives back memory that is mapped already; numpy's would be mapped anew.
    data = np.frombuffer(pa.allocate_buffer(len(head) + body + len(tail)), dtype=np.uint8)
    data[: len(head)] = np.frombuffer(head, dtype=np.uint8)
    data[len(head) + body :] = np.frombuffer(tail, dtype=np.uint8)
    rows = data[len(head) : len(head) + body].view(dtype)
    return data, rows.reshape(num_rows, num_classes)


def _schema(num_classes: int, dtype: np.dtype[Any], metadata: Mapping[str, Any]) -> Any:
    kind = pa.list_(pa.field("item", pa.from_numpy_dtype(dtype)), num_classes)
    return pa.schema([pa.field(_COLUMN, kind)], metadata=_header(metadata))


def _header(metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    return {_METADATA_KEY: json.dumps(dict(metadata), sort_keys=True).encode()}


@lru_cache(maxsize=8)
def _batch_head(num_rows: int, num_classes: int, dtype: np.dtype[Any]) -> bytes:
    """What an Arrow stream says of a record batch before its values: their shape and kind alone,
    so a process asks Arrow once for all the blocks of a layout."""
    flat = pa.array(np.zeros(num_rows * num_classes, dtype=dtype))
    column = pa.FixedSizeListArray.from_arrays(flat, num_classes)
    message = pa.record_batch([column], names=[_COLUMN]).serialize()
    body = flat.nbytes + -flat.nbytes % _ALIGNMENT
    head: bytes = message[: message.size - body].to_pybytes()
    return head


def _encode_top_k(rows: TopKRows, metadata: Mapping[str, Any]) -> np.ndarray:
    header = {**_header(metadata), _CLASSES_KEY: str(rows.num_classes).encode()}
    parts = (_lists(rows.classes), _lists(rows.excess), pa.array(rows.base))
    columns = dict(zip(_TOP_K_COLUMNS, parts, strict=True))
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata=header)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def _lists(values_NE: np.ndarray) -> Any:
    flat = pa.array(np.ascontiguousarray(values_NE).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values_NE.shape[1])


def decode_block(block: Any) -> tuple[dict[str, Any], Rows]:
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
            header = reader.schema.metadata or {}
            metadata = json.loads(header[_METADATA_KEY])
            if _CLASSES_KEY in header:
                return metadata, _top_k_rows(batch, num_classes=int(header[_CLASSES_KEY]))
            return metadata, _matrix(batch.column(_COLUMN))
    except (pa.ArrowException, OSError, KeyError, ValueError, StopIteration) as error:
        raise ValueError(f"these bytes are not a soft-label block: {error}") from error


def _matrix(column: Any) -> np.ndarray:
    rows: np.ndarray = column.flatten().to_numpy(zero_copy_only=True)
    return rows.reshape(len(column), column.type.list_size)


def _top_k_rows(batch: Any, *, num_classes: int) -> TopKRows:
    classes, excess, base = (batch.column(name) for name in _TOP_K_COLUMNS)
    rows = TopKRows(_matrix(classes), _matrix(excess), base.to_numpy(), num_classes)
    if rows.classes.size and int(rows.classes.max()) >= num_classes:
        raise ValueError(f"class {rows.classes.max()} of {num_classes}")
    return rows


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
        # Where a few blocks were cheaper written out, all are: a batch has rows of one kind.
        few = [block for block in blocks if isinstance(block, TopKRows)]
        self._few = few if len(few) == len(blocks) else None
        self._all = [] if self._few else [as_tensor(written_out(block)) for block in blocks]

    def rows(self, sample_ids_B: torch.Tensor, *, view: int = 0) -> TeacherBatch:
        """The teacher's probabilities of these samples, on the CPU: float32 [B, K], or a few
        of each row where the teacher has no more.

        Rows are renormalised after the float16 storage, whose rows miss a sum of 1 by up to
        4e-4: KL would turn negative.

        Raises:
            IndexError: an id or a view that the teacher has no row for.
        """
        layout = self.layout
        if view not in range(layout.num_views) or int(sample_ids_B.max()) >= layout.num_samples:
            raise IndexError(f"view {view} of sample ids {sample_ids_B}: not in {layout}")
        first = view * layout.blocks_per_view
        if self._few:
            return _gather_few(
                self._few[first : first + layout.blocks_per_view], sample_ids_B, layout
            )
        if layout.blocks_per_view == 1:
            rows_BK = self._all[first].index_select(0, sample_ids_B).float()
        else:
            block_B = sample_ids_B // layout.rows_per_block
            offset_B = sample_ids_B % layout.rows_per_block
            rows_BK = torch.empty(len(sample_ids_B), layout.num_classes)
            for block in set(block_B.tolist()):
                where = (block_B == block).nonzero().squeeze(1)
                rows_BK[where] = self._all[first + block][offset_B[where]].float()
        return rows_BK.div_(rows_BK.sum(dim=-1, keepdim=True))


def _gather_few(
    blocks: Sequence[TopKRows], sample_ids_B: torch.Tensor, layout: BlockLayout
) -> TeacherBatch:
    """The rows of samples out of a view's blocks, as wide as the widest block that has one."""
    ids = sample_ids_B.numpy()
    block_B, offset_B = np.divmod(ids, layout.rows_per_block)
    used = np.unique(block_B)
    width = max(blocks[block].classes.shape[1] for block in used)
    classes_BE = np.zeros((len(ids), width), dtype=blocks[0].classes.dtype)
    excess_BE = np.zeros((len(ids), width), dtype=blocks[0].dtype)
    base_B = np.empty(len(ids), dtype=np.float32)
    for block in used:
        where = np.flatnonzero(block_B == block)
        rows = blocks[block][offset_B[where]]
        entries = rows.classes.shape[1]
        classes_BE[where, :entries] = rows.classes
        excess_BE[where, :entries] = rows.excess
        base_B[where] = rows.base
    return TopKRows(classes_BE, excess_BE, base_B, layout.num_classes).batch()
