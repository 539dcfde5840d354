"""The exchange's committed files: blocks, rosters, complete cycles, losses.

Bytes and records enter and leave; no torch, so that the aggregator stays small. recovery.py says
what a restart makes of them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from raymd.errors import StorageError
from raymd.exchange import names
from raymd.exchange.damaged import Damaged
from raymd.exchange.facts import FROZEN, CommitRoster, Loss, Publication
from raymd.storage import Storage

# -- blocks -----------------------------------------------------------------------------------


def commit_block(
    storage: Storage, folder: str, *, block: int, data: np.ndarray, fields: Mapping[str, Any]
) -> None:
    """Commit an encoded block and what its record says of it."""
    file = names.block_file(folder, block)
    storage.commit(names.block_record(folder, block), fields, files={file: data})


def read_block(storage: Storage, folder: str, *, block: int) -> np.ndarray | None:
    """A committed block's bytes, uint8, checked; None if it was never committed.

    Raises:
        StorageError: it is damaged or missing though committed.
    """
    record = storage.record(names.block_record(folder, block))
    if record is None:
        return None
    data: pa.Buffer = storage.read_committed(names.block_file(folder, block), record=record)
    return np.frombuffer(data, dtype=np.uint8)


def committed_blocks(storage: Storage, folder: str) -> list[int]:
    """Numbers of the blocks that a folder has records of."""
    stems = (name.removesuffix(".json") for name in storage.list(folder) if name.endswith(".json"))
    return sorted(int(stem.removeprefix("block-")) for stem in stems if stem.startswith("block-"))


# -- publications -----------------------------------------------------------------------------


def publication_fields(publication: Publication) -> dict[str, Any]:
    """What a publication's record says of it, beside whose it is."""
    fields = {"accuracy": publication.accuracy, "publish_id": publication.publish_id}
    return fields if publication.loss is None else {**fields, "loss": publication.loss}


def publication_of(record: Mapping[str, Any], *, cycle: int, student: str) -> Publication:
    """The inverse, of that record or of a block's."""
    loss = record.get("loss")
    return Publication(cycle, student, record["accuracy"], record["publish_id"], loss)


def _frozen_fields(publication: Publication) -> dict[str, int]:
    return {"cycle": FROZEN} if publication.cycle == FROZEN else {}


# -- rosters ----------------------------------------------------------------------------------


def commit_roster(storage: Storage, roster: CommitRoster) -> None:
    """Commit who makes a cycle's teachers and with which weights."""
    storage.commit(names.roster_record(roster.cycle), _roster_fields(roster))


def read_roster(storage: Storage, cycle: int) -> CommitRoster | None:
    """A cycle's committed roster; None if there is none, or none that can be read.

    That of a complete cycle stands in two records, and either will do.
    """
    for name in (names.roster_record(cycle), names.complete_record(cycle)):
        try:
            record = storage.record(name)
        except StorageError:
            continue
        if record is not None and "students" in record:
            return _roster(record)
    return None


def _roster_fields(roster: CommitRoster) -> dict[str, Any]:
    students = [
        {"student": p.student, **publication_fields(p), **_frozen_fields(p)}
        for p in roster.publications
    ]
    weights = {teacher: dict(members) for teacher, members in roster.weights.items()}
    return {
        "cycle": roster.cycle,
        "revision": roster.revision,
        "students": students,
        "weights": weights,
    }


def _roster(record: Mapping[str, Any]) -> CommitRoster:
    cycle = record["cycle"]
    publications = tuple(Publication(**{"cycle": cycle, **entry}) for entry in record["students"])
    weights = {
        teacher: {student: members[student] for student in sorted(members)}
        for teacher, members in record["weights"].items()
    }
    return CommitRoster(cycle, publications, weights, record.get("revision", 0))


# -- complete cycles --------------------------------------------------------------------------


def complete_cycle(storage: Storage, roster: CommitRoster) -> None:
    """Commit that a cycle's teachers are whole, then drop what is not needed any more."""
    storage.commit(names.complete_record(roster.cycle), _roster_fields(roster))
    drop_superseded(storage, roster)


def drop_superseded(storage: Storage, roster: CommitRoster) -> None:
    """Remove what a complete cycle makes needless: its raw blocks, what was merged for other
    rosters, and the teachers of the cycle before, whose distillation every student has ended."""
    cycle = roster.cycle
    storage.delete(f"soft_labels/{names.cycle_folder(cycle)}")
    kept = {names.teacher_blocks(cycle, teacher, roster.revision) for teacher in roster.weights}
    for superseded in (cycle, cycle - 1):
        folder = names.teacher_folder(superseded)
        for entry in storage.list(folder):
            if not entry.endswith(".json") and f"{folder}/{entry}" not in kept:
                storage.delete(f"{folder}/{entry}")


def read_teacher_block(
    storage: Storage, roster: CommitRoster, teacher: str, block: int
) -> np.ndarray | Damaged:
    """A block of a complete cycle's teacher, uint8, or what is wrong with it."""
    folder = names.teacher_blocks(roster.cycle, teacher, roster.revision)
    try:
        data, reason = read_block(storage, folder, block=block), "it is missing"
    except StorageError as error:
        data, reason = None, str(error)
    return Damaged(roster.cycle, "teacher", teacher, block, reason) if data is None else data


def is_complete(storage: Storage, cycle: int) -> bool:
    """Whether a cycle's teachers were whole once; its record need not be intact for that."""
    return storage.exists(names.complete_record(cycle))


def begun_cycles(storage: Storage) -> list[int]:
    """Every cycle that has left any trace."""
    folders = {*storage.list("teacher"), *storage.list("soft_labels")}
    cycles = (folder for folder in folders if folder.startswith("cycle-"))
    return sorted(int(folder.removeprefix("cycle-")) for folder in cycles)


# -- losses -----------------------------------------------------------------------------------


def commit_loss(storage: Storage, loss: Loss) -> None:
    """Commit that a student is lost. From then on its cycle and later ones are made without it."""
    assert loss.cycle is not None
    storage.commit(names.loss_record(loss.student), dict(vars(loss)))


def read_losses(storage: Storage) -> list[Loss]:
    """Every student that a run has lost, by id. A damaged record still says who."""
    students = (name.removesuffix(".json") for name in storage.list(names.LOSSES))
    return [_loss(storage, student) for student in sorted(students)]


def _loss(storage: Storage, student: str) -> Loss:
    try:
        record = storage.record(names.loss_record(student)) or {}
    except StorageError as error:
        cycle = _first_without(storage, student)
        return Loss(student, f"not known any more: {error}", 0, 0, cycle)
    fields = {name: record[name] for name in ("student", "reason", "epoch", "step", "cycle")}
    return Loss(**fields)


def _first_without(storage: Storage, student: str) -> int:
    complete = [cycle for cycle in begun_cycles(storage) if is_complete(storage, cycle)]
    for cycle in complete:
        roster = read_roster(storage, cycle)
        if roster is not None and student not in (p.student for p in roster.publications):
            return cycle
    return max(complete, default=-1) + 1
