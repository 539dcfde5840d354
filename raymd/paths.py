"""Paths as a process in another folder finds them."""

import os
from pathlib import Path


def absolute_path(path: str) -> str:
    """The path from the root on, without ``..``; links in it stay as they are."""
    return os.path.normpath(Path(path).expanduser().absolute())
