"""Data in an object store: fetched once to a node, into a folder of its cache.

Place on the data's way: before the loaders of datasets.py. A URI enters, a folder of this machine
leaves, with an Origin for the nodes that have to fetch it too. What is named ``KEY`` in the cache
is whole; the key is a hash of the URI and of its files' names, sizes and times, so changed data is
another folder. One process of a node fetches, into ``KEY.part``, while the others wait for its
lock; after an interruption it goes on with what is there.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow.fs as pafs
import xxhash
from filelock import FileLock

from raymd.data.names import check_dataset, takes_folder
from raymd.errors import DataError
from raymd.object_store import explained, open_filesystem
from raymd.paths import is_uri
from raymd.secrets import without_secrets

CACHE_VARIABLE = "RAYMD_DATA_CACHE"
DEFAULT_CACHE = "~/.cache/raymd/data"
THREADS = 16  # each waits for the store most of the time
FILES_AT_ONCE = 4096
PIECE_BYTES = 8 * 2**20
TELL_S = 30.0

Announce = Callable[[str], None]


def silent(line: str) -> None:
    """Announces nothing."""


class RemoteFile(NamedTuple):
    """A file: its path below the URI, with "/"; bytes; when it was written, if that is known."""

    name: str
    num_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Origin:
    """Where a folder of data came from, for nodes that do not have it yet.

    Attributes:
        uri: The object store's.
        key: Of the files that were there.
        cache: The cache's folder that the user named for all nodes; None: each node's own.
        folder: Where the data lie, on the node that this was made on.
    """

    uri: str
    key: str
    cache: str | None
    folder: str

    def on_this_node(self) -> "Origin":
        """The same on this node, which fetches the files unless it has them.

        Raises:
            DataError: the files are no longer those that the driver found, or there is no space.
            StorageAccessError: the store did not answer; what was fetched is kept.
        """
        folder = _cache_folder(self.cache) / self.key
        if not folder.is_dir():
            return fetch(self.uri, cache=self.cache, key=self.key)
        return replace(self, folder=str(folder))


class Local(NamedTuple):
    """A data set's argument and folder as loaders take them, and where they were fetched from."""

    argument: str
    data_dir: Path | None
    origin: Origin | None


def made_local(
    spec: str,
    data_dir: Path | str | None,
    *,
    cache: str | None = None,
    announce: Announce = silent,
) -> Local:
    """Fetch what a data set's spec or ``--data_dir`` names by URI; all else stays as it is.

    Args:
        spec, data_dir, cache, announce: As for ``load_dataset``.

    Raises:
        UserError, DataError: as ``fetch``.
    """
    name, argument = check_dataset(spec)
    if takes_folder(name):
        folder, origin = _on_disk(argument, cache, announce, flag="--dataset")
        return Local(folder, Path(data_dir) if data_dir else None, origin)
    if not data_dir:
        return Local(argument, None, None)
    folder, origin = _on_disk(str(data_dir), cache, announce, flag="--data_dir")
    return Local(argument, Path(folder), origin)


def _on_disk(
    place: str, cache: str | None, announce: Announce, *, flag: str
) -> tuple[str, Origin | None]:
    if not is_uri(place):
        return place, None
    filesystem, path = open_filesystem(place, flag=flag)
    if isinstance(filesystem, pafs.LocalFileSystem):  # file://…
        return path, None
    origin = fetch(place, cache=cache, announce=announce, flag=flag)
    return origin.folder, origin


def fetch(
    uri: str,
    *,
    cache: str | None = None,
    key: str | None = None,
    announce: Announce = silent,
    flag: str = "--dataset",
) -> Origin:
    """Bring all files below a URI into this node's cache, unless they are there.

    Args:
        uri: Of a folder in an object store.
        cache: The cache's folder; None: RAYMD_DATA_CACHE, or DEFAULT_CACHE.
        key: What the files have to be; None: whatever is there.
        announce: Takes lines of how far it is.
        flag: That the user said.

    Raises:
        UserError: the store is not known, or says no.
        DataError: no files, other ones than wanted, names that leave the folder, or no space.
        StorageAccessError: the store did not answer; what was fetched is kept.
    """
    shown = without_secrets(uri)
    filesystem, root = open_filesystem(uri, flag=flag)
    files = _listing(filesystem, root, shown, flag)
    found = _key(uri, files)
    if key not in (None, found):
        raise DataError(
            f"{shown}: the files are no longer those that the run found when it started; --resume"
            f" says whether they are still the same data ({flag})"
        )
    folder = _cache_folder(cache) / found
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with explained(shown):
                _fetch_all(filesystem, root, files, folder, shown, announce)
    return Origin(uri, found, cache, str(folder))


def _cache_folder(cache: str | None) -> Path:
    return Path(cache or os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE).expanduser().absolute()


def _listing(filesystem: pafs.FileSystem, root: str, shown: str, flag: str) -> list[RemoteFile]:
    with explained(shown):
        selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
        infos = filesystem.get_file_info(selector)
    files = [
        RemoteFile(info.path.removeprefix(f"{root}/"), info.size, info.mtime_ns or 0)
        for info in infos
        if info.type == pafs.FileType.File
    ]
    if not files:
        raise DataError(f"{shown}: no files are there; mind bucket and folder ({flag})")
    for file in files:
        if ".." in PurePosixPath(file.name).parts or PurePosixPath(file.name).is_absolute():
            raise DataError(f"{shown}: the name {file.name!r} leads out of the folder ({flag})")
    return sorted(files)


def _key(uri: str, files: Sequence[RemoteFile]) -> str:
    place = without_secrets(uri.rstrip("/"), environment={})  # alike on all nodes
    return xxhash.xxh3_128_hexdigest(json.dumps([place, *files]).encode())


def _fetch_all(
    filesystem: pafs.FileSystem,
    root: str,
    files: Sequence[RemoteFile],
    folder: Path,
    shown: str,
    announce: Announce,
) -> None:
    part = folder.with_name(f"{folder.name}.part")
    missing = [file for file in files if not _is_there(part / file.name, file.num_bytes)]
    total = sum(file.num_bytes for file in missing)
    part.mkdir(exist_ok=True)
    free = shutil.disk_usage(part).free
    if total > free:
        raise DataError(
            f"{shown}: {_size(total)} are to be fetched, but {_size(free)} are free in"
            f" {folder.parent} (--data_cache DIR or {CACHE_VARIABLE}: a folder on a larger disk)"
        )
    announce(f"fetching {len(missing):,} files, {_size(total)}, of {shown} into {folder.parent}")

    def copy(file: RemoteFile) -> int:
        _copy(filesystem, f"{root}/{file.name}", part / file.name, file.num_bytes)
        return file.num_bytes

    done, told = 0, time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(missing), FILES_AT_ONCE):  # so an interrupt need not wait long
            for num_bytes in pool.map(copy, missing[first : first + FILES_AT_ONCE]):
                done += num_bytes
                if time.monotonic() - told > TELL_S:
                    told = time.monotonic()
                    announce(f"fetched {_size(done)} of {_size(total)}")
    os.sync()  # all is on the disk before the name says so
    part.rename(folder)


def _is_there(path: Path, num_bytes: int) -> bool:
    try:
        return path.stat().st_size == num_bytes
    except OSError:
        return False


def _copy(filesystem: pafs.FileSystem, source: str, target: Path, num_bytes: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    with filesystem.open_input_stream(source) as stream, temporary.open("wb") as file:
        while piece := stream.read(PIECE_BYTES):
            file.write(piece)
    got = temporary.stat().st_size
    if got != num_bytes:
        raise DataError(f"{source}: {got:,} of {num_bytes:,} bytes came; was it changed meanwhile?")
    temporary.replace(target)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**29 else f"{num_bytes / 2**20:.1f} MiB"
