"""The exchange's policy as a scripted state machine: late, repeated and shuffled facts."""

import random
from collections.abc import Callable, Iterator

import pytest

from raymd.distillation.methods import METHODS, Method
from raymd.exchange.ledger import (
    Action,
    CommitRoster,
    CompleteCycle,
    Ledger,
    MergeBlock,
    Publication,
)
from tests.exchange.conftest import (
    BLOCKS,
    STUDENTS,
    WITHOUT_SELF,
    carry_out,
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
    assert ledger.weights(0, "all") is None
    assert merges(ledger.roster_committed(roster)) == [(0, "all", b) for b in range(BLOCKS)]
    assert ledger.weights(0, "all") == roster.weights["all"]


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
    assert complete == [CompleteCycle(0)]
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
    assert carry_out(ledger, late)[-1] == CompleteCycle(0)
    assert ledger.missing(0) == ()
    assert ledger.missing(1) == ("c",)
    assert not ledger.is_merged(1, "all", 0)


def test_missing_names_a_student_until_its_last_block() -> None:
    ledger = new_ledger(num_blocks=2)
    assert ledger.missing(0) == STUDENTS
    ledger.delivered(0, "b", 1)
    assert ledger.missing(0) == STUDENTS
    ledger.delivered(0, "b", 0)
    assert ledger.missing(0) == ("a", "c")


def test_cycle_is_complete_after_its_last_merge_and_not_before() -> None:
    ledger = new_ledger()
    ledger.roster_committed(announce_all(ledger))
    deliver_all(ledger)
    assert ledger.merged(0, "all", 2) == []
    assert ledger.merged(0, "all", 0) == []
    assert ledger.is_merged(0, "all", 0)
    assert not ledger.is_merged(0, "all", 1)
    assert ledger.merged(0, "all", 1) == [CompleteCycle(0)]


def test_failed_merge_is_ordered_again_and_no_other() -> None:
    ledger = new_ledger()
    ledger.roster_committed(announce_all(ledger))
    orders = [a for a in deliver_all(ledger) if isinstance(a, MergeBlock)]
    assert ledger.merge_failed(orders[1]) == [orders[1]]


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
    assert ledger.merged(0, "without-a", 0) == []
    assert ledger.merged(0, "without-b", 0) == []
    assert ledger.merged(0, "without-c", 0) == [CompleteCycle(0)]


def test_one_student_alone_is_its_own_teacher() -> None:
    ledger = new_ledger(students=("a",), num_blocks=1)
    ordered = carry_out(ledger, ledger.announced(publication("a")))
    ordered += carry_out(ledger, ledger.delivered(0, "a", 0))
    assert [type(action) for action in ordered] == [CommitRoster, MergeBlock, CompleteCycle]
    assert ledger.weights(0, "all") == {"a": 1.0}


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


def roster_fact(roster: CommitRoster) -> Fact:
    return lambda ledger: ledger.roster_committed(roster)


def merged_fact(order: MergeBlock) -> Fact:
    return lambda ledger: ledger.merged(order.cycle, order.teacher, order.block)


def outcome(facts: list[Fact], method: Method, *, draw: random.Random) -> set[str]:
    """What a ledger orders in all, where actions too are carried out in any order."""
    ledger, waiting, ordered = new_ledger(method), list(facts), []
    while waiting:
        fact = waiting.pop(draw.randrange(len(waiting)))
        for action in fact(ledger):
            ordered.append(action)
            if isinstance(action, CommitRoster):
                waiting.append(roster_fact(action))
            elif isinstance(action, MergeBlock):
                waiting.append(merged_fact(action))
    texts = [repr(action) for action in ordered]
    assert len(set(texts)) == len(texts), "ordered twice"
    return set(texts)


@pytest.mark.parametrize("method", [METHODS["md"], WITHOUT_SELF], ids=lambda m: m.name)
def test_any_order_of_facts_orders_the_same(method: Method) -> None:
    cycles = 2
    facts = facts_of(cycles)
    expected = outcome(facts, method, draw=random.Random(0))
    teachers = len(method.teachers(STUDENTS))
    assert len(expected) == cycles * (1 + teachers * BLOCKS + 1)
    for seed in range(1, 200):
        assert outcome(facts, method, draw=random.Random(seed)) == expected, f"seed {seed}"
