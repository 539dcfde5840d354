"""A study that goes on without its terminal: one process a study, a log, and who it is.

A study's folder holds ``lock``, held as long as its process lives, ``pid`` of that process, and
``log.txt`` of one that was sent to the background.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK, PID, LOG = "lock", "pid", "log.txt"
START_PATIENCE_S = 20.0


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether no other process runs the study; none begins inside the block if so.

    The lock ends with its process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        (folder / PID).write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield True
    finally:
        lock.release()


def is_running(folder: Path) -> bool:
    """Whether some process runs the study now."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def running_pid(folder: Path) -> str:
    """Who runs it, as that process wrote it."""
    try:
        return (folder / PID).read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"


def detach(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Begin the same command in a session of its own, which the terminal's end does not end.

    Args:
        words: The command's, without ``--background``.
        folder: Of the study; output is added to its log.

    Returns:
        The process, once it holds the study's lock or has ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tuning.paper", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < until and process.poll() is None and not is_running(folder):
        time.sleep(0.1)
    return process
