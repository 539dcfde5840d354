"""Where a part's encoded images are: a list that is small, goes to the workers, and is hashed.

Place on the data's way: the Sources of folder.py and tables.py make one, encoded.py reads images
by it. Files are opened where they are needed, so a worker must see them under the same path, or
fetch them (remote.py).

    M images of the part
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raymd.data.columns import content_sizes, encoded_of, map_column, read_schema, whole_column
from raymd.data.decode import Encoded
from raymd.environment import available_bytes
from raymd.errors import DataError

ID_COLUMN = "id"
HELD_SHARE = 0.5  # the driver's own and the object store's copy are there at once
STAT_THREADS = 16  # for network file systems, where each answer is waited for


class Manifest(Protocol):
    """A part's images."""

    @property
    def ids(self) -> pa.Array:
        """Texts [M] that name the images: relative paths, the column ``id``, or positions."""
        ...

    @property
    def sizes(self) -> np.ndarray:
        """int64 [M], bytes of each; 0 where a table has paths."""
        ...

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        ...

    def place(self, row: int) -> str:
        """Where a row is, for messages."""
        ...

    def read(self, row: int) -> Encoded:
        """The row's bytes, or where its file is."""
        ...

    def moved(self, old: str, new: str) -> "Manifest":
        """The same, where all of a folder lies in another."""
        ...


@dataclass(frozen=True, eq=False)
class FileManifest:
    """Files below a folder, whose paths in it are their ids."""

    root: str
    ids: pa.Array
    sizes: np.ndarray

    @classmethod
    def of(cls, root: Path, names: list[str]) -> "FileManifest":
        """The files of these names.

        Raises:
            DataError: a name that is not UTF-8.
        """
        root = root.absolute()  # workers have working directories of their own
        ids = _texts(names, root)

        def size(name: str) -> int:
            try:
                return os.stat(f"{root}/{name}").st_size  # noqa: PTH116  (Path takes ten times as long)
            except OSError:
                return 0  # damaged: who reads it says why

        with ThreadPoolExecutor(STAT_THREADS) as pool:
            sizes_M = np.fromiter(pool.map(size, names, chunksize=1024), np.int64, len(names))
        return cls(str(root), ids, sizes_M)

    @property
    def num_bytes(self) -> int:
        """As ``Manifest``."""
        return self.ids.nbytes + self.sizes.nbytes

    def place(self, row: int) -> str:
        """The file."""
        return f"{self.root}/{self.ids[row].as_py()}"

    def read(self, row: int) -> Encoded:
        """The file."""
        return Path(self.place(row))

    def moved(self, old: str, new: str) -> "FileManifest":
        """As ``Manifest``."""
        return replace(self, root=_moved(self.root, old, new))


@dataclass(frozen=True, eq=False)
class TableManifest:
    """Rows of parquet or Arrow files.

    Arrow files are mapped when they are first read from. Parquet cannot be read by row: its images
    are held in memory, encoded.

    Attributes:
        folder: What paths are relative to.
        files: The shards, in order; ``starts`` has the first row of each.
        column: The images' column.
        columns: By shard; held ones, or those that are mapped by now.
    """

    folder: str
    files: tuple[str, ...]
    starts: np.ndarray
    column: str
    ids: pa.Array
    sizes: np.ndarray
    columns: dict[int, pa.ChunkedArray] = field(default_factory=dict)

    @classmethod
    def of(
        cls, folder: Path, files: list[Path], starts: list[int], column: str, *, num_rows: int
    ) -> "TableManifest":
        """The rows of these files.

        Raises:
            DataError: ids that are missing or of no use; parquet files that are too large.
        """
        # workers have working directories of their own
        folder, files = folder.absolute(), [file.absolute() for file in files]
        is_parquet = files[0].suffix.lower() == ".parquet"
        if is_parquet:
            _check_held(files, column)
            columns = [whole_column(file, column) for file in files]
        else:
            columns = [map_column(file, column) for file in files]
        chunks = [chunk for of_file in columns for chunk in of_file.chunks]
        sizes_M = np.concatenate([content_sizes(chunk).to_numpy() for chunk in chunks])
        return cls(
            str(folder), tuple(map(str, files)), np.array(starts), column,
            _ids(files, num_rows), sizes_M, dict(enumerate(columns)) if is_parquet else {},
        )  # fmt: skip

    @property
    def is_held(self) -> bool:
        """Whether the images themselves are in memory."""
        return self.files[0].lower().endswith(".parquet")

    @property
    def num_bytes(self) -> int:
        """As ``Manifest``."""
        held = sum(column.nbytes for column in self.columns.values()) if self.is_held else 0
        return self.ids.nbytes + self.sizes.nbytes + held

    def place(self, row: int) -> str:
        """Shard and row in it, counted from 0."""
        shard, row = self._find(row)
        return f"{self.files[shard]} row {row}"

    def read(self, row: int) -> Encoded:
        """The row's bytes, or where its file is."""
        shard, row = self._find(row)
        column = self.columns.get(shard)
        if column is None:
            column = self.columns[shard] = map_column(Path(self.files[shard]), self.column)
        return encoded_of(column[row].as_py(), Path(self.folder))

    def moved(self, old: str, new: str) -> "TableManifest":
        """As ``Manifest``."""
        files = tuple(_moved(file, old, new) for file in self.files)
        return replace(self, folder=_moved(self.folder, old, new), files=files)

    def _find(self, row: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return shard, row - int(self.starts[shard])

    def __reduce__(self) -> tuple[Any, ...]:
        columns = self.columns if self.is_held else {}  # mapped memory would be copied
        bare = (self.folder, self.files, self.starts, self.column, self.ids, self.sizes, columns)
        return TableManifest, bare


def _moved(path: str, old: str, new: str) -> str:
    return f"{new}{path.removeprefix(old)}"


def sorted_rows(manifest: Manifest) -> np.ndarray:
    """The rows in the order of their ids, int64 [M].

    Raises:
        DataError: an id stands twice.
    """
    order_M: np.ndarray = pc.sort_indices(manifest.ids).to_numpy().astype(np.int64)
    in_order = manifest.ids.take(pa.array(order_M))
    twice = pc.equal(in_order[1:], in_order[:-1]).to_numpy(zero_copy_only=False).nonzero()[0]
    if len(twice):
        first, second = order_M[twice[0]], order_M[twice[0] + 1]
        raise DataError(
            f"{manifest.place(int(second))}: id {in_order[int(twice[0])].as_py()!r} is that of "
            f"{manifest.place(int(first))} too"
        )
    return order_M


def _texts(names: list[str], root: Path) -> pa.Array:
    try:
        return pa.array(names, pa.large_string())
    except UnicodeEncodeError as error:  # Python keeps such bytes as surrogates
        name = error.object
        raise DataError(f"{root}: the file name {name!r} is not UTF-8; rename it") from error


def _ids(files: list[Path], num_rows: int) -> pa.Array:
    """The column ``id`` as texts; without one, positions, which sort as texts do."""
    with_ids = [file for file in files if ID_COLUMN in read_schema(file).names]
    if not with_ids:
        return _numbered(np.arange(num_rows))
    if len(with_ids) < len(files):
        without = next(file for file in files if file not in with_ids)
        raise DataError(f"{without}: no column {ID_COLUMN}, which {with_ids[0].name} has")
    return pa.concat_arrays([_ids_of(file) for file in files])


def _ids_of(file: Path) -> pa.Array:
    ids = whole_column(file, ID_COLUMN)
    if ids.null_count:
        raise DataError(f"{file}: {ids.null_count:,} rows have no {ID_COLUMN}")
    if pa.types.is_integer(ids.type):
        return _numbered(ids.to_numpy())
    try:
        return ids.cast(pa.large_string()).combine_chunks()
    except pa.ArrowException as error:
        raise DataError(
            f"{file}: column {ID_COLUMN} is {ids.type}, which cannot be made texts"
        ) from error


def _numbered(numbers_M: np.ndarray) -> pa.Array:
    return pa.array([f"{number:012d}" for number in numbers_M.tolist()], pa.large_string())


def _check_held(files: list[Path], column: str) -> None:
    needed = 0
    for file in files:
        metadata = pq.read_metadata(file)
        for group in range(metadata.num_row_groups):
            of_group = metadata.row_group(group)
            needed += sum(
                of_group.column(index).total_uncompressed_size
                for index in range(of_group.num_columns)
                if of_group.column(index).path_in_schema.split(".")[0] == column
            )
    available = available_bytes()
    if needed > HELD_SHARE * available:
        raise DataError(
            f"{files[0].parent}: the encoded images are {needed / 2**30:.1f} GiB, and parquet "
            f"files can only be read as a whole: allowed is {HELD_SHARE:.0%} of the "
            f"{available / 2**30:.1f} GiB available. Make Arrow files of them, which are read "
            f"image by image: raymd pack parquet:{files[0].parent} OUT"
        )
