"""What students tell the exchange, and what it orders in turn; see ledger.py."""

from collections.abc import Mapping
from dataclasses import dataclass

# The cycle of frozen teachers' publications, which every cycle's teacher is made from.
FROZEN = -1


@dataclass(frozen=True)
class Publication:
    """What a student announces before its first block.

    Attributes:
        cycle: The cycle it publishes for; FROZEN: all of them.
        student: Its id, a frozen teacher's too.
        accuracy: v_i in [0, 1], on the held-out slice, or on the run's training crops without one.
        publish_id: Identifies the weights it publishes from.
        loss: Mean cross entropy on the held-out slice, where teachers are weighted by it.
    """

    cycle: int
    student: str
    accuracy: float
    publish_id: str
    loss: float | None = None


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
    """Merge and commit one block of one teacher.

    Attributes:
        weights: By member, in id order.
        frozen: The members whose soft labels are those of every cycle.
    """

    cycle: int
    teacher: str
    block: int
    weights: Mapping[str, float]
    revision: int = 0
    frozen: frozenset[str] = frozenset()

    def published_in(self, member: str) -> int:
        """The cycle that a member's block was published for."""
        return FROZEN if member in self.frozen else self.cycle


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
