"""Committed blocks, rosters and what a restart finds: only what is missing is ordered."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymd.distillation.aggregation import merge_rows
from raymd.distillation.encoding import decode_block
from raymd.errors import StorageError
from raymd.exchange import names
from raymd.exchange.blocks import (
    commit_block,
    commit_loss,
    commit_roster,
    committed_blocks,
    complete_cycle,
    read_block,
    read_losses,
    read_roster,
)
from raymd.exchange.damaged import Damaged, DamagedBlockError
from raymd.exchange.facts import CommitRoster, Loss, MergeBlock
from raymd.exchange.ledger import Ledger
from raymd.exchange.merge import merge_block
from raymd.exchange.recovery import recover
from raymd.storage import Storage
from tests.exchange.conftest import (
    BLOCKS,
    STUDENTS,
    Damage,
    commit_publication,
    commit_rows,
    completes,
    merges,
    new_ledger,
    publication,
    rows_of,
    teacher_bytes,
)

WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}
ROSTER = CommitRoster(0, tuple(publication(s) for s in STUDENTS), {"all": WEIGHTS})


def publish_all(storage: Storage, *, cycle: int = 0) -> None:
    for student in STUDENTS:
        said = publication(student, cycle=cycle)
        commit_publication(storage, said)
        for block in range(BLOCKS):
            commit_rows(storage, said, block)


def recovered(storage: Storage, ledger: Ledger, notes: list[str] | None = None) -> list[Any]:
    return recover(storage, ledger, tell=([] if notes is None else notes).append)


def merge(storage: Storage, block: int, *, cycle: int = 0) -> np.ndarray:
    return merge_block(storage, MergeBlock(cycle, "all", block, WEIGHTS), sources={})


# -- single files -----------------------------------------------------------------------------


def test_block_comes_back_as_committed(storage: Storage) -> None:
    data = commit_rows(storage, publication("a"), 1)
    folder = names.published_folder(0, "a")
    found = read_block(storage, folder, block=1)
    assert found is not None
    assert found.tobytes() == data.tobytes()
    assert committed_blocks(storage, folder) == [1]


def test_block_never_committed_is_none(storage: Storage) -> None:
    assert read_block(storage, names.published_folder(0, "a"), block=0) is None
    assert committed_blocks(storage, names.published_folder(0, "a")) == []


def test_bytes_without_a_record_do_not_count(storage: Storage) -> None:
    folder = names.published_folder(0, "a")
    storage.write(names.block_file(folder, 0), b"half a block")
    assert read_block(storage, folder, block=0) is None
    assert committed_blocks(storage, folder) == []


def test_publication_record_is_no_block(storage: Storage) -> None:
    commit_publication(storage, publication("a"))
    commit_rows(storage, publication("a"), 12)
    assert committed_blocks(storage, names.published_folder(0, "a")) == [12]


def test_damaged_block_is_named(storage: Storage, damage: Damage) -> None:
    folder = names.published_folder(0, "b")
    commit_rows(storage, publication("b"), 2)
    damage(names.block_file(folder, 2))
    with pytest.raises(StorageError, match=r"soft_labels/cycle-000/b/block-00002\.arrow.*checksum"):
        read_block(storage, folder, block=2)


def test_merge_names_the_damaged_member_and_commits_nothing(
    storage: Storage, damage: Damage
) -> None:
    publish_all(storage)
    damage(names.block_file(names.published_folder(0, "b"), 0))
    with pytest.raises(DamagedBlockError, match=r"cycle-000/b/block-00000\.arrow") as caught:
        merge(storage, 0)
    assert pickle.loads(pickle.dumps(caught.value)).damaged == Damaged(0, "student", "b", 0)
    assert teacher_bytes(storage) == []


def test_merge_names_the_member_that_never_published(storage: Storage) -> None:
    for student in ("a", "b"):
        commit_rows(storage, publication(student), 0)
    with pytest.raises(StorageError, match=r"block 0 of student c, cycle 0, .* it is missing"):
        merge(storage, 0)


def test_roster_comes_back_in_student_order(storage: Storage) -> None:
    commit_roster(storage, ROSTER)
    roster = read_roster(storage, 0)
    assert roster == ROSTER
    assert roster is not None
    assert list(roster.weights["all"]) == ["a", "b", "c"]
    assert read_roster(storage, 1) is None


# -- merging ----------------------------------------------------------------------------------


def test_merge_is_the_weighted_mean_of_eq_8(storage: Storage) -> None:
    publish_all(storage)
    metadata, rows_NK = decode_block(merge(storage, 1))
    expected_NK = sum(WEIGHTS[s] * rows_of(s, 1).astype(np.float64) for s in STUDENTS)
    assert np.abs(rows_NK - expected_NK).max() < 5e-4  # float16 keeps 11 bits
    assert (
        rows_NK.tobytes()
        == merge_rows([rows_of(s, 1) for s in STUDENTS], list(WEIGHTS.values())).tobytes()
    )
    assert metadata["teacher"] == "all"
    assert metadata["weights"] == WEIGHTS
    assert metadata["first_id"] == 8
    assert "student" not in metadata


def test_merge_from_objects_and_from_storage_and_again_is_byte_identical(storage: Storage) -> None:
    publish_all(storage)
    from_storage = merge(storage, 0).tobytes()
    sources = {s: commit_rows(storage, publication(s), 0) for s in ("a", "b")}
    order = MergeBlock(0, "all", 0, WEIGHTS)
    assert merge_block(storage, order, sources=sources).tobytes() == from_storage
    assert merge_block(storage, order, sources={"c": None}).tobytes() == from_storage
    assert teacher_bytes(storage) == [from_storage]


# -- completing -------------------------------------------------------------------------------


def test_complete_cycle_drops_its_raw_blocks_and_the_teacher_before(storage: Storage) -> None:
    for cycle in (0, 1, 2):
        publish_all(storage, cycle=cycle)
    for cycle in (0, 1):
        for block in range(BLOCKS):
            merge(storage, block, cycle=cycle)
        complete_cycle(storage, replace(ROSTER, cycle=cycle))
    assert storage.list("soft_labels") == ["cycle-002"]
    assert teacher_bytes(storage, 0) == []
    assert len(teacher_bytes(storage, 1)) == BLOCKS
    # what the run was stays, what it needed goes
    assert storage.record(names.complete_record(0)) is not None


def test_roster_of_a_dropped_teacher_stays(storage: Storage) -> None:
    commit_roster(storage, ROSTER)
    publish_all(storage)
    merge(storage, 0)
    complete_cycle(storage, replace(ROSTER, cycle=1))
    assert read_roster(storage, 0) == ROSTER


def test_complete_cycle_drops_what_was_merged_before_a_loss(storage: Storage) -> None:
    publish_all(storage)
    merge(storage, 0)
    roster = CommitRoster(0, ROSTER.publications[:2], {"all": {"a": 0.625, "b": 0.375}}, 1)
    for block in range(BLOCKS):
        merge_block(storage, MergeBlock(0, "all", block, roster.weights["all"], 1), sources={})
    assert len(teacher_bytes(storage)) == 1, "a late merge writes where nobody reads"
    complete_cycle(storage, roster)
    assert teacher_bytes(storage) == []
    assert len(teacher_bytes(storage, teacher="all@1")) == BLOCKS


# -- recovering -------------------------------------------------------------------------------


def test_empty_storage_leaves_nothing_to_do(storage: Storage) -> None:
    assert recovered(storage, new_ledger()) == []


@pytest.mark.parametrize("with_roster", [True, False])
@pytest.mark.parametrize("merged", [(), (1,), (0, 1, 2)])
def test_restart_orders_exactly_what_is_missing(
    storage: Storage, with_roster: bool, merged: tuple[int, ...]
) -> None:
    publish_all(storage)
    if with_roster:
        commit_roster(storage, ROSTER)
    for block in merged:
        merge(storage, block)
    ledger = new_ledger()
    actions = recovered(storage, ledger)
    rosters = [action for action in actions if isinstance(action, CommitRoster)]
    assert rosters == ([] if with_roster else [ROSTER])
    for roster in rosters:
        actions += ledger.roster_committed(roster)
    assert merges(actions) == [(0, "all", b) for b in range(BLOCKS) if b not in merged]
    assert completes(actions) == ([0] if len(merged) == BLOCKS else [])


def test_restart_in_the_midst_of_publishing_waits_for_the_rest(storage: Storage) -> None:
    commit_publication(storage, publication("a"))
    commit_rows(storage, publication("a"), 0)
    ledger = new_ledger()
    assert recovered(storage, ledger) == []
    assert ledger.missing(0) == STUDENTS
    for block in (1, 2):
        ledger.delivered(0, "a", block)
    assert ledger.missing(0) == ("b", "c")


def make_cycle(storage: Storage, *, cycle: int = 0) -> None:
    """Everything up to the complete record."""
    roster = replace(
        ROSTER, cycle=cycle, publications=tuple(publication(s, cycle=cycle) for s in STUDENTS)
    )
    publish_all(storage, cycle=cycle)
    commit_roster(storage, roster)
    for block in range(BLOCKS):
        merge(storage, block, cycle=cycle)
    complete_cycle(storage, roster)


def test_restart_knows_the_roster_of_a_complete_cycle(storage: Storage) -> None:
    make_cycle(storage)
    ledger = new_ledger()
    assert recovered(storage, ledger) == []
    assert ledger.complete(0) == ROSTER
    assert ledger.missing(0) == ()


def test_restart_drops_what_a_death_right_after_completion_left(storage: Storage) -> None:
    make_cycle(storage)
    commit_rows(storage, publication("a"), 0)
    recovered(storage, new_ledger())
    assert storage.list("soft_labels") == []


def test_restart_refuses_another_publication_than_the_rosters(storage: Storage) -> None:
    commit_roster(storage, ROSTER)
    commit_publication(storage, publication("c", publish_id="others"))
    with pytest.raises(ValueError, match="c published cycle 0 from other weights"):
        recovered(storage, new_ledger())


def test_bytes_of_other_sizes_are_refused(storage: Storage) -> None:
    folder = names.published_folder(0, "a")
    commit_block(storage, folder, block=0, data=np.zeros(10, np.uint8), fields={})
    storage.write(names.block_file(folder, 0), np.zeros(9, np.uint8))
    with pytest.raises(StorageError, match="truncated: 9 of 10 bytes"):
        read_block(storage, folder, block=0)


# -- damaged records --------------------------------------------------------------------------


def contents(storage: Storage) -> dict[str, bytes]:
    root = Path(storage.uri)
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", [names.roster_record(0), names.complete_record(0)])
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_record_of_a_complete_cycle_is_written_again(
    storage: Storage, damage: Damage, name: str, how: str
) -> None:
    make_cycle(storage)
    whole, notes = contents(storage), list[str]()
    damage(name) if how == "damaged" else storage.delete(name)
    ledger = new_ledger()
    actions = recovered(storage, ledger, notes)
    if how == "missing" and name == names.complete_record(0):
        assert completes(actions) == [0]
        complete_cycle(storage, actions[0].roster)
    else:
        assert actions == []
        assert ledger.complete(0) == ROSTER
    assert contents(storage) == whole
    assert [name in note and "damaged" in note for note in notes] == [True] * (how == "damaged")


def test_damaged_roster_of_an_open_cycle_is_ordered_again_and_nothing_merged_is(
    storage: Storage, damage: Damage
) -> None:
    publish_all(storage)
    commit_roster(storage, ROSTER)
    merge(storage, 1)
    damage(names.roster_record(0))
    ledger, notes = new_ledger(), list[str]()
    assert recovered(storage, ledger, notes) == [ROSTER]
    assert merges(ledger.roster_committed(ROSTER)) == [(0, "all", 0), (0, "all", 2)]
    assert len(notes) == 1


def test_roster_damaged_in_both_of_its_records_is_an_error(
    storage: Storage, damage: Damage
) -> None:
    make_cycle(storage)
    damage(names.roster_record(0))
    damage(names.complete_record(0))
    with pytest.raises(StorageError, match=r"cycle-000/roster\.json and complete\.json .* both"):
        recovered(storage, new_ledger())


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_announcement_is_read_from_a_block_where_its_own_record_is_lost(
    storage: Storage, damage: Damage, how: str
) -> None:
    publish_all(storage)
    name = names.publication_record(0, "b")
    damage(name) if how == "damaged" else storage.delete(name)
    notes = list[str]()
    assert recovered(storage, new_ledger(), notes) == [ROSTER]
    assert [name in note for note in notes] == [True] * (how == "damaged")


def test_damaged_announcement_without_a_block_waits_for_the_next(
    storage: Storage, damage: Damage
) -> None:
    commit_publication(storage, publication("a"))
    damage(names.publication_record(0, "a"))
    ledger = new_ledger(students=("a",), num_blocks=1)
    assert recovered(storage, ledger) == []
    assert len(ledger.announced(publication("a"))) == 1


# -- losses -----------------------------------------------------------------------------------

LOSS = Loss("b", "its GPU burnt", epoch=3, step=5, cycle=1)


def test_losses_come_back_as_committed(storage: Storage) -> None:
    assert read_losses(storage) == []
    commit_loss(storage, LOSS)
    commit_loss(storage, replace(LOSS, student="a"))
    assert read_losses(storage) == [replace(LOSS, student="a"), LOSS]


def test_damaged_loss_still_says_who_is_lost_and_since_when(
    storage: Storage, damage: Damage
) -> None:
    make_cycle(storage)
    commit_loss(storage, LOSS)
    damage(names.loss_record("b"))
    (loss,) = read_losses(storage)
    assert (loss.student, loss.cycle) == ("b", 1)
    assert "damaged" in loss.reason
    two = CommitRoster(1, ROSTER.publications[::2], {"all": {"a": 0.7, "c": 0.3}}, 1)
    complete_cycle(storage, two)
    assert read_losses(storage)[0].cycle == 1
