"""Data in an object store: fetched once to a node, into a folder of its cache.

Place on the data's way: before the loaders of datasets.py. A URI enters, a folder of this machine
leaves, with an Origin for the nodes that have to fetch it too. What is named ``KEY`` in the cache
is whole (cache.py); the key is a hash of the URI and of its files' names, sizes and times, so
changed data is another folder.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow.fs as pafs
import xxhash

from raymd.data.cache import Announce, Remote, RemoteFile, cache_folder, can_read, fill
from raymd.data.names import check_dataset, takes_folder
from raymd.errors import DataError
from raymd.object_store import explained, open_filesystem
from raymd.paths import is_uri
from raymd.secrets import without_secrets


def silent(line: str) -> None:
    """Announces nothing."""


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
            DataError: the files are no longer those that the driver found, or they cannot be kept.
            StorageAccessError: the store did not answer; what was fetched is kept.
        """
        folder = cache_folder(self.cache) / self.key
        if not can_read(folder):
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
    if place.lower().startswith("file:"):  # no store is opened twice: fetch does
        return open_filesystem(place, flag=flag)[1], None
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
        DataError: no files, other ones than wanted, names that leave the folder, no space, or a
            cache that cannot be written.
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
    folder = cache_folder(cache) / found
    fill(folder, Remote(filesystem, root, files, shown, flag), announce=announce)
    named = cache and str(folder.parent)  # workers stand in other folders
    return Origin(uri, found, named, str(folder))


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
