"""Storages that tell of their writes. No torch here, for the aggregator is handed them too."""

import os
import time
from pathlib import Path
from typing import Any

from raymd.storage import Storage


class TimedStorage(Storage):
    """Notes the seconds of its writes in a folder beside it; a file for each process."""

    def __reduce__(self) -> tuple[type["TimedStorage"], tuple[str]]:
        return TimedStorage, (self.uri,)

    def write(self, name: str, data: Any) -> None:
        started = time.perf_counter()
        super().write(name, data)
        seconds = time.perf_counter() - started
        notes = Path(self.uri + ".times")
        notes.mkdir(exist_ok=True)
        with (notes / str(os.getpid())).open("a") as file:
            file.write(f"{seconds}\n")

    def seconds(self) -> float:
        """Of all writes, of all processes together."""
        files = Path(self.uri + ".times").glob("*")
        return sum(float(line) for file in files for line in file.read_text().splitlines())


class UnwrittenStorage(Storage):
    """Keeps the records and no block's bytes: what is left is the exchange without its storage."""

    def __reduce__(self) -> tuple[type["UnwrittenStorage"], tuple[str]]:
        return UnwrittenStorage, (self.uri,)

    def write(self, name: str, data: Any) -> None:
        if not name.endswith(".arrow"):
            super().write(name, data)

    def seconds(self) -> float:
        """None of them."""
        return 0.0
