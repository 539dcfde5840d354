"""Asynchronous successive halving (ASHA), on epochs: who is ended early.

    (point, epochs over, objective) -> stop or go on

Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, in the variant that stops
(their section 3.3 promotes): at each rung a point goes on if it is among the best 1/REDUCTION of
those that were there before it. Pure. It counts epochs of its own, since Tune's iterations begin
anew with each resume, and can be written down, which Tune does not do with its schedulers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from raymd.errors import UserError

REDUCTION = 3


def rungs(*, grace: int, epochs: int) -> tuple[int, ...]:
    """Epochs after which points are compared; never the last, when nothing is left to save.

    Args:
        grace: Epochs that every point gets: its first cycle, before whose end a method that teaches
            late would look worse than it is.
        epochs: The budget.

    Raises:
        UserError: there would be none.
    """
    found = []
    while grace < epochs:
        found.append(grace)
        grace *= REDUCTION
    if not found:
        raise UserError(
            f"scheduler asha: every point gets its first cycle, which takes {grace} of {epochs}"
            " epochs, so nobody could be ended early (--epochs, smaller tin and td in the space, or"
            " --scheduler none)"
        )
    return tuple(found)


class Halving:
    """What was measured at each rung.

    Args:
        milestones: As ``rungs`` gives them.
    """

    def __init__(self, milestones: tuple[int, ...]) -> None:
        self.seen: dict[int, dict[str, float]] = {milestone: {} for milestone in milestones}

    def goes_on(self, trial: str, *, epochs: int, value: float) -> bool:
        """Whether a point goes on.

        It is asked at every epoch, and again for the same ones by a point that was resumed: what
        was decided then stays.
        """
        seen = self.seen.get(epochs)
        if seen is None or trial in seen:
            return True
        before = list(seen.values())
        seen[trial] = value
        return not before or value >= float(np.percentile(before, 100 * (1 - 1 / REDUCTION)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {str(milestone): seen for milestone, seen in self.seen.items()}

    def recall(self, document: Mapping[str, Any]) -> None:
        """Take in what was measured before the search was killed."""
        for milestone, seen in self.seen.items():
            seen.update(document.get(str(milestone), {}))
