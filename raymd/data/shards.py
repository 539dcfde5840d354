"""Which files of a folder are the training part, which the test part.

Place on the data's way: tables.py asks for a folder's files. Known are the hub's
``data/train-00000-of-00002.parquet``, ``train.parquet``, ``train/0000.parquet``, and what
``save_to_disk`` writes: ``train/data-00000-of-00002.arrow``, or of one part ``data-….arrow``.
"""

import re
from pathlib import Path

from raymd.data.names import part_of
from raymd.data.parts import choose_test
from raymd.errors import DataError

_NAME = re.compile(
    r"(?P<stem>.*?)"
    r"(?:[-_.]?(?P<index>\d+)(?:-of-(?P<count>\d+))?(?:-[0-9a-f]{8,})?)?"
    r"\.(?P<suffix>parquet|arrow)",
    re.IGNORECASE,
)


def find_parts(folder: Path, *, suffix: str) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """The files of "train" and, if there is one, of "test", each in order; and notes.

    Args:
        folder: Looked through with its folder ``data``.
        suffix: "parquet" or "arrow".

    Raises:
        DataError: no folder, no training part, or a shard missing.
    """
    usage = f"{suffix}:DIR (--dataset) needs train.{suffix} or train-00000-of-….{suffix} in DIR"
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"folder {folder.absolute()} {what}; {usage}")
    for base in (folder, folder / "data"):
        parts = _parts_in(base, suffix)
        if "train" in parts:
            return choose_test(parts)
    there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:10])
    raise DataError(
        f"no training part in {folder.absolute()}; {usage}, which has: {there or 'nothing'}"
    )


def has_parts(folder: Path, *, suffix: str, by_name: bool = False) -> bool:
    """Whether ``find_parts`` would find a training part; ``by_name``: in files called after it."""
    bases = (folder, folder / "data")
    if by_name:
        return any(_part(file) == "train" for base in bases for file in _files(base, suffix))
    return any("train" in _parts_in(base, suffix) for base in bases)


def _parts_in(base: Path, suffix: str) -> dict[str, list[Path]]:
    parts: dict[str, list[Path]] = {}
    unnamed = []
    for file in _files(base, suffix):
        part = _part(file)
        if part:
            parts.setdefault(part, []).append(file)
        else:
            unnamed.append(file)
    for entry in sorted(base.iterdir()) if base.is_dir() else ():
        part = part_of(entry.name)
        files = _files(entry, suffix) if part and entry.is_dir() else []
        if part and files:
            parts.setdefault(part, files)
    if not parts and unnamed:
        parts = {"train": unnamed}
    for files in parts.values():
        _check_complete(files)
    return parts


def _part(file: Path) -> str | None:
    match = _NAME.fullmatch(file.name)
    return part_of(match["stem"]) if match else None


def _files(folder: Path, suffix: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() == f".{suffix}"
        and not entry.name.startswith((".", "cache-"))  # cache-…: what `map` left behind
        and entry.is_file()
    )


def _check_complete(files: list[Path]) -> None:
    numbered = [match for file in files if (match := _NAME.fullmatch(file.name)) and match["count"]]
    if not numbered:
        return
    expected = int(numbered[0]["count"])
    missing = sorted(set(range(expected)) - {int(match["index"]) for match in numbered})
    if missing:
        shown = ", ".join(f"{number:05d}" for number in missing[:5])
        where = files[0].parent.absolute()
        name = numbered[0]["stem"]
        raise DataError(
            f"{where}: {name} has {len(numbered)} of {expected} shards; missing: {shown}"
        )
