"""How long a run will still take, from the epochs that were seen.

Enters: ``started`` and ``epoch`` events. Leaves: seconds, or None before the first epoch.
"""

from collections import deque
from collections.abc import Sequence
from statistics import median

RECENT = 20  # a phase without a teacher is a little quicker, so old epochs must fade


class TimeLeft:
    """Seconds that a run still needs: those of the student that needs most.

    A student's epoch takes the median of its recent ones. Its first one seen is left out as soon
    as there is another: it holds the warm-up (compilation, caches, first touches).

    Args:
        students: All ids.
        epochs: The budget of each.
        sliced: The students take turns on the same resources, so their times add up.
    """

    def __init__(self, students: Sequence[str], *, epochs: int, sliced: bool = False) -> None:
        self.epochs = epochs
        self.sliced = sliced
        self._next: dict[str, int | None] = dict.fromkeys(students)
        self._first: dict[str, float] = {}
        self._recent: dict[str, deque[float]] = {}

    def position(self, student: str) -> int | None:
        """Index of the epoch that a student trains next; None if nothing is known of it."""
        return self._next.get(student)

    def started(self, student: str, *, epoch: int) -> None:
        """A student begins at an epoch (index)."""
        self._next[student] = epoch

    def finished_epoch(self, student: str, *, epoch: int, seconds: float) -> None:
        """A student has trained an epoch (index) in so many seconds."""
        self._next[student] = epoch + 1
        if student in self._first:
            self._recent.setdefault(student, deque(maxlen=RECENT)).append(seconds)
        else:
            self._first[student] = seconds

    def seconds(self) -> float | None:
        """What is left of the run; None before any epoch has been seen."""
        if not self._first:
            return None
        pace = {student: self._epoch_seconds(student) for student in self._first}
        # those not heard of yet are taken to be as slow and as far behind as any
        known = [epoch for epoch in self._next.values() if epoch is not None]
        slowest, hindmost = max(pace.values()), min(known)
        needed = [
            (self.epochs - (hindmost if epoch is None else epoch)) * pace.get(student, slowest)
            for student, epoch in self._next.items()
        ]
        return sum(needed) if self.sliced else max(needed)

    def _epoch_seconds(self, student: str) -> float:
        recent = self._recent.get(student)
        return median(recent) if recent else self._first[student]
