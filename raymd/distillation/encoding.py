"""Blocks as bytes: Arrow IPC streams of one record batch each, whose schema says what the rows are.

Place on the data's way: a student's rows, or a merge's, enter; bytes for the object store and for a
file leave, and come back as rows without a copy. Nothing here imports pandas, which Arrow's own way
from and to numpy would do.

    N rows   K classes   E entries of a row that keeps a few
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from raymd.distillation.top_k import Rows, TopKRows

_METADATA_KEY, _CLASSES_KEY = b"raymd", b"num_classes"
_COLUMN = "soft_labels"
_TOP_K_COLUMNS = ("classes", "excess", "base")
_ALIGNMENT = 8  # of an Arrow stream's bodies
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


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
    kind = pa.list_(pa.field("item", pa.from_numpy_dtype(dtype)), num_classes)
    schema = pa.schema([pa.field(_COLUMN, kind)], metadata=_header(metadata))
    head = schema.serialize().to_pybytes() + _batch_head(num_rows, num_classes, dtype)
    body = num_rows * num_classes * dtype.itemsize
    tail = bytes(-body % _ALIGNMENT) + _END_OF_STREAM
    # Arrow's pool gives back memory that is mapped already; numpy's would be mapped anew.
    data = np.frombuffer(pa.allocate_buffer(len(head) + body + len(tail)), dtype=np.uint8)
    data[: len(head)] = np.frombuffer(head, dtype=np.uint8)
    data[len(head) + body :] = np.frombuffer(tail, dtype=np.uint8)
    rows = data[len(head) : len(head) + body].view(dtype)
    return data, rows.reshape(num_rows, num_classes)


def _header(metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    return {_METADATA_KEY: json.dumps(dict(metadata), sort_keys=True).encode()}


@lru_cache(maxsize=8)
def _batch_head(num_rows: int, num_classes: int, dtype: np.dtype[Any]) -> bytes:
    """What an Arrow stream says of a record batch before its values: their shape and kind alone,
    so a process asks Arrow once for all the blocks of a layout."""
    column = _lists(np.zeros((num_rows, num_classes), dtype=dtype))
    flat = column.values
    message = pa.record_batch([column], names=[_COLUMN]).serialize()
    body = flat.nbytes + -flat.nbytes % _ALIGNMENT
    head: bytes = message[: message.size - body].to_pybytes()
    return head


def _encode_top_k(rows: TopKRows, metadata: Mapping[str, Any]) -> np.ndarray:
    header = {**_header(metadata), _CLASSES_KEY: str(rows.num_classes).encode()}
    parts = (_lists(rows.classes), _lists(rows.excess), _flat(rows.base))
    columns = dict(zip(_TOP_K_COLUMNS, parts, strict=True))
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata=header)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def _lists(values_NE: np.ndarray) -> Any:
    return pa.FixedSizeListArray.from_arrays(_flat(values_NE), values_NE.shape[1])


def _flat(values: np.ndarray) -> Any:
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), values.size, [None, buffer])


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


def _top_k_rows(batch: Any, *, num_classes: int) -> TopKRows:
    classes, excess, base = (batch.column(name) for name in _TOP_K_COLUMNS)
    rows = TopKRows(_matrix(classes), _matrix(excess), _values(base), num_classes)
    if rows.classes.size and int(rows.classes.max()) >= num_classes:
        raise ValueError(f"class {rows.classes.max()} of {num_classes}")
    return rows


def _matrix(column: Any) -> np.ndarray:
    return _values(column.flatten()).reshape(len(column), column.type.list_size)


def _values(flat: Any) -> np.ndarray:
    """An Arrow array's memory."""
    if flat.null_count:
        raise ValueError("values are missing")
    dtype = np.dtype(flat.type.to_pandas_dtype())
    start = flat.offset * dtype.itemsize
    values: np.ndarray = np.frombuffer(flat.buffers()[1], dtype, count=len(flat), offset=start)
    values.flags.writeable = False
    return values
