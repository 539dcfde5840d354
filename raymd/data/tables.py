"""``parquet:DIR`` and ``arrow:DIR``: images of your own in columns, as Hugging Face writes them.

Place on the data's way: loaders of datasets.py; a folder enters, Sources leave for images.py. Files
are found by shards.py. Images are structs {bytes, path}, plain bytes, or paths relative to DIR;
labels are integers, booleans or texts. Only labels are held in memory; images are read a chunk at
a time.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raymd.data.dataset import Dataset
from raymd.data.decode import Encoded
from raymd.data.images import build_dataset
from raymd.data.shards import find_parts
from raymd.errors import DataError

IMAGE_COLUMNS = ("image", "img", "images", "picture", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "cls")
CHUNK_ROWS = 256


@dataclass
class TableSource:
    """Rows of one part's shards.

    Attributes:
        folder: What relative paths are relative to.
        files: The shards, in order; ``starts`` has the first row of each.
        image_column: Name of the column with the images.
    """

    folder: Path
    files: list[Path]
    starts: list[int]
    image_column: str
    labels: np.ndarray
    class_names: tuple[str, ...]

    def place(self, row: int) -> str:
        """Shard and row in it, counted from 0."""
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.files[file]} row {row - self.starts[file]}"

    def chunks(self) -> Iterator[tuple[int, Sequence[Encoded]]]:
        """Images of a few hundred rows at a time."""
        for file, first in zip(self.files, self.starts, strict=True):
            for column in read_column(file, self.image_column):
                yield first, _encoded(column, self.folder)
                first += len(column)


def load_tables(
    folder: Path,
    *,
    suffix: str,
    image_size: int | None,
    subset: int | None = None,
    seed: int = 0,
) -> Dataset:
    """The data set of a folder of tables; see ``images.build_dataset`` for the arguments.

    Args:
        folder: Holds the files, by themselves or in ``data/``.
        suffix: "parquet" or "arrow".

    Raises:
        DataError: files, columns, labels or images that are missing or damaged; file and row are
            named.
    """
    parts, notes = find_parts(folder, suffix=suffix)
    train = read_source(folder, parts["train"])
    test = read_source(folder, parts["test"]) if "test" in parts else None
    name = f"{suffix}:{folder}"
    return build_dataset(
        name, train, test, image_size=image_size, subset=subset, seed=seed, notes=notes
    )


def read_source(folder: Path, files: list[Path]) -> TableSource:
    """A part: its labels are read, its images are left in the files."""
    schema = read_schema(files[0])
    image_column = _find_column(schema, IMAGE_COLUMNS, files[0], "image")
    label_column = _find_column(schema, LABEL_COLUMNS, files[0], "label")
    labels, starts, rows = [], [], 0
    for file in files:
        other = read_schema(file)
        for column in (image_column, label_column):
            if column not in other.names:
                raise DataError(f"{file}: no column {column}; it has: {', '.join(other.names)}")
        _check_image_type(other.field(image_column).type, f"{file}: column {image_column}")
        labels.append(_read_labels(file, label_column))
        starts.append(rows)
        rows += len(labels[-1])
    if not rows:
        raise DataError(f"{files[0]} has no rows")
    if len({part.dtype.kind for part in labels if len(part)}) > 1:
        raise DataError(f"{files[0].parent}: labels are numbers in some files, texts in others")
    joined = np.concatenate([part for part in labels if len(part)])
    return TableSource(
        folder, files, starts, image_column, joined, _hub_names(schema, label_column)
    )


def read_schema(file: Path) -> pa.Schema:
    """The columns of a parquet or Arrow file; DataError if it is none."""
    try:
        if file.suffix.lower() == ".parquet":
            return pq.read_schema(file)
        with closing(_open_arrow(file)) as reader:
            return reader.schema
    except (pa.ArrowException, OSError) as error:
        kind = file.suffix[1:].lower()
        raise DataError(f"{file} is not a readable {kind} file: {error}") from error


def read_column(file: Path, name: str) -> Iterator[pa.Array]:
    """One column of a file, a few hundred rows at a time; DataError if it is damaged."""
    try:
        if file.suffix.lower() == ".parquet":
            with pq.ParquetFile(file) as reader:
                for batch in reader.iter_batches(batch_size=CHUNK_ROWS, columns=[name]):
                    yield batch.column(name)
            return
        with closing(_open_arrow(file)) as reader:
            for batch in reader:
                for start in range(0, len(batch), CHUNK_ROWS):
                    yield batch.column(name).slice(start, CHUNK_ROWS)
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


def _open_arrow(file: Path) -> _ArrowReader:
    return _ArrowReader(file)


def _find_column(schema: pa.Schema, names: Sequence[str], file: Path, kind: str) -> str:
    for name in names:
        if name in schema.names:
            return name
    raise DataError(
        f"{file}: no column {kind} (or {', '.join(names[1:])}); it has: {', '.join(schema.names)}"
    )


def _check_image_type(kind: pa.DataType, where: str) -> None:
    fields = {field.name for field in kind} if pa.types.is_struct(kind) else set()
    if fields & {"bytes", "path"} or _is_bytes(kind) or _is_text(kind):
        return
    raise DataError(f"{where} is {kind}, but struct<bytes, path>, binary or paths are needed")


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _encoded(column: pa.Array, folder: Path) -> list[Encoded]:
    """Each image's bytes, or where its file is."""
    if _is_bytes(column.type):
        return column.to_pylist()
    if _is_text(column.type):
        return [path and folder / path for path in column.to_pylist()]
    fields = {field.name for field in column.type}
    empty = [None] * len(column)
    data, paths = (
        pc.struct_field(column, name).to_pylist() if name in fields else empty
        for name in ("bytes", "path")
    )
    return [
        folder / path if content is None and path else content
        for content, path in zip(data, paths, strict=True)
    ]


def _read_labels(file: Path, name: str) -> np.ndarray:
    """The labels of a file: int64, or texts."""
    chunks = list(read_column(file, name))
    column = pa.chunked_array(chunks) if chunks else pa.chunked_array([], pa.int64())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{file} row {row}: the label is missing")
    if _is_text(column.type):
        return np.array(column.to_pylist(), dtype=str)
    if not (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
        raise DataError(f"{file}: column {name} is {column.type}, but integers or texts are needed")
    labels_N: np.ndarray = column.to_numpy().astype(np.int64)
    wrong = np.flatnonzero(labels_N < 0)
    if len(wrong):
        got = f"{file} row {wrong[0]}: label {labels_N[wrong[0]]}"
        raise DataError(f"{got}, allowed are 0 and above (-1 marks images without a label)")
    return labels_N


def _hub_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """The class names that the Hugging Face library stores in a schema; () if there are none."""
    stored = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(stored).get("info", {}).get("features", {}) if stored else {}
    return tuple(features.get(column, {}).get("names") or ())
