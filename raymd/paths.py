"""Paths as a process in another folder finds them."""

import os
from pathlib import Path, PurePosixPath


def absolute_path(path: str) -> str:
    """The path from the root on, without ``..``; links in it stay as they are, and so do URIs."""
    if is_uri(path):
        return path
    return os.path.normpath(Path(path).expanduser().absolute())


def lies_in(uri: str, folder: str) -> bool:
    """Whether one URI names the folder of the other, or something below it."""
    return _place(uri).is_relative_to(_place(folder))


def _place(uri: str) -> PurePosixPath:
    """Without options, and without credentials; before Azure's @ is the container."""
    scheme, _, rest = uri.partition("?")[0].partition("://")
    who, _, bucket = rest.rpartition("@")
    if who and not scheme.startswith("abfs"):
        rest = bucket
    return PurePosixPath(scheme) / rest.lstrip("/")


def can_write(folder: Path) -> bool:
    """Whether a folder can be written, or made; nothing is made, and no error where one may not
    even look."""
    existing = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def is_uri(text: str) -> bool:
    """Whether it is meant for a filesystem of pyarrow (``s3://…``), and is no path of a machine."""
    return "://" in text
