"""The whole exchange against a folder: what every executor owes the ledger."""

import threading

import pytest

from raymd.distillation.soft_labels import decode_block
from raymd.exchange import names
from raymd.exchange.blocks import commit_roster
from raymd.exchange.folder import FolderExchange, Teacher, TeacherNotReadyError
from raymd.exchange.ledger import CommitRoster
from raymd.storage import Storage
from tests.exchange.conftest import (
    BLOCKS,
    STUDENTS,
    WITHOUT_SELF,
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


def ask(exchange: FolderExchange, *, cycle: int = 0, teacher: str = "all") -> Teacher:
    found = exchange.teacher(cycle, teacher, num_blocks=BLOCKS, stop=threading.Event())
    assert found is not None
    return found


def test_teacher_is_there_once_all_have_published(storage: Storage) -> None:
    exchange = FolderExchange(storage, new_ledger())
    for student in STUDENTS:
        with pytest.raises(TeacherNotReadyError, match=f"cycle 0 waits for .*{student}"):
            ask(exchange)
        publish(exchange, student)
    teacher = ask(exchange)
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
