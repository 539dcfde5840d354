"""Soft labels that were damaged after they were committed, and who makes them again.

A damaged block is no failure: whoever waits for the teacher is handed it, computes it from the
checkpoints it came from (raymd/training/rebuild.py) and commits the same bytes once more.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from raymd.errors import StorageError

CLAIM_S = 60.0


@dataclass(frozen=True, order=True)
class Damaged:
    """One block that is missing or altered.

    Attributes:
        cycle: Its cycle.
        kind: Whether it is a student's own block or a merged one.
        id: The student's or the teacher's id.
        block: Its number.
        reason: What is wrong with it; two findings of one block are equal, whatever they say.
    """

    cycle: int
    kind: Literal["student", "teacher"]
    id: str
    block: int
    reason: str = field(default="", compare=False)


Rebuild = Callable[[Damaged], np.ndarray]
"""Computes a damaged block, commits it and gives back its bytes, uint8."""


class DamagedBlockError(StorageError):
    """A block that is needed is damaged: what it says, and which block."""

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def damaged(self) -> Damaged:
        """The block."""
        damaged: Damaged = self.args[1]
        return damaged


class DamagedTeacherError(StorageError):
    """Weights that a live teacher is made of are missing or damaged, and nobody mends them."""


def damaged_error(damaged: Damaged) -> DamagedBlockError:
    """The error for a block that nobody is there to make again."""
    return DamagedBlockError(
        f"block {damaged.block} of {damaged.kind} {damaged.id}, cycle {damaged.cycle}, is damaged:"
        f" {damaged.reason}",
        damaged,
    )


class Claims:
    """Who makes what again: each damaged block is given to one waiter, and to another if that one
    has not come back after a while."""

    def __init__(self, *, claim_s: float = CLAIM_S) -> None:
        self.claim_s = claim_s
        self._until: dict[Damaged, float] = {}

    def take(self, damage: Iterable[Damaged], *, now: float) -> Damaged | None:
        """The first that nobody is at work on, from now on the caller's; None if there is none.

        Args:
            damage: All that is damaged.
            now: Seconds of a clock that never goes back.
        """
        free = self._free(damage, now)
        if free is not None:
            self._until[free] = now + self.claim_s
        return free

    def has_any(self, damage: Iterable[Damaged], *, now: float) -> bool:
        """Whether ``take`` would give one."""
        return self._free(damage, now) is not None

    def _free(self, damage: Iterable[Damaged], now: float) -> Damaged | None:
        return next((found for found in damage if now >= self._until.get(found, now)), None)

    def release(self, damaged: Damaged) -> None:
        """It was made again, or is damaged anew."""
        self._until.pop(damaged, None)
