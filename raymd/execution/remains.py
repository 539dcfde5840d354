"""What raymd left in Ray: sessions on this machine, and actors in a cluster, whose driver is gone.

Place on the data's way: beside it; `raymd clean` lists and removes it. Nothing that lives is in it,
and nothing that raymd did not begin: a session bears its driver's mark (own_ray.py), an actor
raymd's namespace and its driver's job.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import ray

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.errors import UserError
from raymd.execution.admission import MONITOR_PREFIX, NAME
from raymd.execution.compat import NamedActor, named_actors
from raymd.execution.monitor import NAMESPACE
from raymd.execution.own_ray import dead_sessions, remove_session, usual_folder
from raymd.execution.ray_setup import check_reachable, connected

END_S = 10.0
# in a title or in a word of the command line
RAYS_OWN = ("ray::", "/ray/core/", "/ray/_private/", "/ray/dashboard/")


@dataclass(frozen=True)
class Remains:
    """Something that may go.

    Attributes:
        place: ``machine`` or ``cluster``.
        name: A session's folder, or an actor's name.
        why: What it is, for people.
        num_bytes: In all; what actors hold is not known.
        remove: Removes it; OSError if that cannot be.
    """

    place: str
    name: str
    why: str
    num_bytes: int
    remove: Callable[[], None] = field(compare=False, repr=False)


def on_machine() -> list[Remains]:
    """Sessions of this machine that raymd began and whose driver is gone, with their processes."""
    found = []
    for session in dead_sessions():
        left = _processes(session)
        why = f"Ray of a raymd that is gone, {len(left)} of its processes running"
        found.append(
            Remains("machine", str(session), why, _num_bytes(session), partial(_end, session))
        )
    return found


def _end(session: Path) -> None:
    processes = _processes(session)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=END_S)
    remove_session(session)


def _processes(session: Path) -> list[psutil.Process]:
    """Ray's processes that write into a session's folder; of others' nothing can be seen."""
    return [process for process in psutil.process_iter() if _is_of(process, f"{session}/")]


def _is_of(process: psutil.Process, folder: str) -> bool:
    try:
        words = process.cmdline()
        return any(part in word for word in words for part in RAYS_OWN) and any(
            file.path.startswith(folder) for file in process.open_files()
        )
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return False


def _num_bytes(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    total = 0
    for path in files:
        with suppress(FileNotFoundError):  # it goes on shrinking by itself
            total += path.stat().st_size
    return total


@contextmanager
def in_cluster(address: str | None) -> Iterator[list[Remains]]:
    """Actors of raymd's in a cluster whose driver is gone; they can be removed inside the block.

    Args:
        address: The cluster's; None, ``auto``, ``local``: that of a Ray started on this machine,
            if there is one.

    Raises:
        UserError: nobody answers at the address.
    """
    if address in (None, "", "auto", "local"):
        address = started_here()
    if address is None:
        yield []
        return
    with connected(address=address, verbose=False):
        yield [
            Remains(
                "cluster", actor.name, "actor of a raymd that is gone", 0, partial(_kill, actor)
            )
            for actor in orphaned(named_actors(NAMESPACE))
        ]


def started_here() -> str | None:
    """Address of the Ray that `ray start` began on this machine, if it answers."""
    try:
        address = (usual_folder() / "ray_current_cluster").read_text(encoding="utf-8").strip()
        check_reachable(address)
    except (OSError, UserError):  # it was stopped, or never begun
        return None
    return address or None


def orphaned(actors: list[NamedActor]) -> list[NamedActor]:
    """Those whose driver is gone. The admission serves all drivers, so it is never one of them
    while another one's monitor lives."""
    serving = any(a.name.startswith(MONITOR_PREFIX) and not a.is_orphan for a in actors)
    return [a for a in actors if a.is_orphan and not (serving and a.name == NAME)]


def _kill(actor: NamedActor) -> None:
    with suppress(ValueError):  # it has ended since
        ray.kill(ray.get_actor(actor.name, namespace=NAMESPACE), no_restart=True)
