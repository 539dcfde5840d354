"""``parquet:DIR`` and ``arrow:DIR``: images of your own in columns, as Hugging Face writes them.

Place on the data's way: loaders of datasets.py; a folder enters, Sources leave for images.py. Files
are found by shards.py. Images are structs {bytes, path}, plain bytes, or paths relative to DIR;
labels are integers, booleans or texts. Only labels are held in memory; images are read a chunk at
a time.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from raymd.data.columns import encoded_of, is_bytes, is_text, read_column, read_schema
from raymd.data.dataset import Dataset
from raymd.data.decode import Encoded
from raymd.data.images import build_dataset
from raymd.data.manifest import TableManifest
from raymd.data.shards import find_parts
from raymd.errors import DataError

IMAGE_COLUMNS = ("image", "img", "images", "picture", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "cls")


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
                yield first, [encoded_of(image, self.folder) for image in column.to_pylist()]
                first += len(column)

    def manifest(self) -> TableManifest:
        """Where the images are; those of parquet files are read now."""
        num_rows = len(self.labels)
        return TableManifest.of(
            self.folder, self.files, self.starts, self.image_column, num_rows=num_rows
        )


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
    train, test, notes = table_sources(folder, suffix=suffix)
    name = f"{suffix}:{folder}"
    return build_dataset(
        name, train, test, image_size=image_size, subset=subset, seed=seed, notes=notes
    )


def table_sources(
    folder: Path, *, suffix: str
) -> tuple[TableSource, TableSource | None, tuple[str, ...]]:
    """The training and, if there is one, the test part; and notes. Raises as ``load_tables``."""
    parts, notes = find_parts(folder, suffix=suffix)
    train = read_source(folder, parts["train"])
    test = read_source(folder, parts["test"]) if "test" in parts else None
    return train, test, notes


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


def _find_column(schema: pa.Schema, names: Sequence[str], file: Path, kind: str) -> str:
    for name in names:
        if name in schema.names:
            return name
    raise DataError(
        f"{file}: no column {kind} (or {', '.join(names[1:])}); it has: {', '.join(schema.names)}"
    )


def _check_image_type(kind: pa.DataType, where: str) -> None:
    fields = {field.name for field in kind} if pa.types.is_struct(kind) else set()
    if fields & {"bytes", "path"} or is_bytes(kind) or is_text(kind):
        return
    raise DataError(f"{where} is {kind}, but struct<bytes, path>, binary or paths are needed")


def _read_labels(file: Path, name: str) -> np.ndarray:
    """The labels of a file: int64, or texts."""
    chunks = list(read_column(file, name))
    column = pa.chunked_array(chunks) if chunks else pa.chunked_array([], pa.int64())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{file} row {row}: the label is missing")
    if is_text(column.type):
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
