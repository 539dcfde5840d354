"""Committed files: the only things that survive a crash, and the only way to write or trust one.

A file counts when a *record* names it: a small JSON, written last, with each file's length and
checksum, whatever the writer wants to say, and a checksum of all that. Locally both are written to
a temporary name, synced and renamed; on an object store a put is atomic, and the record comes after
the files. So a reader that finds a record finds whole files, or learns which was damaged since.
"""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import xxhash

from raymd.errors import StorageError, StorageFullError, StorageWriteError, UserError
from raymd.object_store import explain, explained, open_filesystem
from raymd.paths import is_uri

FILES = "files"
CHECKSUM = "xxh3_128"
DELETE_ATTEMPTS = 10
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def checksum(data: Any) -> str:
    """xxh3-128 of a buffer, as hex. It finds damage; it is no defence against an attacker."""
    return xxhash.xxh3_128_hexdigest(memoryview(data).cast("B"))


def _seal(document: Mapping[str, Any]) -> str:
    """The checksum of what a record says, however it is laid out."""
    return checksum(json.dumps(document, sort_keys=True).encode())


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in path.parents if folder.exists())


@dataclass(frozen=True)
class Storage:
    """One run's folder, local or on any filesystem of pyarrow (``s3://…``). Picklable.

    Attributes:
        uri: Where it is; relative local paths are made absolute.
    """

    uri: str
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)

    @classmethod
    def at(cls, uri: str | os.PathLike[str]) -> "Storage":
        """The storage at a local path or a URI.

        Raises:
            UserError: no filesystem knows the scheme.
            StorageRefusedError, StorageAccessError: a store that was asked for its region.
        """
        text = os.fspath(uri)
        if not is_uri(text):
            return cls(str(Path(text).expanduser().absolute()))
        filesystem, path = open_filesystem(text)
        if isinstance(filesystem, pafs.LocalFileSystem):
            return cls(path)  # a folder like any other: made when missing, written by renaming
        folder, *query = text.split("?", 1)
        return cls("?".join([folder.rstrip("/"), *query]), {"fs": (filesystem, path)})

    @classmethod
    def to_write(cls, uri: str) -> "Storage":
        """The storage that a user wants written, opened and tried.

        Raises:
            UserError: it cannot be, for whatever reason; names it and --storage.
        """
        try:
            storage = cls.at(uri)
        except OSError as error:
            reason = explain(error.__cause__ or error)
            raise UserError(
                f"storage {uri!r} cannot be opened ({reason}); choose another: --storage DIR"
            ) from error
        storage.check_writable()
        return storage

    def __reduce__(self) -> tuple[type["Storage"], tuple[str]]:
        return Storage, (self.uri,)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine (or a mount)."""
        return not is_uri(self.uri)

    @property
    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        """pyarrow's filesystem, one connection for all who ask, and this folder's path in it."""
        if "fs" not in self._cache:
            self._cache["fs"] = open_filesystem(self.uri)
        return self._cache["fs"]

    @contextmanager
    def _remote(self) -> Iterator[pafs.FileSystem]:
        """The filesystem; inside the block an object store's errors have remedies."""
        with explained(self.uri):
            yield self.filesystem[0]

    def _path(self, name: str) -> str:
        root = self.filesystem[1].rstrip("/")
        return f"{root}/{name}" if name else root

    def sub(self, name: str) -> "Storage":
        """The storage of a folder below this one, with the same options (``s3://…?region=…``)."""
        folder, *query = [self.uri] if self.is_local else self.uri.split("?", 1)
        below = Storage("?".join([f"{folder.rstrip('/')}/{name}", *query]))
        if not self.is_local:  # one connection for all; opening another asks for the region again
            below._cache["fs"] = (self.filesystem[0], self._path(name))
        return below

    # -- whole files ------------------------------------------------------------------

    def write(self, name: str, data: Any) -> None:
        """Write one file so that it is there whole or not at all.

        Raises:
            StorageFullError: the disk or its quota is full. What was there before still is.
            StorageWriteError: the disk is read-only, the folder is somebody else's, or an object
                store says no.
            StorageAccessError: an object store did not take it, but may do so later.
            OSError: anything else that a filesystem may say.
        """
        try:
            if self.is_local:
                self._write_local(Path(self._path(name)), data)
            else:
                with (
                    self._remote() as filesystem,
                    filesystem.open_output_stream(self._path(name)) as stream,
                ):
                    stream.write(memoryview(data).cast("B"))
        except OSError as error:
            if error.errno in FULL:
                raise StorageFullError(self._full(name, error)) from error
            if error.errno in REFUSED:
                raise StorageWriteError(
                    f"{self.uri}/{name} cannot be written ({error.strerror}); what was committed"
                    " before is intact. Make it writable again, then --resume"
                ) from error
            raise

    def _full(self, name: str, error: OSError) -> str:
        left = ""
        if self.is_local:
            usage = shutil.disk_usage(_nearest_folder(Path(self._path(name))))
            left = f", {usage.free:,} of {usage.total:,} bytes are free"
        return (
            f"{self.uri}/{name} cannot be written ({error.strerror}{left}); what was committed"
            " before is intact. Free space there, or copy the run's folder to a larger disk and"
            " name its place (--storage); then --resume"
        )

    def _write_local(self, path: Path, data: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def read(self, name: str) -> pa.Buffer:
        """A file's bytes (memory-mapped when local).

        Raises:
            FileNotFoundError: there is no such file.
        """
        if self.is_local:
            path = Path(self._path(name))
            if path.stat().st_size == 0:
                return pa.py_buffer(b"")
            with pa.memory_map(str(path)) as source:
                return source.read_buffer()
        with (
            self._remote() as filesystem,
            filesystem.open_input_file(self._path(name)) as source,
        ):
            return source.read_buffer()

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        with self._remote() as filesystem:
            info = filesystem.get_file_info(self._path(name))
        return info.type != pafs.FileType.NotFound

    def list(self, folder: str = "") -> list[str]:
        """Sorted names of the files and folders right inside a folder; none if it is missing."""
        selector = pafs.FileSelector(self._path(folder), allow_not_found=True)
        with self._remote() as filesystem:
            infos = filesystem.get_file_info(selector)
        return sorted(i.base_name for i in infos if not i.base_name.endswith(".tmp"))

    def delete(self, name: str) -> None:
        """Remove a file or a whole folder; nothing happens if it is not there."""
        for attempt in range(1, DELETE_ATTEMPTS + 1):
            try:
                return self._delete(self._path(name))
            except FileNotFoundError:
                continue  # somebody else removed it in between; there may be more inside
            except OSError as error:
                # Somebody wrote into it in between: a student that publishes again, say.
                if error.errno != errno.ENOTEMPTY or attempt == DELETE_ATTEMPTS:
                    raise
        return None

    def _delete(self, path: str) -> None:
        with self._remote() as filesystem:
            kind = filesystem.get_file_info(path).type
            if kind == pafs.FileType.Directory:
                filesystem.delete_dir(path)
            elif kind != pafs.FileType.NotFound:
                filesystem.delete_file(path)

    # -- committed files --------------------------------------------------------------

    def commit(
        self, record: str, fields: Mapping[str, Any], *, files: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write files, then the record that makes them count.

        Args:
            record: Name of the record, ending in ``.json``.
            fields: What it says beside its files; JSON.
            files: Bytes by name. Names are relative to the storage, not to the record.

        Returns:
            What the record says: the fields, and under ``files`` an entry for each file, beside
            those that the fields brought along.
        """
        entries = {}
        for name, data in (files or {}).items():
            self.write(name, data)
            view = memoryview(data).cast("B")
            entries[name] = {"bytes": view.nbytes, "xxh3_128": checksum(view)}
        said = {**fields, FILES: {**fields.get(FILES, {}), **entries}}
        document: dict[str, Any] = json.loads(json.dumps(said))  # as it will be read back
        sealed = {**document, CHECKSUM: _seal(document)}
        self.write(record, json.dumps(sealed, indent=1, sort_keys=True).encode())
        return document

    def record(self, record: str) -> dict[str, Any] | None:
        """What a record says, or None if it was never written.

        One without a checksum of itself is trusted: older versions wrote them, and people may.

        Raises:
            StorageError: it is there and is not JSON, or not what was written.
        """
        try:
            text = self.read(record).to_pybytes()
        except (FileNotFoundError, NotADirectoryError):  # or a file where its folder would be
            return None
        try:
            document = json.loads(text)
        except ValueError as error:
            raise StorageError(f"{self.uri}/{record} is damaged: {error}") from error
        if not isinstance(document, dict):
            raise StorageError(f"{self.uri}/{record} is damaged: it holds no object")
        expected = document.pop(CHECKSUM, None)
        if expected is not None and expected != _seal(document):
            raise StorageError(f"{self.uri}/{record} is damaged: it does not match its checksum")
        return document

    def read_committed(self, name: str, *, record: Mapping[str, Any]) -> pa.Buffer:
        """A file that a record names, checked against it.

        Raises:
            StorageError: it is missing, truncated or altered.
        """
        entry = record[FILES][name]
        try:
            data = self.read(name)
        except FileNotFoundError as error:
            raise StorageError(f"{self.uri}/{name} is missing, though committed") from error
        if data.size != entry["bytes"]:
            raise StorageError(
                f"{self.uri}/{name} is truncated: {data.size} of {entry['bytes']} bytes"
            )
        if checksum(data) != entry["xxh3_128"]:
            raise StorageError(f"{self.uri}/{name} does not match its checksum")
        return data

    def check_committed(self, record: str) -> dict[str, Any] | None:
        """What a record says, all of whose files were found intact; None if it was never written.

        Raises:
            StorageError: the record or one of its files is damaged.
        """
        document = self.record(record)
        for name in (document or {}).get(FILES, {}):
            self.read_committed(name, record=document or {})
        return document

    def remove_committed(self, record: str) -> None:
        """Remove a record first, then its files: never a record without them."""
        document = self.record(record)
        self.delete(record)
        for name in (document or {}).get(FILES, {}):
            self.delete(name)

    def records(self, folder: str) -> Iterable[str]:
        """Names of the records right inside a folder, sorted."""
        return [f"{folder}/{name}" for name in self.list(folder) if name.endswith(".json")]

    def remove_leftovers(self, folder: str) -> None:
        """Remove what dead writers left right inside a folder; nobody else may be writing there."""
        if self.is_local:
            for path in Path(self._path(folder)).glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def check_writable(self) -> None:
        """Write, read back and remove a probe file.

        Raises:
            UserError: naming the folder and --storage.
        """
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            self.write(probe, np.arange(8, dtype=np.uint8))
            self.read(probe)
            self.delete(probe)
        except OSError as error:
            # what was said, without write's remedy: nothing was committed yet
            reason = explain(error.__cause__ or error)
            raise UserError(
                f"storage {self.uri!r} cannot be written ({reason}); choose another: --storage DIR"
            ) from error

    @contextmanager
    def left_as_it_was(self) -> Iterator[None]:
        """Afterwards remove the folders that were made for it inside the block; those in which
        somebody has begun something stay. On an object store an empty marker may stay, since
        pyarrow removes folders only with all that is in them."""
        made = []
        if self.is_local:
            made = [path for path in (Path(self.uri), *Path(self.uri).parents) if not path.exists()]
        try:
            yield
        finally:
            for path in made:
                with suppress(OSError):  # not empty, or never made
                    path.rmdir()
