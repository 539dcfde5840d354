"""How long a run will still take, from the epochs that were seen.

Enters: ``started``, ``progress`` and ``epoch`` events, who has finished and who is lost. Leaves:
seconds, or None while nothing is known of a pace.
"""

from collections import deque
from statistics import median

from raymd.view.about import About

RECENT = 20  # a phase without a teacher is a little quicker, so old epochs must fade


class TimeLeft:
    """Seconds that a run still needs: those of the student that needs most, or where students take
    turns those of all together, shared by the workers at a time, if that is more.

    A student's epoch takes the median of its recent ones. Its first one seen is left out as soon
    as there is another: it holds the warm-up (compilation, caches, first touches).

    Args:
        about: The run.
    """

    def __init__(self, about: About) -> None:
        self.about = about
        self.epochs = about.epochs
        self._next: dict[str, int | None] = dict.fromkeys(about.students)
        self._first: dict[str, float] = {}
        self._recent: dict[str, deque[float]] = {}
        self._part: dict[str, float] = {}
        self._guess: dict[str, float] = {}

    def position(self, student: str) -> int | None:
        """Index of the epoch that a student trains next; None if nothing is known of it."""
        return self._next.get(student)

    def started(self, student: str, *, epoch: int) -> None:
        """A student begins at an epoch (index)."""
        self._stands(student, epoch)

    def under_way(self, student: str, *, epoch: int, part: float, seconds: float | None) -> None:
        """A student is within an epoch.

        Args:
            student: Its id.
            epoch: Index of the epoch.
            part: How much of it is done, of 1.
            seconds: What the whole epoch seems to take; used until one has ended.
        """
        if self._stands(student, epoch, part) and seconds is not None:
            self._guess[student] = seconds

    def finished_epoch(self, student: str, *, epoch: int, seconds: float) -> None:
        """A student has trained an epoch (index) in so many seconds."""
        if not self._stands(student, epoch + 1):
            return
        if student in self._first:
            self._recent.setdefault(student, deque(maxlen=RECENT)).append(seconds)
        else:
            self._first[student] = seconds

    def finished(self, student: str) -> None:
        """A student has nothing left to do."""
        self._stands(student, self.epochs)

    def lost(self, student: str) -> None:
        """A student is not trained any further; what still comes of it is passed over."""
        for known in (self._next, self._first, self._recent, self._part, self._guess):
            known.pop(student, None)

    def seconds(self) -> float | None:
        """What is left of the run; None before anything is known of a student's pace."""
        pace = {student: self._epoch_seconds(student) for student in {**self._first, **self._guess}}
        if not pace:
            return None
        # those not heard of yet are taken to be as slow and as far behind as any
        known = [self._done(student) for student, epoch in self._next.items() if epoch is not None]
        slowest, hindmost = max(pace.values()), min(known)
        needed = {
            student: (self.epochs - (hindmost if epoch is None else self._done(student)))
            * pace.get(student, slowest)
            for student, epoch in self._next.items()
        }
        longest = max(needed.values())
        if self.about.slots is None:
            return longest
        work = sum(self.about.workers_of(student) * left for student, left in needed.items())
        return max(longest, work / self.about.slots)

    def seconds_of(self, student: str) -> float | None:
        """What one student still has to train, waiting left out; None if its pace is unknown."""
        if student not in self._first and student not in self._guess:
            return None
        return (self.epochs - self._done(student)) * self._epoch_seconds(student)

    def _stands(self, student: str, epoch: int, part: float = 0.0) -> bool:
        """Note where a student is; False if it does not count."""
        if student not in self._next:
            return False
        self._next[student], self._part[student] = epoch, part
        return True

    def _done(self, student: str) -> float:
        epoch = self._next[student]
        assert epoch is not None
        return epoch + self._part.get(student, 0.0)

    def _epoch_seconds(self, student: str) -> float:
        recent = self._recent.get(student)
        if recent:
            return median(recent)
        return self._first.get(student, self._guess.get(student, 0.0))
