"""What views have to know of a run before its first event: who trains, how long, whether in turns.

Enters: what the driver chose. Leaves: the one argument that lines, the live view and the time left
share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class About:
    """A run as its views see it.

    Attributes:
        students: All ids, in the order asked for.
        epochs: The budget of each student.
        tin, td: Epochs of a cycle's two phases; None: not known, and not shown.
        distils: Whether there will be teachers, so that their loss needs room.
        workers: Of each student, by id; one for those not named.
        slots: Workers at a time, where students take turns; None: each has its own all the time.
    """

    students: tuple[str, ...]
    epochs: int
    tin: int | None = None
    td: int | None = None
    distils: bool = True
    workers: Mapping[str, int] = field(default_factory=dict)
    slots: int | None = None

    @property
    def is_sliced(self) -> bool:
        """Whether students take turns."""
        return self.slots is not None

    def workers_of(self, student: str) -> int:
        """How many workers train a student together."""
        return self.workers.get(student, 1)
