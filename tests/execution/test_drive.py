"""A driver and its monitor on a real Ray, with slots whose workers only act as if they trained."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import ray

from raymd.distillation.methods import get_method
from raymd.distillation.schedule import Position, build_schedule
from raymd.execution import drive
from raymd.execution.dispatch import Dispatch, Segment, Standing
from raymd.execution.drive import Drive, Outcome
from raymd.execution.lateness import Lateness
from raymd.execution.monitor import start_monitor
from raymd.execution.orders import SegmentRecord
from raymd.execution.pace import Pace
from raymd.execution.plan import make_plan
from raymd.execution.signals import Interruption
from raymd.view import events
from tests.execution.conftest import small_ray, wait_until

__all__ = ["small_ray"]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300), pytest.mark.usefixtures("small_ray")]

SCHEDULE = build_schedule(
    method=get_method("md"), epochs=7, tin=1, td=2, lr_drop="exact"
)  # barriers 1, 4
Act = Callable[["ActingSlot", Segment], SegmentRecord]


def reach(_: "ActingSlot", segment: Segment) -> SegmentRecord:
    return SegmentRecord("reached", segment.stop, 0.01)


@dataclass
class Script:
    """How the workers of all slots act, and what became of them."""

    acts: dict[str, Act] = field(default_factory=dict)
    trained: list[Segment] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)


class ActingSlot(threading.Thread):
    """A SlotThread whose worker is this thread."""

    script: Script

    def __init__(self, slot: int, work: Any, plan: Any, *, num_workers: int) -> None:
        super().__init__(daemon=True)
        self.slot, self.work, self.num_workers = slot, work, num_workers
        self.segment: Segment | None = None
        self.ending: str | None = None
        self.error = ""
        self.was_released = threading.Event()
        self.script.opened.append(slot)

    def run(self) -> None:
        monitor, last, record = self.work.monitor, -1, None
        while given := ray.get(monitor.next_order.remote(self.slot, last, record)):
            last, segment = given
            self.script.trained.append(segment)
            record = self.script.acts.get(segment.student, reach)(self, segment)
            if self.ending is not None:
                return
            if segment.stop.epoch in SCHEDULE.barriers and record.ending == "reached":
                cycle = SCHEDULE.epochs[segment.stop.epoch].cycle
                event = events.published(
                    student=segment.student, cycle=cycle, accuracy=0.5, bytes=0, blocks=1,
                    seconds=0.0, sample=[],
                )  # fmt: skip
                ray.get(monitor.push.remote(event))
        self.ending = "closed"

    def abandon(self) -> None:
        """Nothing is left to do."""

    def release(self) -> None:
        self.script.released.append(self.slot)
        self.was_released.set()


class FakeAggregator:
    """What the drive tells an aggregator."""

    def __init__(self) -> None:
        self.lost: list[Any] = []
        self.warm_ups = 0

    async def warm_up(self) -> None:
        self.warm_ups += 1

    async def lose(self, loss: Any) -> None:
        self.lost.append(loss)

    async def warmed_up(self) -> int:
        return self.warm_ups

    async def told(self) -> list[Any]:
        return self.lost


@dataclass
class Work:
    monitor: Any
    aggregator: Any
    storage: Any = None


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(ActingSlot, "script", script, raising=False)
    monkeypatch.setattr(drive, "SlotThread", ActingSlot)
    monkeypatch.setattr(drive, "newest_position", lambda storage, student: Position(0))
    monkeypatch.setattr(drive, "kill_controllers", lambda: 0)
    monkeypatch.setattr(drive, "POLL_S", 0.05)
    return script


@pytest.fixture
def work() -> Iterator[Work]:
    monitor = start_monitor(f"monitor-{time.monotonic_ns()}")
    aggregator = ray.remote(num_cpus=0)(FakeAggregator).remote()
    yield Work(monitor, aggregator)
    ray.kill(monitor, no_restart=True)
    ray.kill(aggregator, no_restart=True)


def new_drive(
    work: Any,
    *students: str,
    slots: int | None = None,
    goes_on: bool = False,
    timeout_s: float | None = None,
    shown: list[Mapping[str, Any]] | None = None,
    frozen: tuple[str, ...] = (),
    least_students: int = 1,
) -> Drive:
    workers = dict.fromkeys((*students, *frozen), 1)
    standings = dict.fromkeys(students, Standing(Position(0)))
    standings |= dict.fromkeys(frozen, Standing(Position(0), is_frozen=True))
    plan = make_plan(workers, nodes=[{"CPU": 8.0}], slots=slots)
    pace = Pace({**dict.fromkeys(students, 1e-3), **dict.fromkeys(frozen, 0.0)})
    return Drive(
        work=work,
        plan=plan,
        dispatch=Dispatch(
            SCHEDULE,
            workers=workers,
            standings=standings,
            slots=plan.slots,
            sliced=plan.placement == "sliced",
            cost=pace.cost,
        ),
        lateness=Lateness(
            SCHEDULE,
            standings=standings,
            timeout_s=timeout_s,
        ),
        pace=pace,
        show=(shown if shown is not None else []).append,
        interruption=Interruption(),
        goes_on=goes_on,
        least_students=least_students,
    )


def fail(slot: ActingSlot, segment: Segment) -> SegmentRecord:
    return SegmentRecord("failed", Position(0, 3), error="loss is nan", exit_code=3)


def until_stopped(slot: ActingSlot, segment: Segment) -> SegmentRecord:
    ray.get(slot.work.monitor.wait_for_stop.remote())
    return SegmentRecord("stopped", Position(0, 5))


def test_students_in_turns_pass_every_barrier_in_two_slots(script: Script, work: Work) -> None:
    shown: list[Mapping[str, Any]] = []
    outcome = new_drive(work, "a", "b", "c", "d", slots=2, shown=shown).run()
    assert outcome == Outcome("done")
    assert sorted(script.opened) == [0, 1]
    assert len(script.trained) == 12
    segments = [event for event in shown if event["event"] == "segment"]
    assert {(e["start_epoch"], e["stop_epoch"]) for e in segments} == {(0, 1), (1, 4), (4, 7)}


def test_merging_is_warmed_up_once_and_not_before_students_train(
    script: Script, work: Work
) -> None:
    seen: list[int] = []

    def trains(slot: ActingSlot, segment: Segment) -> SegmentRecord:
        ray.get(slot.work.monitor.push.remote({"event": "started", "student": segment.student}))
        time.sleep(0.3)
        seen.append(ray.get(slot.work.aggregator.warmed_up.remote()))
        for _ in range(2):
            ray.get(slot.work.monitor.push.remote({"event": "progress"}))
        return SegmentRecord("reached", segment.stop)

    script.acts = {"a": trains}
    new_drive(work, "a").run()
    assert (seen, ray.get(work.aggregator.warmed_up.remote())) == ([0], 1)


def test_failed_student_ends_the_run_and_the_others_stop(script: Script, work: Work) -> None:
    script.acts = {"a": fail, "b": until_stopped}
    assert new_drive(work, "a", "b").run() == Outcome("failed", "loss is nan", 3)


def test_frozen_teachers_publish_before_students_take_the_only_slot(
    script: Script, work: Work
) -> None:
    assert new_drive(work, "a", "b", slots=1, frozen=("old",)).run().ending == "done"
    assert script.trained[0] == Segment("old", Position(0), Position(0))
    assert [segment.student for segment in script.trained].count("old") == 1


@pytest.mark.parametrize(
    ("failing", "frozen", "least_students"),
    [("old", ("old",), 1), ("a", (), 2), ("a", ("old",), 2)],
)
def test_run_that_cannot_do_without_whoever_failed_ends(
    script: Script, work: Work, failing: str, frozen: tuple[str, ...], least_students: int
) -> None:
    script.acts[failing] = fail
    drive = new_drive(work, "a", "b", goes_on=True, frozen=frozen, least_students=least_students)
    assert drive.run().ending == "failed"
    assert ray.get(work.aggregator.told.remote()) == []


def test_run_goes_on_without_a_failed_student(script: Script, work: Work) -> None:
    script.acts = {"a": fail}
    shown: list[Mapping[str, Any]] = []
    assert new_drive(work, "a", "b", "c", slots=2, goes_on=True, shown=shown).run().ending == "done"
    (loss,) = ray.get(work.aggregator.told.remote())
    assert (loss.student, loss.reason, loss.epoch, loss.step) == ("a", "loss is nan", 0, 3)
    assert [e["student"] for e in shown if e["event"] == "lost"] == ["a"]
    assert {s.student for s in script.trained if s.stop == SCHEDULE.end} == {"b", "c"}


def test_last_student_cannot_be_gone_on_without(script: Script, work: Work) -> None:
    script.acts = {"a": fail, "b": fail}
    assert new_drive(work, "a", "b", goes_on=True).run().ending == "failed"
    assert len(ray.get(work.aggregator.told.remote())) == 1


def test_late_student_is_lost_and_its_workers_are_ended(script: Script, work: Work) -> None:
    def hang(slot: ActingSlot, segment: Segment) -> SegmentRecord:
        assert slot.was_released.wait(60)
        slot.ending = "closed"
        return SegmentRecord("stopped", Position(0))

    script.acts = {"b": hang}
    drive = new_drive(work, "a", "b", "c", slots=2, goes_on=True, timeout_s=0.5)
    assert drive.run().ending == "done"
    (loss,) = ray.get(work.aggregator.told.remote())
    assert loss.student == "b"
    assert "--barrier_timeout_s" in loss.reason
    assert len(script.released) == 1


def test_no_room_for_a_slot_ends_the_attempt_after_all_have_committed(
    script: Script, work: Work
) -> None:
    def without_room(slot: ActingSlot, segment: Segment) -> SegmentRecord:
        slot.ending = "no room"
        return SegmentRecord("stopped", Position(0))

    script.acts = {"a": without_room, "b": until_stopped}
    assert new_drive(work, "a", "b").run() == Outcome("displaced")


def test_signal_stops_all(script: Script, work: Work) -> None:
    script.acts = dict.fromkeys("ab", until_stopped)
    drive = new_drive(work, "a", "b", "c", slots=2)
    drive.interruption.name = "SIGTERM"
    assert drive.run() == Outcome("stopped")


def test_aggregator_that_stops_the_run_is_named(script: Script, work: Work) -> None:
    script.acts = dict.fromkeys("ab", until_stopped)
    ray.get(work.monitor.failed.remote("the aggregator", "disk full"))
    ray.get(work.monitor.stop.remote())
    outcome = new_drive(work, "a", "b").run()
    assert (outcome.ending, outcome.error) == ("failed", "the aggregator failed: disk full")


def test_killed_monitor_is_told_its_orders_again(script: Script, work: Work) -> None:
    killed = threading.Event()

    def slow(slot: ActingSlot, segment: Segment) -> SegmentRecord:
        wait_until(killed.is_set, "the monitor's death")
        return reach(slot, segment)

    script.acts = {"a": slow}

    def kill() -> None:
        wait_until(lambda: script.trained, "a first order")
        ray.kill(work.monitor, no_restart=False)
        killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    assert new_drive(work, "a", "b", "c", slots=1).run() == Outcome("done")
    killer.join()
