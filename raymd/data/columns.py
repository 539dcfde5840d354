"""Columns of parquet and Arrow files: read a chunk at a time, or mapped and read row by row.

Place on the data's way: tables.py reads a part's labels with it, manifest.py its images.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raymd.data.decode import Encoded
from raymd.errors import DataError

CHUNK_ROWS = 256


def read_schema(file: Path) -> pa.Schema:
    """The columns of a parquet or Arrow file; DataError if it is none."""
    with _readable(file):
        if file.suffix.lower() == ".parquet":
            return pq.read_schema(file)
        with closing(_ArrowReader(file)) as reader:
            return reader.schema


def read_column(file: Path, name: str) -> Iterator[pa.Array]:
    """One column of a file, a few hundred rows at a time; DataError if it is damaged."""
    with _readable(file):
        if file.suffix.lower() == ".parquet":
            with pq.ParquetFile(file) as reader:
                for batch in reader.iter_batches(batch_size=CHUNK_ROWS, columns=[name]):
                    yield batch.column(name)
            return
        with closing(_ArrowReader(file)) as reader:
            for batch in reader:
                for start in range(0, len(batch), CHUNK_ROWS):
                    yield batch.column(name).slice(start, CHUNK_ROWS)


def map_column(file: Path, name: str) -> pa.ChunkedArray:
    """One column of an Arrow file in mapped memory, whose rows are read when they are asked for.

    Raises:
        DataError: the file is gone or damaged.
    """
    with _readable(file):
        # never closed: the column's buffers are the map, which ends with them
        reader = _ArrowReader(file)
        chunks = [batch.column(name) for batch in reader]
        return pa.chunked_array(chunks, type=reader.schema.field(name).type)


def whole_column(file: Path, name: str) -> pa.ChunkedArray:
    """One column of a file, read into memory; DataError if the file is damaged."""
    kind = read_schema(file).field(name).type  # an empty file has no chunk that would tell
    return pa.chunked_array(list(read_column(file, name)), type=kind)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        kind = file.suffix[1:].lower()
        raise DataError(f"{file} is not a readable {kind} file: {error}") from error


class _ArrowReader:
    """Record batches of an IPC file or stream, from mapped memory."""

    def __init__(self, file: Path) -> None:
        self._map = pa.memory_map(str(file))
        try:
            self._reader: pa.RecordBatchFileReader | None = pa.ipc.open_file(self._map)
            self.schema = self._reader.schema
        except pa.ArrowInvalid:  # no file, so a stream
            self._reader = None
            self._map.seek(0)
            self._stream = pa.ipc.open_stream(self._map)
            self.schema = self._stream.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._reader is None:
            yield from self._stream
            return
        for index in range(self._reader.num_record_batches):
            yield self._reader.get_batch(index)

    def close(self) -> None:
        self._map.close()


def encoded_of(value: Any, folder: Path) -> Encoded:
    """An image as a row has it: its bytes, its path, or a struct of both."""
    if isinstance(value, dict):
        content, path = value.get("bytes"), value.get("path")
        value = path if content is None and path else content
    if isinstance(value, str):
        return folder / value if value else None
    return value


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column holds bytes."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def content_sizes(column: pa.Array) -> pa.Array:
    """Bytes of each image; 0 where a row has a path."""
    if pa.types.is_struct(column.type):
        if column.type.get_field_index("bytes") < 0:
            return pa.array([0] * len(column), pa.int64())
        column = pc.struct_field(column, "bytes")
    if not is_bytes(column.type):
        return pa.array([0] * len(column), pa.int64())
    return pc.fill_null(pc.binary_length(column), 0).cast(pa.int64())
