"""Who keeps all the others waiting at a barrier, and for how long. Pure."""

from collections.abc import Collection, Mapping

from raymd.distillation.schedule import Position, Schedule
from raymd.execution.dispatch import Standing


class Lateness:
    """Finds the students that the others have waited for too long.

    The clock runs while some have published for a cycle and all that have not are being trained:
    a student that waits for a slot is not slow. It begins anew whenever one arrives.

    Args:
        schedule: The run's.
        standings: Where each student is, by id.
        timeout_s: What is too long; None: nothing is.
    """

    def __init__(
        self, schedule: Schedule, *, standings: Mapping[str, Standing], timeout_s: float | None
    ) -> None:
        self.timeout_s = timeout_s
        self._cycles = [schedule.epochs[barrier].cycle for barrier in schedule.barriers]
        self._passed = {
            student: sum(Position(b) < at.position for b in schedule.barriers) + at.has_published
            for student, at in standings.items()
            if not (at.is_finished or at.is_frozen)
        }
        self._late: tuple[str, ...] = ()
        self._since = 0.0

    def published(self, student: str, *, cycle: int) -> None:
        """A student's soft labels of a cycle are committed."""
        if student in self._passed:
            passed = self._cycles.index(cycle) + 1
            self._passed[student] = max(self._passed[student], passed)

    def left(self, student: str) -> None:
        """A student has finished or is lost."""
        self._passed.pop(student, None)

    def overdue(self, *, now: float, queued: Collection[str]) -> tuple[str, ...]:
        """Students that have been too long, in id order.

        Args:
            now: Seconds of a clock that only rises.
            queued: Students that wait for a slot.
        """
        least = min(self._passed.values(), default=0)
        late = tuple(sorted(s for s, passed in self._passed.items() if passed == least))
        nobody_waits = len(late) == len(self._passed)
        if nobody_waits or late != self._late or not set(late).isdisjoint(queued):
            self._late, self._since = () if nobody_waits else late, now
            return ()
        if self.timeout_s is None or now - self._since < self.timeout_s:
            return ()
        return late
