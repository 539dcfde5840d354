"""Slow students on a clock of the test's own."""

from raymd.distillation.methods import get_method
from raymd.distillation.schedule import Position, build_schedule
from raymd.execution.dispatch import Standing
from raymd.execution.lateness import Lateness

SCHEDULE = build_schedule(
    method=get_method("md"), epochs=7, tin=1, td=2, lr_drop="exact"
)  # barriers 1, 4


def lateness(*students: str, timeout_s: float | None = 10.0) -> Lateness:
    standings = dict.fromkeys(students, Standing(Position(0)))
    return Lateness(SCHEDULE, standings=standings, timeout_s=timeout_s)


def test_student_is_overdue_when_all_others_have_waited_long_enough() -> None:
    late = lateness("a", "b")
    assert late.overdue(now=100.0, queued=()) == ()
    late.published("a", cycle=0)
    assert late.overdue(now=200.0, queued=()) == ()
    assert late.overdue(now=209.9, queued=()) == ()
    assert late.overdue(now=210.0, queued=()) == ("b",)


def test_each_arrival_begins_the_wait_anew() -> None:
    late = lateness("a", "b", "c")
    late.published("a", cycle=0)
    assert late.overdue(now=0.0, queued=()) == ()
    late.published("b", cycle=0)
    assert late.overdue(now=9.0, queued=()) == ()
    assert late.overdue(now=18.0, queued=()) == ()
    assert late.overdue(now=19.0, queued=()) == ("c",)


def test_student_that_waits_for_a_slot_is_not_slow() -> None:
    late = lateness("a", "b")
    late.published("a", cycle=0)
    for now in range(0, 100, 5):
        assert late.overdue(now=now, queued=("b",)) == ()
    assert late.overdue(now=104.0, queued=()) == ()
    assert late.overdue(now=105.0, queued=()) == ("b",)


def test_nobody_is_overdue_where_nobody_waits_or_no_limit_is_set() -> None:
    late = lateness("a", "b")
    for cycle in (0, 1):
        late.published("a", cycle=cycle)
        late.published("b", cycle=cycle)
        assert late.overdue(now=50.0 + cycle, queued=()) == ()
        assert late.overdue(now=99.0 + cycle, queued=()) == ()
    unlimited = lateness("a", "b", timeout_s=None)
    unlimited.published("a", cycle=0)
    assert unlimited.overdue(now=0.0, queued=()) == ()
    assert unlimited.overdue(now=1e9, queued=()) == ()


def test_students_that_left_are_not_waited_for() -> None:
    late = lateness("a", "b", "c")
    late.published("a", cycle=0)
    late.published("b", cycle=0)
    assert late.overdue(now=0.0, queued=()) == ()
    late.left("c")
    assert late.overdue(now=20.0, queued=()) == ()
    late.left("a")
    late.left("b")
    assert late.overdue(now=40.0, queued=()) == ()


def test_barriers_passed_before_this_attempt_count() -> None:
    standings = {
        "a": Standing(Position(1), has_published=True),
        "b": Standing(Position(0, 3)),
        "finished": Standing(SCHEDULE.end, is_finished=True),
    }
    late = Lateness(SCHEDULE, standings=standings, timeout_s=10.0)
    assert late.overdue(now=0.0, queued=()) == ()
    assert late.overdue(now=10.0, queued=()) == ("b",)


def test_student_at_a_barrier_that_has_published_is_as_far_as_one_behind_it() -> None:
    standings = {
        "a": Standing(Position(1), has_published=True),
        "b": Standing(Position(2, 5)),
    }
    late = Lateness(SCHEDULE, standings=standings, timeout_s=10.0)
    for now in (0.0, 10.0, 100.0):
        assert late.overdue(now=now, queued=()) == ()
