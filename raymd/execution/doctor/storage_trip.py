"""The storage from a node: does it see what the driver wrote, and how fast is it.

probe (shared_storage.py) -> StorageTrip, on each node -> verdicts
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raymd.execution.doctor.finding import Against, Level, Verdict
from raymd.execution.shared_storage import REMEDY, Probe, answer
from raymd.view.text import num_bytes

TRIP_BYTES = 8 * 2**20
SLOW = 10e6  # bytes/s
LITTLE, TOO_LITTLE = 5 * 10**9, 10**8


@dataclass(frozen=True)
class StorageTrip:
    """What a node did with the storage.

    Attributes:
        reason: Why not; empty if it could.
        write_s, read_s: For ``num_bytes``.
        free_bytes: None on an object store.
    """

    reason: str = ""
    num_bytes: int = TRIP_BYTES
    write_s: float = 0.0
    read_s: float = 0.0
    free_bytes: int | None = None


def make_trip(probe: Probe, node: str) -> StorageTrip:
    """Read the driver's word, write and read a file, and leave a word for the driver."""
    reason = answer(probe, node)
    if reason is not None:
        return StorageTrip(reason)
    storage, name = probe.storage, f"{probe.folder}/{node}.bin"
    data = np.random.default_rng().bytes(TRIP_BYTES)
    begun = time.perf_counter()
    storage.write(name, data)
    written = time.perf_counter()
    same = storage.read(name).to_pybytes() == data
    read = time.perf_counter()
    free = shutil.disk_usage(Path(storage.uri)).free if storage.is_local else None
    reason = "" if same else "it reads other bytes than it has written"
    return StorageTrip(reason, TRIP_BYTES, written - begun, read - written, free)


def judge_trip(trip: StorageTrip, against: Against) -> list[Verdict]:
    """Whether runs can be kept there, and whether that will hold them up."""
    if trip.reason:
        shared = against.nodes > 1
        remedy = REMEDY if shared else "choose another: --storage DIR"
        return [Verdict("problem", f"cannot be used: {trip.reason}", remedy)]
    size, shared_by = num_bytes(trip.num_bytes), f", seen by all {against.nodes} alike"
    free = "" if trip.free_bytes is None else f", {num_bytes(trip.free_bytes)} free"
    found = f"{size} written in {trip.write_s:.2g} s, read in {trip.read_s:.2g} s{free}"
    verdicts = []
    if trip.num_bytes / max(trip.write_s, 1e-9) < SLOW:
        remedy = "checkpoints and soft labels are written there: take a faster disk, mount or zone"
        verdicts.append(Verdict("warning", f"{found}: slow", remedy))
    if trip.free_bytes is not None and trip.free_bytes < LITTLE:
        level: Level = "problem" if trip.free_bytes < TOO_LITTLE else "warning"
        remedy = "`raymd plan` says what a run takes; `raymd clean` frees what old runs left"
        verdicts.append(Verdict(level, f"only {num_bytes(trip.free_bytes)} free", remedy))
    return verdicts or [Verdict("ok", found + (shared_by if against.nodes > 1 else ""))]
