"""Paths as a process in another folder finds them."""

import os
from pathlib import Path


def absolute_path(path: str) -> str:
    """The path from the root on, without ``..``; links in it stay as they are, and so do URIs."""
    if is_uri(path):
        return path
    return os.path.normpath(Path(path).expanduser().absolute())


def is_uri(text: str) -> bool:
    """Whether it is meant for a filesystem of pyarrow (``s3://…``), and is no path of a machine."""
    return "://" in text
