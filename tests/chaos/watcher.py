"""Looks at a run's committed files again and again: what was there once may go, never change."""

from contextlib import suppress
from pathlib import Path

import xxhash

# Pure functions of (seed, student, position), so whoever writes them again writes the same bytes.
WATCHED = ("teacher/**/*", "soft_labels/**/*", "students/*/checkpoints/*.safetensors")

Stamp = tuple[int, int, int]  # inode, mtime in ns, bytes


class Watcher:
    """Remembers the bytes of every teacher, soft label and checkpoint that it has seen.

    Args:
        folder: The run directory; it may come later.

    Attributes:
        changed: Files whose bytes were not always the same.
        written_again: How often a file was committed again, byte for byte.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changed: set[str] = set()
        self.written_again = 0
        self._sums: dict[str, str] = {}
        self._stamps: dict[str, Stamp] = {}

    def look(self) -> None:
        """See what is there now."""
        for pattern in WATCHED:
            with suppress(FileNotFoundError):  # a folder was deleted: the rest is for the next look
                for path in self.folder.glob(pattern):
                    if not path.name.endswith(".tmp"):
                        self._look_at(path)

    def _look_at(self, path: Path) -> None:
        name = path.relative_to(self.folder).as_posix()
        try:
            stat = path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if not path.is_file() or self._stamps.get(name) == stamp:
                return
            found = xxhash.xxh3_128_hexdigest(path.read_bytes())
        except FileNotFoundError:
            return  # deleted in between
        if name in self._sums:
            self.written_again += 1
            if self._sums[name] != found:
                self.changed.add(name)
        self._stamps[name], self._sums[name] = stamp, found
