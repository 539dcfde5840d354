"""What a node has room for: memory, shared memory, disk, CPUs, open files."""

import os
import resource
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raymd.environment import available_bytes, environment
from raymd.execution.compat import session_folder
from raymd.execution.doctor.finding import Against, Verdict
from raymd.execution.own_ray import SHARED_MEMORY, store_note
from raymd.view.text import num_bytes

# a worker with torch and a small network takes half of it
LITTLE_MEMORY = 2 * 10**9
# Ray puts nothing more on a disk that is as full (RAY_local_fs_capacity_threshold)
FULL, NEARLY_FULL = 0.95, 0.90
# Ray's own advice for a cluster; on one machine there are few connections
MANY_FILES, SOME_FILES = 65_536, 4_096
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Room:
    """A disk or memory: where, and its bytes in all and free."""

    place: str
    total: int
    free: int


def measure_memory() -> Room:
    """Memory of the machine, or of the container."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Room("memory", total, min(total, available_bytes()))


def judge_memory(memory: Room, _: Against) -> list[Verdict]:
    """Whether another worker would fit."""
    found = f"{num_bytes(memory.free)} of {num_bytes(memory.total)} available"
    if memory.free >= LITTLE_MEMORY:
        return [Verdict("ok", found)]
    remedy = "a worker takes 1 GB and more: end other work there, or take a larger machine"
    return [Verdict("warning", found, remedy)]


def measure_shared_memory() -> Room | None:
    """Shared memory; None where the system has none such, as a Mac."""
    return _room(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None


def _room(folder: Path) -> Room:
    usage = shutil.disk_usage(folder)
    return Room(str(folder), usage.total, usage.free)


def judge_shared_memory(room: Room | None, against: Against) -> list[Verdict]:
    """Whether the node's object store fits into it."""
    store = against.node.store_bytes
    if room is None:
        return [Verdict("ok", "this system has none, and needs none")]
    note = store_note(room.total, store=store, folder=Path("Ray's folder"))
    if not note:
        found = f"{num_bytes(room.total)}, for an object store of {num_bytes(store)}"
        return [Verdict("ok", found)]
    remedy = (
        f"make {room.place} larger (docker run --shm-size, a memory-backed volume in Kubernetes),"
        " or the store smaller (ray start --object-store-memory)"
    )
    return [Verdict("warning", note, remedy)]


def measure_disk() -> Room | None:
    """The disk that Ray's logs, and objects that are spilled, lie on."""
    folder = session_folder()
    return None if folder is None else _room(folder)


def judge_disk(room: Room | None, against: Against) -> list[Verdict]:
    """Whether objects that do not fit into memory have a place."""
    if room is None:
        return [Verdict("note", "where Ray keeps its files is not known")]
    used, store = 1 - room.free / room.total, against.node.store_bytes
    found = f"{num_bytes(room.free)} of {num_bytes(room.total)} free in {room.place}"
    remedy = f"free space there, or start Ray elsewhere (ray start --temp-dir): from {FULL:.0%} on"
    remedy += " Ray spills nothing, and what does not fit into memory is an error"
    if used >= FULL:
        return [Verdict("problem", found, remedy)]
    if used >= NEARLY_FULL:
        return [Verdict("warning", found, remedy)]
    if room.free < store:
        few = f"{found}: less than the object store's {num_bytes(store)}"
        return [Verdict("note", few, "it is needed only if objects do not fit into memory")]
    return [Verdict("ok", found)]


def measure_cpus() -> float:
    """CPUs that a process may use here: of the machine, or as many as the container's quota is."""
    cores = float(environment()["cores"])
    try:
        quota, period = CPU_QUOTA.read_text(encoding="utf-8").split()
    except (OSError, ValueError):  # no such limit on this system
        return cores
    return cores if quota == "max" else min(cores, int(quota) / int(period))


def judge_cpus(allowed: float, against: Against) -> list[Verdict]:
    """Whether Ray gives away more CPUs than there are."""
    counted = against.node.cpus
    if counted <= allowed:
        return [Verdict("ok", f"Ray counts {counted:g} of {allowed:g}")]
    return [
        Verdict(
            "warning",
            f"Ray counts {counted:g}, and processes may use {allowed:g}",
            f"workers would share them: ray start --num-cpus {max(1, int(allowed))}, or raise the"
            " container's limit",
        )
    ]


def measure_open_files() -> tuple[int, int]:
    """How many files a process of Ray's may open: now, and if it asked for more."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def judge_open_files(limits: Sequence[int], against: Against) -> list[Verdict]:
    """Whether connections will run out; Ray holds some to every worker of the cluster."""
    soft, hard = (float("inf") if n == resource.RLIM_INFINITY else n for n in limits)
    found = f"{soft:,.0f} may be open"
    if soft >= (SOME_FILES if against.nodes == 1 else MANY_FILES):
        return [Verdict("ok", found)]
    remedy = (
        f"with many workers Ray needs {MANY_FILES:,}: `ulimit -n {MANY_FILES}` before ray start"
        f" (up to {hard:,.0f} is allowed without root)"
    )
    return [Verdict("note" if against.nodes == 1 else "warning", found, remedy)]
