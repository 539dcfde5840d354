"""`python -m raymd.fit` in processes of their own, to be watched, stopped and killed."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray  # noqa: F401  # psutil is ray's

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from tests.execution.conftest import descendants, wait_until


@dataclass
class Command:
    """`python -m raymd.fit` in a process of its own, its output in files."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until it has printed a text so many times."""

        def printed() -> bool:
            assert self.process.poll() is None, f"it ended: {self.out}\n{self.err}"
            return self.out.count(text) >= times

        wait_until(printed, f"{text!r} in {self.folder / 'out'}", timeout_s=400)

    def end(self) -> int:
        return self.process.wait(timeout=400)


def as_flags(settings: Mapping[str, str]) -> list[str]:
    """Settings as a command line has them."""
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[list[Command]]:
    """Commands begun in a test; whatever is left of them is ended with it."""
    begun: list[Command] = []
    yield begun
    for command in begun:
        if command.process.poll() is None:
            left = descendants(command.process.pid)
            command.process.kill()
            command.process.wait()
            psutil.wait_procs(left, timeout=60)


def start(begun: list[Command], tmp_path: Path, *flags: str) -> Command:
    folder = tmp_path / f"command-{len(begun)}"
    folder.mkdir()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "raymd.fit", "--storage", str(tmp_path / "runs"), *flags],
            cwd=tmp_path,
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"},
        )
    begun.append(Command(process, folder))
    return begun[-1]
