"""How long a run will still take, from the epochs that were seen.

Enters: ``started``, ``progress`` and ``epoch`` events. Leaves: seconds, or None while nothing is
known of a pace.
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
        self._part: dict[str, float] = {}
        self._guess: dict[str, float] = {}

    def position(self, student: str) -> int | None:
        """Index of the epoch that a student trains next; None if nothing is known of it."""
        return self._next.get(student)

    def started(self, student: str, *, epoch: int) -> None:
        """A student begins at an epoch (index)."""
        self._next[student] = epoch
        self._part[student] = 0.0

    def under_way(self, student: str, *, epoch: int, part: float, seconds: float | None) -> None:
        """A student is within an epoch.

        Args:
            student: Its id.
            epoch: Index of the epoch.
            part: How much of it is done, of 1.
            seconds: What the whole epoch seems to take; used until one has ended.
        """
        self._next[student] = epoch
        self._part[student] = part
        if seconds is not None:
            self._guess[student] = seconds

    def finished_epoch(self, student: str, *, epoch: int, seconds: float) -> None:
        """A student has trained an epoch (index) in so many seconds."""
        self._next[student] = epoch + 1
        self._part[student] = 0.0
        if student in self._first:
            self._recent.setdefault(student, deque(maxlen=RECENT)).append(seconds)
        else:
            self._first[student] = seconds

    def seconds(self) -> float | None:
        """What is left of the run; None before anything is known of a student's pace."""
        pace = {student: self._epoch_seconds(student) for student in {**self._first, **self._guess}}
        if not pace:
            return None
        # those not heard of yet are taken to be as slow and as far behind as any
        known = [self._done(student) for student, epoch in self._next.items() if epoch is not None]
        slowest, hindmost = max(pace.values()), min(known)
        needed = [
            (self.epochs - (hindmost if epoch is None else self._done(student)))
            * pace.get(student, slowest)
            for student, epoch in self._next.items()
        ]
        return sum(needed) if self.sliced else max(needed)

    def seconds_of(self, student: str) -> float | None:
        """What one student still has to train, waiting left out; None if its pace is unknown."""
        if student not in self._first and student not in self._guess:
            return None
        return (self.epochs - self._done(student)) * self._epoch_seconds(student)

    def _done(self, student: str) -> float:
        epoch = self._next[student]
        assert epoch is not None
        return epoch + self._part.get(student, 0.0)

    def _epoch_seconds(self, student: str) -> float:
        recent = self._recent.get(student)
        if recent:
            return median(recent)
        return self._first.get(student, self._guess.get(student, 0.0))
