"""Segments onto slots, played through without workers: who trains when, and who waits."""

import heapq
import random
from collections.abc import Mapping

import pytest

from raymd.distillation.methods import get_method
from raymd.distillation.schedule import Position, Schedule, build_schedule
from raymd.execution.dispatch import Assign, Close, Dispatch, Segment, Standing

SCHEDULE = build_schedule(
    method=get_method("md"), epochs=7, tin=1, td=2, lr_drop="exact"
)  # barriers 1, 4
START = Standing(Position(0))


def dispatch(
    workers: Mapping[str, int],
    *,
    slots: int,
    sliced: bool = True,
    schedule: Schedule = SCHEDULE,
    costs: Mapping[str, float] | None = None,
    standings: Mapping[str, Standing] | None = None,
) -> Dispatch:
    return Dispatch(
        schedule,
        workers=workers,
        standings=standings or dict.fromkeys(workers, START),
        slots=slots,
        sliced=sliced,
        cost=lambda segment: (costs or {}).get(segment.student, 1.0),
    )


class Play:
    """Plays a dispatch in simulated time: each segment takes its cost."""

    def __init__(self, dispatch: Dispatch) -> None:
        self.dispatch = dispatch
        self.now = 0.0
        self.trained: list[tuple[float, float, int, Segment]] = []
        self.open: dict[int, int] = {}
        self.opened = 0

    def run(self) -> float:
        busy: list[tuple[float, int]] = []
        while True:
            for action in self.dispatch.actions():
                if isinstance(action, Close):
                    del self.open[action.slot]
                    self.dispatch.gone(action.slot)
                    heapq.heappush(busy, (self.now, -1))  # look again
                    continue
                segment = action.segment
                if action.opens:
                    self.open[action.slot] = self.dispatch.workers[segment.student]
                    self.opened += 1
                end = self.now + self.dispatch.cost(segment)
                self.trained.append((self.now, end, action.slot, segment))
                heapq.heappush(busy, (end, action.slot))
                assert sum(self.open.values()) <= self.dispatch.num_workers
            if not busy:
                return self.now
            self.now, slot = heapq.heappop(busy)
            if slot >= 0:
                self.dispatch.ended(slot)

    def segments(self, student: str) -> list[tuple[Position, Position]]:
        return [(s.start, s.stop) for _, _, _, s in self.trained if s.student == student]


def test_resident_students_have_a_slot_and_one_segment_each() -> None:
    play = Play(dispatch({"a": 1, "b": 2}, slots=3, sliced=False))
    play.run()
    assert play.dispatch.is_done
    assert play.segments("a") == play.segments("b") == [(Position(0), SCHEDULE.end)]
    assert (play.opened, play.open) == (2, {})


def test_one_slot_serves_any_number_of_students() -> None:
    play = Play(dispatch({f"s{n}": 1 for n in range(8)}, slots=1))
    play.run()
    assert play.dispatch.is_done
    assert play.opened == 1  # its workers stay warm
    parts = [(Position(0), Position(1)), (Position(1), Position(4)), (Position(4), SCHEDULE.end)]
    assert all(play.segments(f"s{n}") == parts for n in range(8))


def test_nobody_distils_before_everybody_has_published() -> None:
    play = Play(dispatch({"a": 1, "b": 1, "c": 1}, slots=2, costs={"a": 3, "b": 1, "c": 1}))
    play.run()
    for barrier in (Position(1), Position(4)):
        published = max(end for _, end, _, s in play.trained if s.stop == barrier)
        assert all(start >= published for start, _, _, s in play.trained if s.start == barrier)


def test_longest_segment_goes_first() -> None:
    costs = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 4.0}
    play = Play(dispatch(dict.fromkeys(costs, 1), slots=2, costs=costs))
    assert play.run() == 3 * 6  # b and a, d and c: by their names it would take 7
    assert [s.student for _, _, _, s in play.trained[:4]] == ["b", "d", "c", "a"]


def test_independent_students_need_no_barrier() -> None:
    schedule = build_schedule(
        method=get_method("independent"), epochs=7, tin=1, td=2, lr_drop="exact"
    )
    play = Play(dispatch({"a": 1, "b": 1}, slots=1, schedule=schedule))
    play.run()
    assert play.segments("a") == play.segments("b") == [(Position(0), schedule.end)]


def test_students_go_on_from_where_they_stand() -> None:
    standings = {
        "at": Standing(Position(1)),  # killed while it published
        "done": Standing(Position(1), has_published=True),
        "behind": Standing(Position(0, 5)),
    }
    play = Play(dispatch(dict.fromkeys(standings, 1), slots=1, standings=standings))
    play.run()
    assert play.dispatch.is_done
    assert play.segments("at")[0] == (Position(1), Position(1))
    assert play.segments("behind")[0] == (Position(0, 5), Position(1))
    assert play.segments("done") == [(Position(1), Position(4)), (Position(4), SCHEDULE.end)]


def test_finished_students_are_left_alone_and_missing_final_files_are_made() -> None:
    standings = {
        "finished": Standing(SCHEDULE.end, is_finished=True),
        "at_end": Standing(SCHEDULE.end),
    }
    play = Play(dispatch(dict.fromkeys(standings, 1), slots=2, standings=standings))
    play.run()
    assert [s.student for *_, s in play.trained] == ["at_end"]


def test_nobody_waits_for_a_lost_student() -> None:
    one = dispatch({"a": 1, "b": 1}, slots=2)
    first = [action for action in one.actions() if isinstance(action, Assign)]
    slot_of = {action.segment.student: action.slot for action in first}
    one.ended(slot_of["a"])
    assert one.actions() == []  # a waits for b's soft labels
    assert one.lost("b") == [slot_of["b"]]
    assert one.actions() == [
        Assign(slot_of["a"], Segment("a", Position(1), Position(4)), opens=False)
    ]
    one.gone(slot_of["b"])
    assert not one.is_done


def test_idle_slots_of_another_size_make_room() -> None:
    play = Play(dispatch({"wide": 3, "a": 1, "b": 1}, slots=3, costs={"wide": 2}))
    play.run()
    assert play.dispatch.is_done


@pytest.mark.parametrize("seed", range(30))
def test_any_students_end_on_any_slots_that_hold_the_widest(seed: int) -> None:
    draw = random.Random(seed)
    workers = {f"s{n}": draw.choice([1, 1, 1, 2, 3]) for n in range(draw.randint(1, 9))}
    costs = {student: draw.uniform(1, 9) for student in workers}
    slots = draw.randint(max(workers.values()), sum(workers.values()) + 1)
    play = Play(dispatch(workers, slots=slots, sliced=draw.random() < 0.8 or slots < sum(
        workers.values()), costs=costs))  # fmt: skip
    makespan = play.run()
    assert play.dispatch.is_done
    assert play.open == {}
    work = sum(costs[s.student] * workers[s.student] for *_, s in play.trained)
    if set(workers.values()) == {1} and play.dispatch.sliced:
        # Graham's bound for a list schedule, in each of the three rounds
        assert makespan <= work / slots + 3 * max(costs.values())
