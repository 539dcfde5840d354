"""One attempt at a run: orders out to the slots, events and records in, until all have ended.

What to do next is dispatch.py's to say, who is late lateness.py's; here it is done. The driver
holds all that matters: a monitor that was killed is told its orders again.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import ray
from ray.exceptions import RayTaskError

from raymd.errors import RaymdError
from raymd.exchange.facts import Loss
from raymd.execution.compat import kill_controllers, remove_orphaned_groups
from raymd.execution.dispatch import Action, Close, Dispatch, Segment
from raymd.execution.lateness import Lateness
from raymd.execution.orders import SegmentRecord
from raymd.execution.pace import Pace
from raymd.execution.plan import Plan
from raymd.execution.signals import Interruption, stop_note
from raymd.execution.slots import SlotThread
from raymd.execution.work import Work, newest_position
from raymd.view import events

POLL_S = 0.5
AGGREGATOR = "the aggregator"  # as it signs its failures
STOP_GRACE_S = 120.0  # a student commits after its step; one that does not is left behind

Show = Callable[[Mapping[str, Any]], None]


class TrainingError(RaymdError):
    """A student could not go on; the message names it and the remedy."""


class DivergedError(TrainingError):
    """A student's loss was no number any more: a finding about its settings, no accident."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        ending: ``done``; ``stopped`` by a signal; ``failed``; ``displaced``: work of others holds
            the cluster, everything is committed and no worker is left.
        error, exit_code, diverged: Of ``failed``.
        peak_bytes: The most that the run has held in the object store.
        left: Students that did not stop in time, and were ended before they had committed.
    """

    ending: Literal["done", "stopped", "failed", "displaced"]
    error: str = ""
    exit_code: int = 1
    peak_bytes: int = 0
    left: str = ""
    diverged: bool = False


@dataclass
class Busy:
    """A slot's thread, and the order its workers carry out; None while they have none."""

    thread: SlotThread
    number: int = -1
    segment: Segment | None = None
    began: float = 0.0
    is_closed: bool = False


@dataclass(kw_only=True)
class Drive:
    """One attempt.

    Attributes:
        work: What all slots are given.
        plan: Their resources.
        dispatch, lateness, pace: Its policies.
        show: Takes events.
        interruption: Of ``interruptible``.
        goes_on: Whether the run goes on when a student is lost.
        least_students: How many the run's method takes.
    """

    work: Work
    plan: Plan
    dispatch: Dispatch
    lateness: Lateness
    pace: Pace
    show: Show
    interruption: Interruption
    goes_on: bool
    least_students: int = 1
    _slots: dict[int, Busy] = field(default_factory=dict, init=False)
    _outcome: Outcome | None = field(default=None, init=False)  # what ends it before its end
    _life: str | None = field(default=None, init=False)
    _is_warm: bool = field(default=False, init=False)  # or is being made so
    _orders: int = field(default=0, init=False)
    _give_up_at: float = field(default=math.inf, init=False)
    _peak_bytes: int = field(default=0, init=False)

    def run(self) -> Outcome:
        """Give orders and take records until no slot is left.

        Raises:
            KeyboardInterrupt: a second signal came.
        """
        try:
            self._take(0.0)  # so that the first life is known before it is told anything
            while time.monotonic() < self._give_up_at:
                if self._outcome is None:
                    for action in self.dispatch.actions():
                        self._act(action)
                if not self._slots:
                    break
                self._take(POLL_S)
                self._reap()
                self._look_around()
            self._take(0.0)
            left = ", ".join(b.segment.student for b in self._slots.values() if b.segment)
        finally:
            self._leave()
        if self._outcome is None:
            assert self.dispatch.is_done
            return Outcome("done", peak_bytes=self._peak_bytes)
        return replace(self._outcome, peak_bytes=self._peak_bytes, left=left)

    @property
    def _monitor(self) -> Any:
        return self.work.monitor

    def _leave(self) -> None:
        """Leave no worker behind, whatever ended the attempt."""
        left = [busy.thread for busy in self._slots.values() if busy.thread.is_alive()]
        for thread in left:
            thread.abandon()
        if left:
            kill_controllers()
            remove_orphaned_groups()

    # -- out --------------------------------------------------------------------------

    def _act(self, action: Action) -> None:
        if isinstance(action, Close):
            self._close(action.slot)
            return
        segment = action.segment
        if action.opens:
            workers = self.dispatch.workers[segment.student]
            thread = SlotThread(action.slot, self.work, self.plan, num_workers=workers)
            self._slots[action.slot] = Busy(thread)
            self._assign(action.slot, segment)
            thread.start()
        else:
            self._assign(action.slot, segment)

    def _assign(self, slot: int, segment: Segment) -> None:
        busy = self._slots[slot]
        busy.number, self._orders = self._orders, self._orders + 1
        busy.segment = busy.thread.segment = segment
        busy.began = time.monotonic()
        ray.get(self._monitor.assign.remote(slot, busy.number, segment))

    def _close(self, slot: int) -> None:
        self._slots[slot].is_closed = True
        ray.get(self._monitor.close.remote(slot))

    def _tell_again(self) -> None:
        """The monitor was killed and has forgotten everything."""
        for slot, busy in self._slots.items():
            if busy.is_closed:
                self._monitor.close.remote(slot)
            elif busy.segment is not None:
                self._monitor.assign.remote(slot, busy.number, busy.segment)
        if self._outcome is not None:
            self._monitor.stop.remote()

    # -- in ---------------------------------------------------------------------------

    def _take(self, timeout_s: float) -> None:
        life, told, records, groups = ray.get(self._monitor.take.remote(timeout_s))
        for slot, group in groups.items():
            if slot in self._slots:
                self._slots[slot].thread.group = group
        if self._life not in (None, life):
            self._tell_again()
        self._life = life
        for event in told:
            if event["event"] in ("progress", "epoch") and not self._is_warm:
                self._is_warm = True
                self.work.aggregator.warm_up.remote()
            if event["event"] == "epoch":
                self.pace.trained(event)
            elif event["event"] == "memory":  # each life of an aggregator has a peak of its own
                self._peak_bytes = max(self._peak_bytes, event["peak_bytes"])
            elif event["event"] in ("published", "taught"):  # one that comes back only reads
                self.lateness.published(event["student"], cycle=event["cycle"])
            self.show(event)
        for slot, number, record in records:
            busy = self._slots.get(slot)
            if busy is not None and busy.number == number and busy.segment is not None:
                self._ended(slot, busy.segment, record)

    def _ended(self, slot: int, segment: Segment, record: SegmentRecord) -> None:
        busy = self._slots[slot]
        busy.segment = None
        self.show(
            events.segment(
                student=segment.student,
                slot=slot,
                start_epoch=segment.start.epoch,
                stop_epoch=record.position.epoch,
                seconds=record.seconds,
            )
        )
        if record.ending == "reached":
            self.dispatch.ended(slot)
            if segment.stop == self.dispatch.schedule.end:
                self.lateness.left(segment.student)
        elif record.ending == "failed":
            self._fail(segment.student, record)
        elif self._outcome is None:  # it was not this driver that raised the stop flag
            reason = ray.get(self._monitor.reason.remote(AGGREGATOR)) or "nobody says why"
            self._end(Outcome("failed", f"the aggregator failed: {reason}"))
        if self._outcome is not None and not busy.is_closed:
            self._close(slot)

    def _reap(self) -> None:
        """See to slots whose threads have ended."""
        for slot, busy in list(self._slots.items()):
            thread = busy.thread
            if thread.is_alive():
                continue
            del self._slots[slot]
            self.dispatch.gone(slot)
            if busy.segment is None or busy.is_closed:
                continue
            if thread.ending == "no room":
                self._end(Outcome("displaced"))
            else:  # closed without an order to: its workers gave up
                student = busy.segment.student
                self._give_up(student, f"{student}: {thread.error or 'its workers ended'}")

    # -- what ends students, and attempts ----------------------------------------------

    def _give_up(self, student: str, error: str) -> None:
        """A student's workers cannot say any more what became of it."""
        position = newest_position(self.work.storage, student)
        self._fail(student, SegmentRecord("failed", position, error=error, exit_code=1))

    def _fail(self, student: str, record: SegmentRecord) -> None:
        """A student cannot go on: neither can the run, or the others go on without it."""
        if student not in self.dispatch.standings:
            return  # it is lost already, and its workers were ended
        if not self.goes_on or record.concerns_run or not self._can_do_without(student):
            self._end(Outcome("failed", record.error, record.exit_code, diverged=record.diverged))
        else:
            self._lose(student, record)

    def _can_do_without(self, student: str) -> bool:
        """Whether the others make a run of the method: a teacher may lack a student, but not be
        nobody, and frozen teachers are what a run was begun for."""
        standings = self.dispatch.standings
        left = [s for s, standing in standings.items() if s != student and not standing.is_frozen]
        return not standings[student].is_frozen and len(left) >= self.least_students

    def _lose(self, student: str, record: SegmentRecord) -> None:
        epoch, step = record.position
        reason = record.error.removeprefix(f"{student}: ")
        loss = Loss(student=student, reason=reason, epoch=epoch, step=step)
        try:
            ray.get(self.work.aggregator.lose.remote(loss))
        except RayTaskError as error:  # a full disk, say: then nobody can go on
            self._end(Outcome("failed", f"{student} is lost: {error.cause}"))
            return
        self.show(events.lost(student=student, epoch=epoch, step=step, reason=reason))
        self.lateness.left(student)
        for slot in self.dispatch.lost(student):
            self._close(slot)  # first, for a group that is removed would be built again
            if self._slots[slot].segment is not None:
                self._slots[slot].thread.release()

    def _end(self, outcome: Outcome) -> None:
        """End the attempt: students commit after the step under way, and leave."""
        if self._outcome is not None:
            return
        self._outcome = outcome
        self._give_up_at = time.monotonic() + STOP_GRACE_S
        ray.get(self._monitor.stop.remote())
        for slot, busy in self._slots.items():
            if busy.segment is None and not busy.is_closed:
                self._close(slot)

    def _in_turn(self) -> set[str]:
        """Students whose turn has not taken as long yet as it is expected to."""
        now = time.monotonic()
        return {
            busy.segment.student
            for busy in self._slots.values()
            if self.dispatch.sliced
            and busy.segment is not None
            and now - busy.began < self.pace.cost(busy.segment)
        }

    def _look_around(self) -> None:
        """Signals, an aggregator that failed, students that are late."""
        if self._outcome is not None:
            return
        if self.interruption.name is not None:
            self.show(stop_note(self.interruption))
            self._end(Outcome("stopped"))
            return
        queued = {segment.student for segment in self.dispatch.queue} | self._in_turn()
        for student in self.lateness.overdue(now=time.monotonic(), queued=queued):
            self._give_up(
                student,
                f"{student} kept the others waiting for {self.lateness.timeout_s:g} s"
                " (--barrier_timeout_s)",
            )
