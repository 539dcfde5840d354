"""The exchange's policy as a scripted state machine: late, repeated and shuffled facts."""

import random
from collections.abc import Callable, Iterator

import pytest

from raymd.distillation.methods import METHODS, Method
from raymd.exchange.damaged import Damaged
from raymd.exchange.facts import (
    Action,
    CommitRoster,
    CompleteCycle,
    Loss,
    MergeBlock,
    Publication,
)
from raymd.exchange.ledger import Ledger
from tests.exchange.conftest import (
    BLOCKS,
    STUDENTS,
    WITHOUT_SELF,
    carry_out,
    completes,
    follow,
    merges,
    new_ledger,
    publication,
)

Fact = Callable[[Ledger], list[Action]]


def announce_all(ledger: Ledger, *, cycle: int = 0) -> CommitRoster:
    """All students announce; the roster that this orders."""
    actions = [a for s in STUDENTS for a in ledger.announced(publication(s, cycle=cycle))]
    (roster,) = actions
    assert isinstance(roster, CommitRoster)
    return roster


def deliver_all(ledger: Ledger, *, cycle: int = 0) -> list[Action]:
    return [
        action
        for student in STUDENTS
        for block in range(BLOCKS)
        for action in ledger.delivered(cycle, student, block)
    ]


def test_roster_is_ordered_by_the_last_announcement_with_eq_8_weights() -> None:
    ledger = new_ledger()
    assert ledger.announced(publication("c")) == []
    assert ledger.announced(publication("a")) == []
    (roster,) = ledger.announced(publication("b"))
    assert isinstance(roster, CommitRoster)
    assert [p.student for p in roster.publications] == ["a", "b", "c"]
    assert list(roster.weights) == ["all"]
    assert roster.weights["all"] == pytest.approx({"a": 0.5, "b": 0.3, "c": 0.2})
    assert list(roster.weights["all"]) == ["a", "b", "c"]


def test_nothing_is_merged_before_the_roster_is_committed() -> None:
    ledger = new_ledger()
    roster = announce_all(ledger)
    assert deliver_all(ledger) == []
    actions = ledger.roster_committed(roster)
    assert merges(actions) == [(0, "all", b) for b in range(BLOCKS)]
    assert {repr(a.weights) for a in actions if isinstance(a, MergeBlock)} == {
        repr(roster.weights["all"])
    }


def test_block_is_merged_as_soon_as_the_last_student_delivers_it() -> None:
    ledger = new_ledger()
    ledger.roster_committed(announce_all(ledger))
    for student in ("b", "c"):
        assert ledger.delivered(0, student, 1) == []
    (merge,) = ledger.delivered(0, "a", 1)
    assert isinstance(merge, MergeBlock)
    assert (merge.teacher, merge.block) == ("all", 1)
    assert list(merge.weights) == ["a", "b", "c"]


def test_repeated_facts_order_nothing_again() -> None:
    ledger = new_ledger()
    roster = announce_all(ledger)
    assert ledger.announced(publication("b")) == []
    ledger.roster_committed(roster)
    assert len(merges(deliver_all(ledger))) == BLOCKS
    assert deliver_all(ledger) == []
    assert ledger.roster_committed(roster) == []
    complete = [a for b in range(BLOCKS) for a in ledger.merged(0, "all", b)]
    assert complete == [CompleteCycle(roster)]
    assert [a for b in range(BLOCKS) for a in ledger.merged(0, "all", b)] == []
    assert ledger.announced(publication("a")) == []


def test_late_student_blocks_its_own_cycle_and_no_other() -> None:
    ledger = new_ledger()
    carry_out(ledger, [announce_all(ledger)])
    for student in ("a", "b"):
        ledger.announced(publication(student, cycle=1))
        for block in range(BLOCKS):
            ledger.delivered(0, student, block)
            assert ledger.delivered(1, student, block) == []
    assert ledger.missing(0) == ledger.missing(1) == ("c",)
    # c is late for both: its blocks of cycle 0 finish that cycle while cycle 1 still waits
    late = [a for block in range(BLOCKS) for a in ledger.delivered(0, "c", block)]
    assert completes(carry_out(ledger, late)) == [0]
    assert ledger.missing(0) == ()
    assert ledger.missing(1) == ("c",)
    assert ledger.complete(1) is None


def test_missing_names_a_student_until_its_last_block() -> None:
    ledger = new_ledger(num_blocks=2)
    assert ledger.missing(0) == STUDENTS
    ledger.delivered(0, "b", 1)
    assert ledger.missing(0) == STUDENTS
    ledger.delivered(0, "b", 0)
    assert ledger.missing(0) == ("a", "c")


def test_cycle_is_complete_after_its_last_merge_and_read_once_that_is_committed() -> None:
    ledger = new_ledger()
    roster = announce_all(ledger)
    ledger.roster_committed(roster)
    deliver_all(ledger)
    assert ledger.merged(0, "all", 2) == []
    assert ledger.merged(0, "all", 0) == []
    assert ledger.merged(0, "all", 1) == [CompleteCycle(roster)]
    assert ledger.complete(0) is None
    ledger.completed(roster)
    assert ledger.complete(0) == roster


def test_publication_from_other_weights_is_refused_with_both() -> None:
    ledger = new_ledger()
    ledger.announced(publication("a"))
    with pytest.raises(ValueError, match=r"a published cycle 0 from other weights.*weights-of-a"):
        ledger.announced(publication("a", publish_id="others"))
    with pytest.raises(ValueError, match="other weights"):
        ledger.announced(publication("a", accuracy=0.1))
    assert ledger.announced(publication("a", cycle=1, publish_id="others")) == []


def test_refused_publication_changes_no_weight() -> None:
    ledger = new_ledger()
    for student in ("a", "b"):
        ledger.announced(publication(student))
    with pytest.raises(ValueError, match="other weights"):
        ledger.announced(publication("a", accuracy=0.9))
    (roster,) = ledger.announced(publication("c"))
    assert isinstance(roster, CommitRoster)
    assert roster.publications[0] == publication("a")


def test_publication_from_other_weights_than_a_committed_roster_is_refused() -> None:
    roster = announce_all(new_ledger())
    restarted = new_ledger()
    restarted.roster_committed(roster)
    with pytest.raises(ValueError, match="other weights"):
        restarted.announced(publication("b", publish_id="others"))


def test_stranger_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'d' is not in this run: \('a', 'b', 'c'\)"):
        new_ledger().announced(publication("d"))


def test_each_student_has_a_teacher_of_the_others_where_the_method_leaves_it_out() -> None:
    ledger = new_ledger(WITHOUT_SELF)
    roster = announce_all(ledger)
    assert {teacher: list(members) for teacher, members in roster.weights.items()} == {
        "without-a": ["b", "c"],
        "without-b": ["a", "c"],
        "without-c": ["a", "b"],
    }
    assert roster.weights["without-a"] == pytest.approx({"b": 0.6, "c": 0.4})
    ledger.roster_committed(roster)
    ledger.delivered(0, "a", 0)
    # c's teacher needs a and b alone, so c's own lateness does not hold it up
    assert merges(ledger.delivered(0, "b", 0)) == [(0, "without-c", 0)]
    assert merges(ledger.delivered(0, "c", 0)) == [(0, "without-a", 0), (0, "without-b", 0)]


def test_cycle_with_a_teacher_each_is_complete_when_all_teachers_are() -> None:
    ledger = new_ledger(WITHOUT_SELF, num_blocks=1)
    ledger.roster_committed(announce_all(ledger))
    deliver_all(ledger)
    assert ledger.merged(0, "without-a", 0) == []
    assert ledger.merged(0, "without-b", 0) == []
    assert completes(ledger.merged(0, "without-c", 0)) == [0]


def test_one_student_alone_is_its_own_teacher() -> None:
    ledger = new_ledger(students=("a",), num_blocks=1)
    ordered = carry_out(ledger, ledger.announced(publication("a")))
    ordered += carry_out(ledger, ledger.delivered(0, "a", 0))
    assert [type(action) for action in ordered] == [CommitRoster, MergeBlock, CompleteCycle]
    assert [a.weights for a in ordered if isinstance(a, MergeBlock)] == [{"a": 1.0}]


# -- any order of facts -----------------------------------------------------------------------


def facts_of(cycles: int) -> list[Fact]:
    """Every fact that students bring to a run, some of them twice."""

    def announced(said: Publication) -> Fact:
        return lambda ledger: ledger.announced(said)

    def delivered(cycle: int, student: str, block: int) -> Fact:
        return lambda ledger: ledger.delivered(cycle, student, block)

    def once() -> Iterator[Fact]:
        for cycle in range(cycles):
            for student in STUDENTS:
                yield announced(publication(student, cycle=cycle))
                for block in range(BLOCKS):
                    yield delivered(cycle, student, block)

    facts = list(once())
    return facts + facts[::3]


def carried_out(action: Action) -> Fact:
    """Merges end whatever came in between; records and losses are committed one by one."""

    def fact(ledger: Ledger) -> list[Action]:
        counts = isinstance(action, MergeBlock) or ledger.is_current(action)
        return follow(ledger, action) if counts else []

    return fact


def outcome(facts: list[Fact], method: Method, *, draw: random.Random) -> Ledger:
    """A ledger after all facts, where actions too are carried out in any order."""
    ledger, waiting = new_ledger(method), list(facts)
    ordered: list[Action] = []
    while waiting:
        fact = waiting.pop(draw.randrange(len(waiting)))
        actions = fact(ledger)
        ordered += actions
        waiting += map(carried_out, actions)
    assert len({repr(action) for action in ordered}) == len(ordered), "ordered twice"
    return ledger


@pytest.mark.parametrize("method", [METHODS["md"], WITHOUT_SELF], ids=lambda m: m.name)
def test_any_order_of_facts_completes_the_same_cycles(method: Method) -> None:
    expected = outcome(facts_of(2), method, draw=random.Random(0))
    for seed in range(1, 200):
        found = outcome(facts_of(2), method, draw=random.Random(seed))
        for cycle in range(2):
            assert found.complete(cycle) is not None
            assert found.complete(cycle) == expected.complete(cycle), f"seed {seed}"


# -- a student is lost ------------------------------------------------------------------------


def loss_of(student: str, *, cycle: int = 0) -> Loss:
    return Loss(student, "its GPU burnt", epoch=3, step=0, cycle=cycle)


def announce_and_deliver(ledger: Ledger, student: str, *, cycle: int = 0) -> list[Action]:
    actions = ledger.announced(publication(student, cycle=cycle))
    for block in range(BLOCKS):
        actions += ledger.delivered(cycle, student, block)
    return actions


def test_cycle_of_a_lost_student_is_made_by_the_others_with_weights_of_sum_one() -> None:
    ledger = new_ledger()
    for student in ("a", "b"):
        announce_and_deliver(ledger, student)
    (roster,) = ledger.lost(loss_of("c"))
    assert isinstance(roster, CommitRoster)
    assert roster.weights["all"] == pytest.approx({"a": 0.625, "b": 0.375})
    assert roster.revision == 1
    assert completes(carry_out(ledger, [roster])) == [0]
    assert ledger.missing(0) == ()


def test_blocks_merged_for_the_roster_before_a_loss_are_merged_again() -> None:
    ledger = new_ledger()
    old = announce_all(ledger)
    ledger.roster_committed(old)
    orders = [action for action in deliver_all(ledger) if isinstance(action, MergeBlock)]
    ledger.merged(0, "all", 0)
    (roster,) = ledger.lost(loss_of("b"))
    assert isinstance(roster, CommitRoster)
    assert merges(ledger.roster_committed(roster)) == [(0, "all", b) for b in range(BLOCKS)]
    # merges and rosters that were under way say nothing of the new ones
    assert ledger.roster_committed(old) == []
    assert [a for order in orders for a in follow(ledger, order)] == []
    assert not any(ledger.is_current(action) for action in (old, *orders))
    new = [a for block in range(BLOCKS) for a in ledger.merged(0, "all", block, revision=1)]
    assert new == [CompleteCycle(roster)]


def test_complete_cycle_stays_as_it_was_made_and_the_next_lacks_the_lost() -> None:
    ledger = new_ledger()
    roster = announce_all(ledger)
    carry_out(ledger, [roster, *deliver_all(ledger)])
    assert ledger.first_open() == 1
    assert ledger.lost(loss_of("c", cycle=ledger.first_open())) == []
    assert ledger.complete(0) == roster
    actions = [a for s in ("a", "b") for a in announce_and_deliver(ledger, s, cycle=1)]
    carry_out(ledger, actions)
    after = ledger.complete(1)
    assert after is not None
    assert list(after.weights["all"]) == ["a", "b"]


def test_lost_students_late_facts_are_ignored() -> None:
    ledger = new_ledger()
    ledger.lost(loss_of("c"))
    assert announce_and_deliver(ledger, "c") == []
    assert ledger.missing(0) == ("a", "b")
    announce_and_deliver(ledger, "a")
    actions = announce_and_deliver(ledger, "b")
    assert completes(carry_out(ledger, actions)) == [0]
    assert ledger.lost(loss_of("c")) == []


def test_nobody_left_is_nothing_to_merge() -> None:
    ledger = new_ledger()
    announce_all(ledger)
    assert [a for s in STUDENTS for a in ledger.lost(loss_of(s)) if merges([a])] == []
    assert ledger.missing(0) == ()
    assert ledger.complete(0) is None


def test_lost_students_own_teacher_is_not_made() -> None:
    ledger = new_ledger(WITHOUT_SELF)
    ledger.lost(loss_of("c"))
    actions = [a for s in ("a", "b") for a in announce_and_deliver(ledger, s)]
    ordered = carry_out(ledger, actions)
    assert sorted({teacher for _, teacher, _ in merges(ordered)}) == ["without-a", "without-b"]
    assert completes(ordered) == [0]


def test_in_any_order_of_facts_a_loss_changes_what_is_not_complete_and_nothing_else() -> None:
    before: dict[int, bool] = {}

    def lose(ledger: Ledger) -> list[Action]:
        before.update({cycle: ledger.complete(cycle) is not None for cycle in range(2)})
        return ledger.lost(loss_of("b", cycle=ledger.first_open()))

    seen = set()
    for seed in range(200):
        ledger = outcome([*facts_of(2), lose], METHODS["md"], draw=random.Random(seed))
        for cycle in range(2):
            roster = ledger.complete(cycle)
            assert roster is not None, f"seed {seed}"
            expected = ["a", "b", "c"] if before[cycle] else ["a", "c"]
            assert list(roster.weights["all"]) == expected, f"seed {seed}"
            seen.add(before[cycle])
    assert seen == {True, False}


# -- damage -----------------------------------------------------------------------------------


def test_damaged_block_is_merged_once_it_was_made_again() -> None:
    ledger = new_ledger()
    ledger.roster_committed(announce_all(ledger))
    orders = [action for action in deliver_all(ledger) if isinstance(action, MergeBlock)]
    damaged = Damaged(0, "student", "b", 1, "truncated")
    ledger.damaged(damaged)
    assert ledger.damage(0) == [damaged]
    assert ledger.missing(0) == ("b",)
    assert [a for order in (orders[0], orders[2]) for a in follow(ledger, order)] == []
    assert ledger.rebuilt(damaged) == [orders[1]]
    assert ledger.damage(0) == []
    assert completes(follow(ledger, orders[1])) == [0]


def test_damage_of_a_lost_student_is_nobodys_work() -> None:
    ledger = new_ledger()
    ledger.roster_committed(announce_all(ledger))
    deliver_all(ledger)
    ledger.damaged(Damaged(0, "student", "b", 1))
    ledger.lost(loss_of("b"))
    ledger.damaged(Damaged(0, "student", "b", 2))
    assert ledger.damage(0) == []


def test_damaged_teacher_of_a_complete_cycle_is_known_until_made_again() -> None:
    ledger = new_ledger()
    carry_out(ledger, [announce_all(ledger), *deliver_all(ledger)])
    damaged = Damaged(0, "teacher", "all", 2)
    ledger.damaged(damaged)
    assert ledger.damage(0) == [damaged]
    assert ledger.rebuilt(damaged) == []
    assert ledger.damage(0) == []


@pytest.mark.parametrize("method", [METHODS["md"], WITHOUT_SELF], ids=["md", "without-self"])
def test_work_of_a_ledger_grows_no_faster_than_its_blocks(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by what it looks up of members' blocks, for every fact of a whole cycle."""
    look_up, looked_up = Ledger._of, 0

    def counted(self: Ledger, cycle: int, member: str) -> object:
        nonlocal looked_up
        looked_up += 1
        return look_up(self, cycle, member)

    monkeypatch.setattr(Ledger, "_of", counted)

    def look_ups(num_blocks: int) -> int:
        nonlocal looked_up
        ledger, looked_up = new_ledger(method, num_blocks=num_blocks), 0
        actions = [a for s in STUDENTS for a in ledger.announced(publication(s))]
        carry_out(ledger, actions)
        for block in range(num_blocks):
            for student in STUDENTS:
                # as the aggregator tells it, the announcement anew before each block
                actions = ledger.announced(publication(student))
                carry_out(ledger, actions + ledger.delivered(0, student, block))
        assert ledger.complete(0) is not None
        return looked_up

    few, more = look_ups(10), look_ups(40)
    per_block = (more - few) / 30
    assert look_ups(200) - more == 160 * per_block
