"""Time left, and numbers as text."""

import pytest

from raymd.view.text import count_of, duration, listed, loss, percent
from raymd.view.time_left import TimeLeft
from tests.view.examples import about


def seen(times, *, first_epoch=0, **options):
    left = TimeLeft(about(times, epochs=10, **options))
    for student, seconds in times.items():
        for index, value in enumerate(seconds, start=first_epoch):
            left.finished_epoch(student, epoch=index, seconds=value)
    return left.seconds()


def test_nothing_is_known_before_the_first_epoch():
    assert seen({"a": []}) is None


def test_slow_first_epoch_counts_only_while_it_is_the_only_one():
    assert seen({"a": [60.0]}) == 9 * 60.0
    assert seen({"a": [60.0, 2.0]}) == 8 * 2.0


def test_one_odd_epoch_does_not_matter():
    assert seen({"a": [9.0, 2.0, 2.0, 500.0, 2.0]}) == 5 * 2.0


def test_slowest_student_decides_and_turns_add_up():
    times = {"a": [2.0, 2.0], "b": [5.0]}
    assert seen(times) == 9 * 5.0
    assert seen(times, slots=1) == 8 * 2.0 + 9 * 5.0


def test_turns_share_the_workers_at_a_time_and_take_no_less_than_the_longest():
    times = {"a": [2.0], "b": [2.0], "c": [2.0]}
    assert seen(times, slots=2) == 3 * 18.0 / 2
    assert seen({**times, "d": [50.0]}, slots=2) == 9 * 50.0
    assert seen(times, slots=2, workers={"a": 2}) == 4 * 18.0 / 2


def test_student_not_heard_of_is_as_slow_and_as_far_as_the_others():
    assert seen({"a": [2.0, 2.0], "b": []}, slots=1) == 2 * 8 * 2.0


def test_resumed_run_counts_from_where_it_is():
    assert seen({"a": [3.0]}, first_epoch=6) == 3 * 3.0


def test_position_follows_restarts():
    left = TimeLeft(about(["a"], epochs=10))
    assert left.position("a") is None
    left.finished_epoch("a", epoch=4, seconds=1.0)
    left.started("a", epoch=2)
    assert left.position("a") == 2
    assert left.seconds() == 8.0


def test_epoch_under_way_counts_as_far_as_it_is():
    left = TimeLeft(about(["a", "b"], epochs=10))
    left.finished_epoch("a", epoch=0, seconds=4.0)
    left.under_way("a", epoch=1, part=0.5, seconds=100.0)
    assert left.seconds_of("a") == 8.5 * 4.0
    assert left.seconds_of("b") is None


def test_first_epoch_under_way_gives_a_guess_until_it_has_ended():
    left = TimeLeft(about(["a"], epochs=10))
    left.under_way("a", epoch=0, part=0.0, seconds=None)
    assert left.seconds() is None
    left.under_way("a", epoch=0, part=0.25, seconds=8.0)
    assert left.seconds() == left.seconds_of("a") == 9.75 * 8.0
    left.finished_epoch("a", epoch=0, seconds=6.0)
    assert left.seconds() == 9 * 6.0


def test_nothing_is_left_at_the_end():
    assert seen({"a": [1.0] * 10}) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (72, "1:12"),
        (3599.7, "1:00 h"),
        (7380, "2:03 h"),
        (86_399, "1 d 0 h"),
        (273_600, "3 d 4 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.41234, "0.412"),
        (9.9996, "10.00"),
        (12.345, "12.35"),
        (123.45, "123.5"),
        (4567.8, "4568"),
        (123456.0, "1.2e+05"),
    ],
)
def test_loss_takes_about_five_places(value, text):
    assert loss(value) == text


def test_percent_says_100_only_for_all():
    assert [percent(p) for p in (0.951, 0.05, 0.99999, 1.0, 0.0)] == [
        "95.1 %",
        " 5.0 %",
        "99.9 %",
        " 100 %",
        " 0.0 %",
    ]


def test_lists_and_counts():
    assert [listed("abcd"[:n]) for n in range(5)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and 1 more",
    ]
    assert [count_of(n, "image") for n in (0, 1, 1234)] == ["0 images", "1 image", "1,234 images"]
