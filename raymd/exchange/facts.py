"""What students tell the exchange, and what it orders in turn; see ledger.py."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Publication:
    """What a student announces before its first block.

    Attributes:
        cycle: The cycle it publishes for.
        student: Its id.
        accuracy: v_i in [0, 1], on the held-out slice, or on the run's training crops without one.
        publish_id: Identifies the weights it publishes from.
    """

    cycle: int
    student: str
    accuracy: float
    publish_id: str


@dataclass(frozen=True)
class Loss:
    """A student that is not trained any further, while the others go on.

    Attributes:
        student: Its id.
        reason: Why, for a person.
        epoch, step: Where it stood.
        cycle: The first cycle that is made without it; None before the loss is committed.
    """

    student: str
    reason: str
    epoch: int
    step: int
    cycle: int | None = None


@dataclass(frozen=True)
class CommitRoster:
    """Everybody has announced: commit who makes this cycle's teachers, before any merge.

    Attributes:
        cycle: The cycle.
        publications: The members', in id order.
        weights: By teacher, and in it by student, in id order.
        revision: How many students were lost before; other rosters of the cycle have another.
    """

    cycle: int
    publications: tuple[Publication, ...]
    weights: Mapping[str, Mapping[str, float]]
    revision: int = 0


@dataclass(frozen=True)
class MergeBlock:
    """Merge and commit one block of one teacher; ``weights`` by student, in id order."""

    cycle: int
    teacher: str
    block: int
    weights: Mapping[str, float]
    revision: int = 0


@dataclass(frozen=True)
class CompleteCycle:
    """All blocks of all teachers of a roster are committed: commit that they can be read."""

    roster: CommitRoster

    @property
    def cycle(self) -> int:
        """The roster's."""
        return self.roster.cycle

    @property
    def revision(self) -> int:
        """The roster's."""
        return self.roster.revision


Action = CommitRoster | MergeBlock | CompleteCycle
