"""Which blocks are held, how many bytes at most, and who makes a damaged one again."""

import random
from collections.abc import Iterator
from typing import Any

from raymd.distillation.formats import SoftLabelFormat
from raymd.exchange.damaged import Claims, Damaged
from raymd.exchange.memory import BlockKey, Held, exchange_bytes


def test_held_bytes_count_what_is_there_and_the_most_there_was() -> None:
    held = Held(base_bytes=100)
    a, b = BlockKey(0, "student", "a", 0), BlockKey(0, "student", "b", 0)
    held.put(a, "ref a", 20)
    held.put(a, "another ref", 30)
    held.put(b, "ref b", 5)
    assert (held.bytes, held.peak_bytes) == (135, 135)
    held.drop(lambda key: key.id == "a")
    assert (held.bytes, held.peak_bytes) == (105, 135)
    assert (held.get(a), held.get(b)) == (None, "ref b")


def test_most_bytes_at_once_are_what_an_exchange_of_whole_cycles_holds() -> None:
    """Cycle after cycle: every student's block and the new teacher beside the one before."""
    held, block = Held(), 50 * 10 * 2
    for cycle in range(3):
        for student in ("a", "b", "c"):
            held.put(BlockKey(cycle, "student", student, 0), None, block)
        held.put(BlockKey(cycle, "teacher", "all", 0), None, block)
        held.drop(lambda key, cycle=cycle: key.cycle < cycle + (key.kind == "student"))
        assert held.bytes == block
    assert held.peak_bytes == exchange_bytes(50, 10, 3)
    assert exchange_bytes(50, 10, 3, form=SoftLabelFormat("float32")) == 2 * exchange_bytes(
        50, 10, 3
    )
    assert exchange_bytes(50, 10, 3, teachers=3) == 9 * block


class _Unread(dict[BlockKey, Any]):
    """One that nobody may go through."""

    def __iter__(self) -> Iterator[BlockKey]:
        raise AssertionError("all blocks were looked at")

    values = items = __iter__  # type: ignore[assignment]


def test_holding_a_block_looks_at_no_other() -> None:
    held = Held()
    held._blocks = _Unread()
    for block in (0, 1, 0):
        held.put(BlockKey(0, "student", "a", block), None, 10)
    assert (held.bytes, held.peak_bytes) == (20, 20)


def test_held_bytes_are_the_sum_of_what_is_held_after_any_puts_and_drops() -> None:
    draw, held, expected = random.Random(1), Held(base_bytes=3), dict[BlockKey, int]()
    for _ in range(300):
        key = BlockKey(0, "student", draw.choice("ab"), draw.randrange(5))
        if draw.random() < 0.3:
            held.drop(lambda k, key=key: k == key)
            expected.pop(key, None)
        else:
            expected[key] = draw.randrange(100)
            held.put(key, None, expected[key])
        assert held.bytes == 3 + sum(expected.values())


def test_damaged_block_is_given_to_one_waiter_until_that_one_is_overdue() -> None:
    first, second = Damaged(0, "student", "a", 0), Damaged(0, "student", "a", 1)
    claims = Claims(claim_s=60)
    assert claims.take([first, second], now=0) == first
    assert claims.take([first, second], now=59) == second
    assert not claims.has_any([first, second], now=59)
    assert claims.take([first, second], now=59) is None
    assert claims.take([first, second], now=60) == first
    claims.release(second)
    assert claims.take([first, second], now=61) == second


def test_damaged_blocks_are_equal_whatever_is_wrong_with_them_and_have_an_order() -> None:
    blocks = [Damaged(c, "student", s, b) for c in (0, 1) for s in "ab" for b in (0, 1)]
    shuffled = random.Random(0).sample(blocks, len(blocks))
    assert sorted(shuffled) == blocks
    assert {Damaged(0, "teacher", "all", 0, "gone"), Damaged(0, "teacher", "all", 0, "cut")} == {
        Damaged(0, "teacher", "all", 0)
    }
