"""A folder that stands for files of an object store, filled once.

    KEY         whole: a rename gave it its name
    KEY.part    whole files, some of them; after an interruption they need not come again
    KEY.*.tmp   files that one process is writing at the moment
    KEY.lock    of the process that fetches, while others of the node wait

Place on the data's way: below remote.py. Where a cache lies on a mount of several nodes whose locks
hold on one node alone, two processes may fill it at a time. So none writes a file that another one
does, and whoever comes second finds that all is there.
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow.fs as pafs
from filelock import FileLock

from raymd.errors import DataError, RaymdError
from raymd.object_store import explained
from raymd.paths import can_write

CACHE_VARIABLE = "RAYMD_DATA_CACHE"
DEFAULT_CACHE = "~/.cache/raymd/data"
THREADS = 16  # each waits for the store most of the time
FILES_AT_ONCE = 4096
PIECE_BYTES = 8 * 2**20
TELL_S = 30.0

Announce = Callable[[str], None]


class RemoteFile(NamedTuple):
    """A file: its path below the URI, with "/"; bytes; when it was written, if that is known."""

    name: str
    num_bytes: int
    mtime_ns: int


class Remote(NamedTuple):
    """Files of an object store: where, what, and how people are told of them."""

    filesystem: pafs.FileSystem
    root: str
    files: Sequence[RemoteFile]
    shown: str
    flag: str


def cache_folder(cache: str | None) -> Path:
    """The cache's folder on this node; nothing is made.

    Raises:
        DataError: there is no home folder that it could lie in.
    """
    text = cache or os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # no HOME, and no such user
        raise DataError(
            f"data cache {text!r}: there is no home folder here (--data_cache DIR or"
            f" {CACHE_VARIABLE})"
        ) from error


def usable(cache: str | None) -> str | None:
    """The cache that was named on another machine, if it can be one here, else None."""
    if cache is None:
        return None
    folder = cache_folder(cache)
    return cache if can_read(folder) or can_write(folder) else None


def can_read(folder: Path) -> bool:
    """Whether a folder is there for us; no error where one may not even look."""
    return os.access(folder, os.R_OK | os.X_OK)


def fill(folder: Path, remote: Remote, *, announce: Announce) -> None:
    """Bring files into a folder of the cache, unless it is there.

    Args:
        folder: ``KEY`` in the cache.
        remote: What belongs into it.
        announce: Takes lines of how far it is.

    Raises:
        DataError: no space, no right to write, or a file that is another one now.
        StorageRefusedError, StorageAccessError: as ``explained``; what was fetched is kept.
    """
    if can_read(folder):  # no lock: it may be another user's
        return
    with _explained(folder, remote), explained(remote.shown):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _fill(folder, remote, announce)


@contextmanager
def _explained(folder: Path, remote: Remote) -> Iterator[None]:
    """Inside the block, what the system says of the cache becomes an error with a remedy."""
    try:
        yield
    except RaymdError:
        raise
    except OSError as error:
        raise DataError(
            f"{remote.shown}: cannot be kept in {folder.parent} ({error}); name another cache"
            f" (--data_cache DIR or {CACHE_VARIABLE}), or data whose names fit a disk"
            f" ({remote.flag})"
        ) from error


def _fill(folder: Path, remote: Remote, announce: Announce) -> None:
    part = folder.with_name(f"{folder.name}.part")
    own = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        own.mkdir()
        _fetch_missing(part, own, remote, announce)
        os.sync()  # all is on the disk before the name says so
        part.rename(folder)
    except (OSError, DataError):
        if not folder.is_dir():
            raise
        shutil.rmtree(part, ignore_errors=True)  # another node's process was first
    finally:
        shutil.rmtree(own, ignore_errors=True)
    for left in folder.parent.glob(f"{folder.name}.*.tmp"):  # by processes that were killed
        shutil.rmtree(left, ignore_errors=True)


def _missing(part: Path, remote: Remote) -> list[RemoteFile]:
    return [file for file in remote.files if not _is_there(part / file.name, file.num_bytes)]


def _is_there(path: Path, num_bytes: int) -> bool:
    try:
        return path.stat().st_size == num_bytes
    except OSError:
        return False


def _fetch_missing(part: Path, own: Path, remote: Remote, announce: Announce) -> None:
    missing = _missing(part, remote)
    total = sum(file.num_bytes for file in missing)
    part.mkdir(exist_ok=True)
    free = shutil.disk_usage(part).free
    if total > free:
        raise DataError(
            f"{remote.shown}: {_size(total)} are to be fetched, but {_size(free)} are free in"
            f" {part.parent} (--data_cache DIR or {CACHE_VARIABLE}: a folder on a larger disk)"
        )
    announce(
        f"fetching {len(missing):,} files, {_size(total)}, of {remote.shown} into {part.parent}"
    )

    def copy(file: RemoteFile) -> int:
        source = f"{remote.root}/{file.name}"
        _copy(remote.filesystem, source, part / file.name, own, file.num_bytes)
        return file.num_bytes

    done, told = 0, time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(missing), FILES_AT_ONCE):  # so an interrupt need not wait long
            for num_bytes in pool.map(copy, missing[first : first + FILES_AT_ONCE]):
                done += num_bytes
                if time.monotonic() - told > TELL_S:
                    told = time.monotonic()
                    announce(f"fetched {_size(done)} of {_size(total)}")
    if lost := _missing(part, remote):
        raise DataError(
            f"{remote.shown}: {lost[0].name} was fetched, and is gone again from {part}; does"
            " another program tidy there?"
        )


def _copy(
    filesystem: pafs.FileSystem, source: str, target: Path, own: Path, num_bytes: int
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = own / uuid.uuid4().hex
    with filesystem.open_input_stream(source) as stream, temporary.open("wb") as file:
        while piece := stream.read(PIECE_BYTES):
            file.write(piece)
    got = temporary.stat().st_size
    if got != num_bytes:
        raise DataError(f"{source}: {got:,} of {num_bytes:,} bytes came; was it changed meanwhile?")
    temporary.replace(target)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**29 else f"{num_bytes / 2**20:.1f} MiB"
