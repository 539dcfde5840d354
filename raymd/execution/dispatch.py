"""Which student trains when, and in which slot. Pure: facts enter, actions leave.

A slot is a worker group of one size that trains one segment of a student after the other.
Resident students have a slot each and one segment, to the schedule's end. Sliced ones take turns:
a segment ends at each barrier, where the student has published, and its slot goes to whichever
student can go on, the one that needs longest first (a list schedule).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raymd.distillation.schedule import Position, Schedule


@dataclass(frozen=True)
class Segment:
    """A part of one student's schedule."""

    student: str
    start: Position
    stop: Position


@dataclass(frozen=True)
class Standing:
    """Where a student is.

    Attributes:
        position: The newest that it has committed.
        has_published: At a barrier: its soft labels are committed.
        is_finished: Its final files are committed.
        is_frozen: It is a teacher that publishes once, before all barriers, and takes no step.
    """

    position: Position
    has_published: bool = False
    is_finished: bool = False
    is_frozen: bool = False

    def has_published_at(self, barrier: Position) -> bool:
        """Whether its soft labels for a barrier are committed."""
        if self.is_frozen:
            return self.has_published
        return self.position > barrier or (self.position == barrier and self.has_published)


@dataclass(frozen=True)
class Assign:
    """Train a segment in a slot; ``opens``: start the slot's workers first."""

    slot: int
    segment: Segment
    opens: bool


@dataclass(frozen=True)
class Close:
    """End an idle slot's workers."""

    slot: int


Action = Assign | Close


@dataclass
class _Slot:
    workers: int
    student: str | None = None  # whose segment it trains
    is_closing: bool = False

    @property
    def is_idle(self) -> bool:
        return self.student is None and not self.is_closing


class Dispatch:
    """The state of one attempt at a run.

    Args:
        schedule: The run's.
        workers: How many each student has, by id.
        standings: Where each student is; those lost are left out.
        slots: Workers at a time.
        sliced: Whether segments end at barriers.
        cost: Seconds that a segment is expected to take, in any unit.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        workers: Mapping[str, int],
        standings: Mapping[str, Standing],
        slots: int,
        sliced: bool,
        cost: Callable[[Segment], float],
    ) -> None:
        self.schedule = schedule
        self.workers = dict(workers)
        self.standings = dict(standings)
        self.num_workers = slots
        self.sliced = sliced
        self.cost = cost
        self._slots: dict[int, _Slot] = {}
        self._next_slot = 0

    # -- facts ------------------------------------------------------------------------

    def ended(self, slot: int) -> None:
        """A slot has brought its student to the segment's stop."""
        student = self._slots[slot].student
        assert student is not None
        stop, is_frozen = self._stop(student), self.standings[student].is_frozen
        is_finished = is_frozen or stop == self.schedule.end
        self.standings[student] = Standing(
            stop, has_published=True, is_finished=is_finished, is_frozen=is_frozen
        )
        self._slots[slot].student = None

    def lost(self, student: str) -> list[int]:
        """A student is not trained any further, and nobody waits for it.

        Returns:
            Its slot, if it has one: to be closed, for nobody knows how its workers are.
        """
        self.standings.pop(student, None)
        lost = [number for number, slot in self._slots.items() if slot.student == student]
        for number in lost:
            self._slots[number].student, self._slots[number].is_closing = None, True
        return lost

    def gone(self, slot: int) -> None:
        """A slot's workers have ended."""
        del self._slots[slot]

    # -- questions --------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether every student that is left has finished."""
        return all(standing.is_finished for standing in self.standings.values())

    @property
    def queue(self) -> list[Segment]:
        """Segments that could be trained now, were there slots: frozen teachers, for whom students
        will wait, then those that take longest."""
        running = {slot.student for slot in self._slots.values()}
        segments = [self._segment(s) for s in sorted(self.standings) if s not in running]
        return sorted((s for s in segments if s is not None), key=self._rank)

    def _rank(self, segment: Segment) -> tuple[bool, float]:
        is_frozen = self.standings[segment.student].is_frozen
        return not is_frozen, 0.0 if is_frozen else -self.cost(segment)

    def _segment(self, student: str) -> Segment | None:
        standing = self.standings[student]
        if standing.is_finished or not self._has_teacher(student):
            return None
        return Segment(student, standing.position, self._stop(student))

    def _stop(self, student: str) -> Position:
        standing = self.standings[student]
        position = standing.position
        if standing.is_frozen:
            return position
        if not self.sliced:
            return self.schedule.end
        if self.schedule.barrier_at(position) is not None and not standing.has_published:
            return position
        later = (Position(b) for b in self.schedule.barriers if Position(b) > position)
        return next(later, self.schedule.end)

    def _has_teacher(self, student: str) -> bool:
        """Whether all soft labels are there that a student's next epoch needs."""
        standing = self.standings[student]
        position = standing.position
        if standing.is_frozen or not self.sliced or position >= self.schedule.end:
            return True  # resident students wait in their slots
        if not self.schedule.barriers:
            return True  # nobody waits for anybody
        publishes = self.schedule.barrier_at(position) is not None and not standing.has_published
        if publishes or self.schedule.epochs[position.epoch].phase == "independent":
            return True
        barrier = Position(max(b for b in self.schedule.barriers if b <= position.epoch))
        return all(other.has_published_at(barrier) for other in self.standings.values())

    # -- actions ----------------------------------------------------------------------

    def actions(self) -> list[Action]:
        """What is to be done now; taken as done by whoever asks."""
        actions: list[Action] = []
        for segment in self.queue:
            actions += self._place(segment)
        return actions + self._close_surplus()

    def _place(self, segment: Segment) -> list[Action]:
        workers = self.workers[segment.student]
        for number, slot in self._slots.items():
            if slot.is_idle and slot.workers == workers:
                slot.student = segment.student
                return [Assign(number, segment, opens=False)]
        free = self.num_workers - sum(slot.workers for slot in self._slots.values())
        if free >= workers:
            number, self._next_slot = self._next_slot, self._next_slot + 1
            self._slots[number] = _Slot(workers, segment.student)
            return [Assign(number, segment, opens=True)]
        return self._make_room(workers - free)

    def _make_room(self, lacking: int) -> list[Action]:
        """Close idle slots of other sizes, if that makes room for so many workers more."""
        lacking -= sum(slot.workers for slot in self._slots.values() if slot.is_closing)
        idle = {number: slot for number, slot in self._slots.items() if slot.is_idle}
        if lacking <= 0 or sum(slot.workers for slot in idle.values()) < lacking:
            return []
        closed: list[Action] = []
        for number, slot in idle.items():
            if lacking > 0:
                slot.is_closing = True
                lacking -= slot.workers
                closed.append(Close(number))
        return closed

    def _close_surplus(self) -> list[Action]:
        """Close idle slots that no student will need again."""
        running = {slot.student for slot in self._slots.values()}
        waiting = [
            self.workers[student]
            for student, standing in self.standings.items()
            if student not in running and not standing.is_finished
        ]
        closed: list[Action] = []
        for number, slot in self._slots.items():
            if not slot.is_idle:
                continue
            if slot.workers in waiting:
                waiting.remove(slot.workers)
            else:
                slot.is_closing = True
                closed.append(Close(number))
        return closed
