"""Frozen members publish once, and every cycle's teacher is made from that."""

from dataclasses import replace

import numpy as np
import pytest

from raymd.distillation.aggregation import merge_rows
from raymd.distillation.encoding import decode_block
from raymd.distillation.methods import get_method
from raymd.exchange import names
from raymd.exchange.blocks import begun_cycles, publication_fields, read_roster
from raymd.exchange.damaged import Damaged
from raymd.exchange.facts import FROZEN, CommitRoster, Loss, MergeBlock
from raymd.exchange.folder import FolderExchange
from raymd.exchange.ledger import Ledger
from raymd.storage import Storage
from tests.exchange.conftest import (
    carry_out,
    commit_publication,
    commit_rows,
    completes,
    merges,
    publication,
    rows_of,
    teacher_bytes,
)

OLD = publication("old", cycle=FROZEN, accuracy=0.7)


def ledger_of(method: str = "md", *, students: tuple[str, ...] = ("a",), blocks: int = 1) -> Ledger:
    return Ledger(get_method(method), students=students, num_blocks=blocks, frozen=["old"])


def test_every_cycle_waits_for_the_frozen_member_and_then_has_it() -> None:
    ledger = ledger_of()
    assert ledger.announced(publication("a")) == []
    ledger.delivered(0, "a", 0)
    assert ledger.missing(0) == ("old",)
    ordered = carry_out(ledger, ledger.announced(OLD))
    assert [type(action) for action in ordered] == [CommitRoster]
    assert ordered[0].weights["all"] == pytest.approx({"a": 0.5 / 1.2, "old": 0.7 / 1.2})
    ordered = carry_out(ledger, ledger.delivered(FROZEN, "old", 0))
    assert (merges(ordered), completes(ordered)) == ([(0, "all", 0)], [0])
    ordered = carry_out(ledger, ledger.announced(publication("a", cycle=1)))
    ordered += carry_out(ledger, ledger.delivered(1, "a", 0))
    assert completes(ordered) == [1]
    (merge,) = (action for action in ordered if isinstance(action, MergeBlock))
    assert (merge.published_in("old"), merge.published_in("a")) == (FROZEN, 1)


def test_frozen_teachers_alone_make_the_first_cycle() -> None:
    ledger = ledger_of("kd-stored", students=())
    ordered = carry_out(ledger, ledger.announced(OLD))
    ordered += carry_out(ledger, ledger.delivered(FROZEN, "old", 0))
    assert completes(ordered) == [0]
    assert ledger.complete(0).weights == {"all": {"old": 1.0}}


def test_frozen_member_is_taught_by_nobody() -> None:
    ledger = ledger_of("codistill", students=("a", "b"))
    assert ledger.teachers(0) == ("without-a", "without-b")
    ordered = carry_out(ledger, ledger.announced(OLD))
    for student in ("a", "b"):
        ordered += carry_out(ledger, ledger.announced(publication(student)))
    (roster,) = (action for action in ordered if isinstance(action, CommitRoster))
    assert roster.weights["without-a"] == {"b": 0.5, "old": 0.5}


def test_damaged_frozen_block_is_waited_for_by_the_open_cycle_alone() -> None:
    ledger = ledger_of()
    for said in (OLD, publication("a")):
        carry_out(ledger, ledger.announced(said))
        carry_out(ledger, ledger.delivered(said.cycle, said.student, 0))
    assert ledger.complete(0) is not None
    for action in ledger.announced(publication("a", cycle=1)):
        ledger.roster_committed(action)
    (merge,) = ledger.delivered(1, "a", 0)
    damaged = Damaged(FROZEN, "student", "old", 0, "altered")
    ledger.damaged(damaged)
    assert ledger.damage(0) == []
    assert ledger.damage(1) == [damaged]
    assert ledger.rebuilt(damaged) == [merge]
    assert ledger.damage(1) == []


def test_lost_frozen_member_is_missing_from_open_cycles() -> None:
    ledger = ledger_of()
    ledger.announced(publication("a"))
    ledger.delivered(0, "a", 0)
    ordered = carry_out(ledger, ledger.lost(Loss("old", "no memory", 0, 0, cycle=0)))
    assert completes(ordered) == [0]


def test_weights_alone_are_complete_once_all_have_announced() -> None:
    ledger = Ledger(get_method("md"), students=["a", "b"], num_blocks=0)
    ledger.announced(publication("a"))
    assert ledger.missing(0) == ("b",)
    ordered = carry_out(ledger, ledger.announced(publication("b")))
    assert completes(ordered) == [0]
    assert ledger.missing(0) == ()


def test_losses_weigh_members_where_they_are_published(storage: Storage) -> None:
    method = get_method("md").varied(weights="inverse_loss")
    ledger = Ledger(method, students=["a", "b"], num_blocks=0)
    carry_out(ledger, ledger.announced(publication("a", loss=1.0)))
    said = publication("b", loss=0.5)
    exchange = FolderExchange(storage, ledger)
    exchange.announce(said)
    roster = read_roster(storage, 0)
    assert roster.weights["all"] == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert {p.student: p.loss for p in roster.publications} == {"a": 1.0, "b": 0.5}
    assert publication_fields(said)["loss"] == 0.5


def test_restart_finds_what_frozen_members_have_published(storage: Storage) -> None:
    for said in (OLD, publication("a")):
        commit_publication(storage, said)
        commit_rows(storage, said, 0)
    FolderExchange(storage, ledger_of())
    assert begun_cycles(storage) == [0]
    assert storage.exists(names.published_folder(FROZEN, "old"))
    assert not storage.exists(names.published_folder(0, "a"))
    assert len(teacher_bytes(storage)) == 1
    # a later cycle is made from the same blocks
    said = replace(publication("a"), cycle=1)
    commit_publication(storage, said)
    commit_rows(storage, said, 0)
    FolderExchange(storage, ledger_of())
    assert len(teacher_bytes(storage, 1)) == 1
    expected = merge_rows([rows_of("a", 0, cycle=1), frozen_rows(storage)], weights_of(storage, 1))
    _, merged_NK = decode_block(np.frombuffer(teacher_bytes(storage, 1)[0], np.uint8))
    assert merged_NK.tobytes() == expected.tobytes()


def frozen_rows(storage: Storage) -> np.ndarray:
    file = names.block_file(names.published_folder(FROZEN, "old"), 0)
    return decode_block(np.frombuffer(storage.read(file).to_pybytes(), np.uint8))[1]


def weights_of(storage: Storage, cycle: int) -> list[float]:
    return list(read_roster(storage, cycle).weights["all"].values())
