"""The exchange's committed files: blocks, rosters, finished cycles, and what a restart finds.

Bytes and records enter and leave; no torch, so that the aggregator stays small.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from raymd.exchange import names
from raymd.exchange.ledger import Action, CommitRoster, Ledger, Publication
from raymd.storage import Storage


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


def commit_roster(storage: Storage, roster: CommitRoster) -> None:
    """Commit who makes a cycle's teachers and with which weights."""
    students = [
        {"student": p.student, "accuracy": p.accuracy, "publish_id": p.publish_id}
        for p in roster.publications
    ]
    weights = {teacher: dict(members) for teacher, members in roster.weights.items()}
    fields = {"cycle": roster.cycle, "students": students, "weights": weights}
    storage.commit(names.roster_record(roster.cycle), fields)


def read_roster(storage: Storage, cycle: int) -> CommitRoster | None:
    """A cycle's committed roster, or None."""
    record = storage.record(names.roster_record(cycle))
    if record is None:
        return None
    publications = tuple(Publication(cycle=cycle, **entry) for entry in record["students"])
    weights = {
        teacher: {student: members[student] for student in sorted(members)}
        for teacher, members in record["weights"].items()
    }
    return CommitRoster(cycle, publications, weights)


def complete_cycle(storage: Storage, cycle: int) -> None:
    """Commit that a cycle's teachers are whole, then drop what is not needed any more: its raw
    blocks, and the teachers of the cycle before, whose distillation every student has ended."""
    storage.commit(names.complete_record(cycle), {"cycle": cycle})
    storage.delete(f"soft_labels/{names.cycle_folder(cycle)}")
    if cycle > 0:
        for entry in storage.list(names.teacher_folder(cycle - 1)):
            if not entry.endswith(".json"):
                storage.delete(f"{names.teacher_folder(cycle - 1)}/{entry}")


def recover(storage: Storage, ledger: Ledger) -> list[Action]:
    """Tell a fresh ledger every fact that storage holds; gives back what is left to do.

    Teacher blocks and rosters are told first, so that nothing committed is ordered again.
    """
    actions: list[Action] = []
    found = {*storage.list("teacher"), *storage.list("soft_labels")}
    for cycle in sorted(int(folder.removeprefix("cycle-")) for folder in found):
        for teacher in ledger.method.teachers(ledger.students):
            folder = f"{names.teacher_folder(cycle)}/{teacher}"
            for block in committed_blocks(storage, folder):
                actions += ledger.merged(cycle, teacher, block)
        roster = read_roster(storage, cycle)
        if roster is not None:
            actions += ledger.roster_committed(roster)
        for student in ledger.students:
            actions += _recover_publication(storage, ledger, cycle, student)
    return actions


def _recover_publication(
    storage: Storage, ledger: Ledger, cycle: int, student: str
) -> list[Action]:
    record = storage.record(names.publication_record(cycle, student))
    if record is None:
        return []
    publication = Publication(cycle, student, record["accuracy"], record["publish_id"])
    actions = ledger.announced(publication)
    for block in committed_blocks(storage, names.published_folder(cycle, student)):
        actions += ledger.delivered(cycle, student, block)
    return actions
