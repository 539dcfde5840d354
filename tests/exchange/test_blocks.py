"""Committed blocks, rosters and what a restart finds: only what is missing is ordered."""

import json

import numpy as np
import pytest

from raymd.distillation.aggregation import merge_rows
from raymd.distillation.soft_labels import decode_block
from raymd.errors import StorageError
from raymd.exchange import names
from raymd.exchange.blocks import (
    commit_block,
    commit_roster,
    committed_blocks,
    complete_cycle,
    read_block,
    read_roster,
    recover,
)
from raymd.exchange.ledger import CommitRoster, CompleteCycle, MergeBlock
from raymd.exchange.merge import merge_block
from raymd.storage import Storage
from tests.exchange.conftest import (
    BLOCKS,
    STUDENTS,
    Damage,
    commit_publication,
    commit_rows,
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
    with pytest.raises(StorageError, match=r"cycle-000/b/block-00000\.arrow"):
        merge(storage, 0)
    assert teacher_bytes(storage) == []


def test_merge_names_the_member_that_never_published(storage: Storage) -> None:
    for student in ("a", "b"):
        commit_rows(storage, publication(student), 0)
    with pytest.raises(StorageError, match="block 0 of c, cycle 0, is missing"):
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
        complete_cycle(storage, cycle)
    assert storage.list("soft_labels") == ["cycle-002"]
    assert teacher_bytes(storage, 0) == []
    assert len(teacher_bytes(storage, 1)) == BLOCKS
    # what the run was stays, what it needed goes
    assert storage.record(names.complete_record(0)) is not None


def test_roster_of_a_dropped_teacher_stays(storage: Storage) -> None:
    commit_roster(storage, ROSTER)
    publish_all(storage)
    merge(storage, 0)
    complete_cycle(storage, 1)
    assert read_roster(storage, 0) == ROSTER


# -- recovering -------------------------------------------------------------------------------


def test_empty_storage_leaves_nothing_to_do(storage: Storage) -> None:
    assert recover(storage, new_ledger()) == []


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
    actions = recover(storage, ledger)
    rosters = [action for action in actions if isinstance(action, CommitRoster)]
    assert rosters == ([] if with_roster else [ROSTER])
    for roster in rosters:
        actions += ledger.roster_committed(roster)
    assert merges(actions) == [(0, "all", b) for b in range(BLOCKS) if b not in merged]
    complete = [action for action in actions if isinstance(action, CompleteCycle)]
    assert complete == ([CompleteCycle(0)] if len(merged) == BLOCKS else [])


def test_restart_in_the_midst_of_publishing_waits_for_the_rest(storage: Storage) -> None:
    commit_publication(storage, publication("a"))
    commit_rows(storage, publication("a"), 0)
    ledger = new_ledger()
    assert recover(storage, ledger) == []
    assert ledger.missing(0) == STUDENTS
    for block in (1, 2):
        ledger.delivered(0, "a", block)
    assert ledger.missing(0) == ("b", "c")


def test_restart_trusts_no_publication_whose_announcement_is_not_committed(
    storage: Storage,
) -> None:
    commit_rows(storage, publication("a"), 0)
    ledger = new_ledger(students=("a",), num_blocks=1)
    assert recover(storage, ledger) == []
    assert ledger.missing(0) == ("a",)


def test_restart_knows_weights_and_merged_blocks_of_a_complete_cycle(storage: Storage) -> None:
    publish_all(storage)
    commit_roster(storage, ROSTER)
    for block in range(BLOCKS):
        merge(storage, block)
    complete_cycle(storage, 0)
    ledger = new_ledger()
    assert merges(recover(storage, ledger)) == []
    assert all(ledger.is_merged(0, "all", block) for block in range(BLOCKS))
    assert ledger.weights(0, "all") == WEIGHTS


def test_restart_refuses_another_publication_than_the_rosters(storage: Storage) -> None:
    commit_roster(storage, ROSTER)
    commit_publication(storage, publication("c", publish_id="others"))
    with pytest.raises(ValueError, match="c published cycle 0 from other weights"):
        recover(storage, new_ledger())


def test_damaged_record_is_named(storage: Storage) -> None:
    commit_roster(storage, ROSTER)
    storage.write(names.roster_record(0), json.dumps({"cycle": 0})[:5].encode())
    with pytest.raises(StorageError, match=r"teacher/cycle-000/roster\.json is damaged"):
        recover(storage, new_ledger())


def test_bytes_of_other_sizes_are_refused(storage: Storage) -> None:
    folder = names.published_folder(0, "a")
    commit_block(storage, folder, block=0, data=np.zeros(10, np.uint8), fields={})
    storage.write(names.block_file(folder, 0), np.zeros(9, np.uint8))
    with pytest.raises(StorageError, match="truncated: 9 of 10 bytes"):
        read_block(storage, folder, block=0)
