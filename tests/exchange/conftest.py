"""An exchange without students: made-up soft labels, and as many facts as a test wants."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymd.distillation.encoding import encode_block
from raymd.distillation.methods import METHODS, Method
from raymd.exchange import names
from raymd.exchange.blocks import commit_block
from raymd.exchange.facts import Action, CommitRoster, CompleteCycle, MergeBlock, Publication
from raymd.exchange.ledger import Ledger
from raymd.storage import Storage

STUDENTS = ("a", "b", "c")
BLOCKS = 3
ROWS, CLASSES = 8, 4

# as codistill will have it: each student is taught by the others alone
WITHOUT_SELF = replace(METHODS["md"], name="without-self", leaves_self_out=True)


def new_ledger(
    method: Method = METHODS["md"], *, students: Sequence[str] = STUDENTS, num_blocks: int = BLOCKS
) -> Ledger:
    return Ledger(method, students=students, num_blocks=num_blocks)


def publication(student: str, *, cycle: int = 0, **changes: Any) -> Publication:
    accuracy = {"a": 0.5, "b": 0.3, "c": 0.2}.get(student, 0.4)
    whole = Publication(cycle, student, accuracy, f"weights-of-{student}")
    return replace(whole, **changes)


def merges(actions: Sequence[Action]) -> list[tuple[int, str, int]]:
    return [(a.cycle, a.teacher, a.block) for a in actions if isinstance(a, MergeBlock)]


def completes(actions: Sequence[Action]) -> list[int]:
    return [action.cycle for action in actions if isinstance(action, CompleteCycle)]


def follow(ledger: Ledger, action: Action) -> list[Action]:
    """Tell the ledger that an action was carried out."""
    if isinstance(action, CommitRoster):
        return ledger.roster_committed(action)
    if isinstance(action, MergeBlock):
        return ledger.merged(action.cycle, action.teacher, action.block, revision=action.revision)
    ledger.completed(action.roster)
    return []


def carry_out(ledger: Ledger, actions: Sequence[Action]) -> list[Action]:
    """What an executor does, without doing it; gives back everything that was ordered."""
    queue, ordered = list(actions), []
    while queue:
        action = queue.pop(0)
        if ledger.is_current(action):
            ordered.append(action)
            queue += follow(ledger, action)
    return ordered


def rows_of(student: str, block: int, *, cycle: int = 0, repeat: int = 1) -> np.ndarray:
    """Probabilities, float16 [repeat x ROWS, CLASSES]; the same for the same arguments."""
    generator = np.random.default_rng([cycle + 1, block, *student.encode()])
    rows = generator.random((ROWS, CLASSES))
    rows = (rows / rows.sum(axis=1, keepdims=True)).astype(np.float16)
    return np.tile(rows, (repeat, 1))


def commit_publication(storage: Storage, said: Publication) -> None:
    fields = {"accuracy": said.accuracy, "publish_id": said.publish_id}
    storage.commit(names.publication_record(said.cycle, said.student), fields)


def commit_rows(storage: Storage, said: Publication, block: int, *, repeat: int = 1) -> np.ndarray:
    """Commit a student's block as publish() does; gives back its bytes."""
    metadata = {
        "run": "run", "cycle": said.cycle, "student": said.student,
        "publish_id": said.publish_id, "accuracy": said.accuracy, "first_id": block * ROWS,
        "view": 0, "t": 3.0, "fingerprint": "f", "encoding": "float16",
    }  # fmt: skip
    rows_NK = rows_of(said.student, block, cycle=said.cycle, repeat=repeat)
    data = encode_block(rows_NK, metadata=metadata)
    folder = names.published_folder(said.cycle, said.student)
    commit_block(storage, folder, block=block, data=data, fields=metadata)
    return data


def teacher_bytes(storage: Storage, cycle: int = 0, teacher: str = "all") -> list[bytes]:
    folder = f"{names.teacher_folder(cycle)}/{teacher}"
    files = [name for name in storage.list(folder) if name.endswith(".arrow")]
    return [storage.read(f"{folder}/{name}").to_pybytes() for name in files]


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    # no test here cuts the power, and hundreds of fsyncs take seconds
    monkeypatch.setattr("os.fsync", lambda fd: None)


Damage = Callable[[str], None]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "run")


@pytest.fixture
def damage(storage: Storage) -> Damage:
    """Flip the last bit of a committed file."""

    def flip(name: str) -> None:
        path = Path(storage.uri) / name
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    return flip
