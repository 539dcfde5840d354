"""A Ray of our own on whatever machine this is: where its files lie, and that all of it ends.

    the machine -> place, environment -> ray.init (ray_setup.py) -> mark, keeper

What is odd about a machine (a long or read-only TMPDIR, a folder of another user's, no home, little
shared memory) is worked around here and told, or refused before anything starts.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from secrets import token_hex

import ray  # noqa: F401  # psutil is ray's

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.errors import UserError
from raymd.paths import can_write
from raymd.view.text import num_bytes

# Ray's longest path below its folder, and what a Unix socket's may have.
LONGEST = "session_2026-11-23_19-04-07_491558_1234567/sockets/plasma_store"
SOCKET_BYTES = 107 if sys.platform == "linux" else 103
SHARED_MEMORY = Path("/dev/shm")
MARK = "raymd.json"
# Ends when the process at the other end of its input does, however that one ends.
KEEPER = """
import os, signal, sys
kept = []
for line in sys.stdin:
    try:
        kept.append(os.pidfd_open(int(line)))
    except ProcessLookupError:
        pass
for process in kept:
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


@dataclass(frozen=True)
class Place:
    """Where a Ray of our own keeps its sessions.

    Attributes:
        folder: It.
        note: Why not where Ray would have put them; empty if it is there.
    """

    folder: Path
    note: str = ""


def usual_folder() -> Path:
    """Where Ray keeps its sessions unless told otherwise."""
    fallback = os.environ.get("TMPDIR") if sys.platform == "linux" else None
    return Path(os.environ.get("RAY_TMPDIR") or fallback or "/tmp") / "ray"


def other_folders() -> list[Path]:
    """Where we keep them if that cannot be: short paths, every other nobody else's."""
    names = ("ray", f"ray-{os.getuid()}")
    return [root / name for root in (Path("/tmp"), Path("/var/tmp")) for name in names]


def choose_place() -> Place:
    """The first folder that can be written and whose sockets have paths short enough.

    Raises:
        UserError: there is none; with what is wrong with each.
    """
    usual = usual_folder()
    why = _unfit(usual)
    if not why:
        return Place(usual)
    tried = [f"{usual} {why}"]
    for folder in other_folders():
        other = _unfit(folder)
        if not other:
            return Place(folder, f"its files in {folder}, for {usual} {why} (RAY_TMPDIR)")
        tried.append(f"{folder} {other}")
    reasons = "; ".join(dict.fromkeys(tried))
    raise UserError(
        "Ray needs a folder for its sockets that can be written, with a short path (RAY_TMPDIR):"
        f" {reasons}"
    )


def _unfit(folder: Path) -> str:
    """Why Ray cannot use a folder; empty if it can."""
    length = len(os.fsencode(folder / LONGEST))
    if length > SOCKET_BYTES:
        return f"makes paths of {length} bytes, and sockets' may have {SOCKET_BYTES}"
    return "" if can_write(folder) else "cannot be written"  # none is made: Ray gives it its rights


def environment() -> dict[str, str]:
    """What a Ray of our own needs beside the usual: a token where there is no home to keep one."""
    asked_for = os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"
    given = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if not asked_for or given or _has_home():
        return {}
    return {"RAY_AUTH_TOKEN": _token()}


def _has_home() -> bool:
    try:
        token = Path.home() / ".ray" / "auth_token"
    except RuntimeError:  # HOME is unset, and the user is in no list of users
        return False
    return os.access(token, os.R_OK) or (not token.exists() and can_write(token.parent))


@cache
def _token() -> str:
    return token_hex(32)  # one a process, for Ray remembers what it read first


def shared_memory_bytes() -> int | None:
    """Bytes free in shared memory; None where there is none such."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def store_note(free: int | None, *, store: int, folder: Path) -> str:
    """What to say of an object store that shared memory was too small for.

    Args:
        free: Bytes of shared memory before Ray began; None where there is none such.
        store: Bytes that the store may take.
        folder: Where Ray puts it then.

    Returns:
        Empty if it fits.
    """
    if free is None or free >= store:
        return ""
    return (
        f"its objects on disk in {folder}, which is slower, for the store wants {num_bytes(store)}"
        f" and {SHARED_MEMORY} has {num_bytes(free)} (docker run --shm-size={-(-store // 2**30)}g)"
    )


@contextmanager
def keeper() -> Iterator[Callable[[], None]]:
    """A small process that ends Ray's agents after the block, and after a driver that was killed.

    The agents need more than a minute to end after their raylet was killed: they first try to
    report that to a control service which is gone too (60 s, fixed; Ray 2.60). Nothing is done
    where Ray does not tie its processes to ours in the first place (all but Linux).

    Yields:
        To be called in the block once Ray has started.
    """
    if not hasattr(os, "pidfd_open"):
        yield lambda: None
        return
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", KEEPER],
        stdin=subprocess.PIPE,
        text=True,
        cwd="/",  # it holds nobody's folder
        start_new_session=True,  # a terminal's Ctrl-C is the driver's alone
    )

    def watch() -> None:
        assert process.stdin is not None
        raylets = [child for child in psutil.Process().children() if child.name() == "raylet"]
        for agent in (child for raylet in raylets for child in raylet.children()):
            process.stdin.write(f"{agent.pid}\n")
        process.stdin.flush()

    try:
        yield watch
    finally:
        process.communicate()


@contextmanager
def marked(session: Path | None) -> Iterator[None]:
    """Say in a session's folder, while the block runs, that this process's life is its own.

    The mark is a lock that ends with its holder, so `raymd clean` needs no process ids, which other
    containers count anew and machines use again. A block that ends well takes the folder with it;
    after an error Ray's logs stay.
    """
    if session is None:
        yield
        return
    with (session / MARK).open("w", encoding="utf-8") as file:
        with suppress(OSError):  # a filesystem without locks: what is left there stays unknown
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield
    with suppress(OSError):  # something of Ray's still writes; raymd clean finds what stays
        remove_session(session)


def remove_session(session: Path) -> None:
    """Remove a session's folder, and Ray's link to it, which would block the next one's.

    Raises:
        OSError: it is not ours to remove.
    """
    shutil.rmtree(session)
    latest = session.with_name("session_latest")
    if latest.is_symlink() and not latest.exists():
        latest.unlink(missing_ok=True)


def dead_sessions() -> list[Path]:
    """Folders of sessions that a raymd began and has not ended, though it is gone."""
    folders = dict.fromkeys([usual_folder(), *other_folders()])
    marks = [mark for folder in folders for mark in sorted(folder.glob(f"session_2*/{MARK}"))]
    return [mark.parent for mark in marks if _is_let_go(mark)]


def _is_let_go(mark: Path) -> bool:
    try:
        with mark.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return bool(file.read())  # empty: it is being marked, or cannot be locked here
    except OSError:
        return False
