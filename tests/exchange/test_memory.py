"""Which blocks are held, how many bytes at most, and who makes a damaged one again."""

import random

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
