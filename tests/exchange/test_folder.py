"""The whole exchange against a folder: what every executor owes the ledger."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raymd.distillation.aggregation import merge_rows
from raymd.distillation.encoding import decode_block
from raymd.exchange import names
from raymd.exchange.blocks import commit_roster, is_complete, read_losses, read_roster
from raymd.exchange.damaged import Damaged, DamagedBlockError, Rebuild
from raymd.exchange.facts import CommitRoster, Loss, MergeBlock
from raymd.exchange.folder import FolderExchange, Teacher, TeacherNotReadyError
from raymd.exchange.merge import merge_block
from raymd.storage import Storage
from tests.exchange.conftest import (
    BLOCKS,
    STUDENTS,
    WITHOUT_SELF,
    Damage,
    commit_publication,
    commit_rows,
    new_ledger,
    publication,
    rows_of,
    teacher_bytes,
)


def announce(exchange: FolderExchange, student: str, *, cycle: int = 0) -> None:
    said = publication(student, cycle=cycle)
    commit_publication(exchange.storage, said)
    exchange.announce(said)


def publish(exchange: FolderExchange, student: str, *, cycle: int = 0) -> None:
    announce(exchange, student, cycle=cycle)
    said = publication(student, cycle=cycle)
    for block in range(BLOCKS):
        data = commit_rows(exchange.storage, said, block)
        exchange.deliver(said, block=block, data=data)


def ask(
    exchange: FolderExchange,
    *,
    cycle: int = 0,
    teacher: str = "all",
    rebuild: Rebuild | None = None,
) -> Teacher:
    stop = threading.Event()
    found = exchange.teacher(cycle, teacher, num_blocks=BLOCKS, stop=stop, rebuild=rebuild)
    assert found is not None
    return found


def test_teacher_is_there_once_all_have_published(storage: Storage) -> None:
    exchange = FolderExchange(storage, new_ledger())
    for student in STUDENTS:
        with pytest.raises(TeacherNotReadyError, match=f"cycle 0 waits for .*{student}"):
            ask(exchange)
        publish(exchange, student)
    teacher = ask(exchange)
    assert exchange.notes == []
    assert teacher.weights == pytest.approx({"a": 0.5, "b": 0.3, "c": 0.2})
    assert [bytes(block) for block in teacher.blocks] == teacher_bytes(storage)
    assert storage.list("soft_labels") == []
    assert storage.record(names.complete_record(0)) is not None


def test_restart_at_any_fact_ends_with_the_same_bytes(storage: Storage) -> None:
    whole = Storage.at(f"{storage.uri}-whole")
    exchange = FolderExchange(whole, new_ledger())
    for student in STUDENTS:
        publish(exchange, student)
    for student in STUDENTS:
        announce(FolderExchange(storage, new_ledger()), student)
        for block in range(BLOCKS):
            said = publication(student)
            data = commit_rows(storage, said, block)
            FolderExchange(storage, new_ledger()).deliver(said, block=block, data=data)
    assert teacher_bytes(storage) == teacher_bytes(whole)
    assert len(teacher_bytes(storage)) == BLOCKS


def test_restart_merges_what_was_delivered_before_it(storage: Storage) -> None:
    for student in STUDENTS:
        commit_publication(storage, publication(student))
        for block in range(BLOCKS):
            commit_rows(storage, publication(student), block)
    assert len(ask(FolderExchange(storage, new_ledger())).blocks) == BLOCKS


def test_committed_roster_outlives_a_restart(storage: Storage) -> None:
    """Whatever the method says later, the weights are those of the roster."""
    weights = {"all": {"a": 0.1, "b": 0.1, "c": 0.8}}
    commit_roster(storage, CommitRoster(0, tuple(map(publication, STUDENTS)), weights))
    exchange = FolderExchange(storage, new_ledger())
    for student in STUDENTS:
        publish(exchange, student)
    assert ask(exchange).weights == weights["all"]


def test_each_student_reads_the_teacher_that_leaves_it_out(storage: Storage) -> None:
    exchange = FolderExchange(storage, new_ledger(WITHOUT_SELF))
    for student in STUDENTS:
        publish(exchange, student)
    teacher = ask(exchange, teacher="without-c")
    _, rows_NK = decode_block(teacher.blocks[0])
    expected_NK = 0.625 * rows_of("a", 0).astype(float) + 0.375 * rows_of("b", 0).astype(float)
    assert abs(rows_NK - expected_NK).max() < 5e-4
    assert sorted(storage.list(names.teacher_folder(0))) == [
        "complete.json", "roster.json", "without-a", "without-b", "without-c",
    ]  # fmt: skip


# -- damage -----------------------------------------------------------------------------------


class Builder:
    """What training/rebuild.py does, from made-up soft labels; remembers what it made."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.built: list[Damaged] = []

    def __call__(self, damaged: Damaged) -> np.ndarray:
        self.built.append(damaged)
        if damaged.kind == "student":
            return commit_rows(self.storage, publication(damaged.id), damaged.block)
        roster = read_roster(self.storage, damaged.cycle)
        assert roster is not None
        weights = roster.weights[damaged.id]
        order = MergeBlock(damaged.cycle, damaged.id, damaged.block, weights, roster.revision)
        elsewhere = Storage.at(f"{self.storage.uri}-elsewhere")
        sources = {s: commit_rows(elsewhere, publication(s), damaged.block) for s in weights}
        return merge_block(self.storage, order, sources=sources)


def undisturbed(storage: Storage) -> list[bytes]:
    whole = FolderExchange(Storage.at(f"{storage.uri}-whole"), new_ledger())
    for student in STUDENTS:
        publish(whole, student)
    return teacher_bytes(whole.storage)


def test_damaged_block_is_made_again_by_who_waits_for_the_teacher(
    storage: Storage, damage: Damage
) -> None:
    exchange, builder = FolderExchange(storage, new_ledger()), Builder(storage)
    publish(exchange, "a")
    publish(exchange, "b")
    damage(names.block_file(names.published_folder(0, "a"), 2))
    damage(names.block_record(names.published_folder(0, "b"), 0))
    publish(exchange, "c")
    with pytest.raises(DamagedBlockError, match="block 2 of student a, cycle 0"):
        ask(exchange)
    assert len(ask(exchange, rebuild=builder).blocks) == BLOCKS
    assert builder.built == [Damaged(0, "student", "a", 2), Damaged(0, "student", "b", 0)]
    assert teacher_bytes(storage) == undisturbed(storage)


@pytest.mark.parametrize("file", [names.block_file, names.block_record])
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_damaged_teacher_is_made_again_though_the_raw_blocks_are_gone(
    storage: Storage, damage: Damage, file: Callable[[str, int], str], how: str
) -> None:
    exchange, builder = FolderExchange(storage, new_ledger()), Builder(storage)
    for student in STUDENTS:
        publish(exchange, student)
    name = file(names.teacher_blocks(0, "all"), 1)
    damage(name) if how == "damaged" else storage.delete(name)
    with pytest.raises(DamagedBlockError, match="block 1 of teacher all, cycle 0"):
        ask(exchange)
    blocks = ask(exchange, rebuild=builder).blocks
    assert builder.built == [Damaged(0, "teacher", "all", 1)]
    assert [bytes(block) for block in blocks] == undisturbed(storage)


# -- losses -----------------------------------------------------------------------------------

LOSS = Loss("b", "its GPU burnt", epoch=3, step=5)


def play(storage: Storage) -> FolderExchange:
    """Two cycles; b is lost when it has published the second and c has not.

    Begins anew or goes on: students publish what is not complete, and nobody who is lost.
    """
    exchange = FolderExchange(storage, new_ledger())

    def publish_open(student: str, cycle: int) -> None:
        lost = {loss.student for loss in read_losses(storage)}
        if student not in lost and not is_complete(storage, cycle):
            publish(exchange, student, cycle=cycle)

    for student in STUDENTS:
        publish_open(student, 0)
    if not is_complete(storage, 1):
        assert list(ask(exchange).weights) == ["a", "b", "c"]
    for student in ("a", "b"):
        publish_open(student, 1)
    exchange.lose(LOSS)
    publish_open("c", 1)
    return exchange


def test_cycles_after_a_loss_are_made_by_the_others_and_the_one_before_stays(
    storage: Storage,
) -> None:
    exchange = play(storage)
    assert read_losses(storage) == [replace(LOSS, cycle=1)]
    teacher = ask(exchange, cycle=1)
    assert teacher.weights == pytest.approx({"a": 0.5 / 0.7, "c": 0.2 / 0.7})
    _, rows_NK = decode_block(teacher.blocks[1])
    weights = list(teacher.weights.values())
    expected_NK = merge_rows([rows_of(s, 1, cycle=1) for s in ("a", "c")], weights)
    assert rows_NK.tobytes() == expected_NK.tobytes()
    assert exchange.lose(replace(LOSS, reason="again")).reason == LOSS.reason


def test_student_lost_while_blocks_are_merged_leaves_no_trace_in_the_teacher(
    storage: Storage,
) -> None:
    exchange = FolderExchange(storage, new_ledger())
    for student in ("a", "b"):
        publish(exchange, student)
    announce(exchange, "c")
    exchange.deliver(publication("c"), block=0, data=commit_rows(storage, publication("c"), 0))
    assert len(teacher_bytes(storage)) == 1
    exchange.lose(replace(LOSS, student="c"))
    assert list(ask(exchange).weights) == ["a", "b"]
    assert storage.list(names.teacher_folder(0)) == ["all@1", "complete.json", "roster.json"]


class Killed(BaseException):
    """The process died here."""


def test_loss_replayed_after_a_kill_at_any_write_ends_with_the_same_bytes(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, kill_at = 0, 0

    def dying(action: Callable[..., None]) -> Callable[..., None]:
        def act(*args: object) -> None:
            nonlocal count
            count += 1
            if count == kill_at and count % 2:
                raise Killed
            action(*args)
            if count == kill_at:
                raise Killed

        return act

    monkeypatch.setattr(Storage, "write", dying(Storage.write))
    monkeypatch.setattr(Storage, "delete", dying(Storage.delete))

    def left(storage: Storage) -> dict[str, bytes]:
        root = Path(storage.uri)
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    play(storage)
    expected, total = left(storage), count
    assert total > 50
    for at in range(1, total + 1):
        killed = Storage.at(f"{storage.uri}-{at}")
        count, kill_at = 0, at
        with pytest.raises(Killed):
            play(killed)
        kill_at = 0
        play(killed)
        assert left(killed) == expected, f"killed at write {at} of {total}"
