"""The exchange's policy: a state machine that decides and never acts.

Facts enter (a student announced, a block is committed, a merge was committed); actions leave,
for an executor to carry out: the aggregator with Ray, a folder without. Facts may come late,
twice or in any order; an action is ordered once for each life of the ledger, and what it makes
is byte-identical when a later life orders it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raymd.distillation.methods import Method


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
class CommitRoster:
    """Everybody has announced: commit who makes this cycle's teachers, before any merge."""

    cycle: int
    publications: tuple[Publication, ...]
    weights: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class MergeBlock:
    """Merge and commit one block of one teacher; ``weights`` by student, in id order."""

    cycle: int
    teacher: str
    block: int
    weights: Mapping[str, float]


@dataclass(frozen=True)
class CompleteCycle:
    """All blocks of all teachers of a cycle are committed."""

    cycle: int


Action = CommitRoster | MergeBlock | CompleteCycle


@dataclass
class _Cycle:
    publications: dict[str, Publication] = field(default_factory=dict)
    delivered: set[tuple[str, int]] = field(default_factory=set)
    ordered: set[tuple[str, int]] = field(default_factory=set)
    merged: set[tuple[str, int]] = field(default_factory=set)
    weights: Mapping[str, Mapping[str, float]] | None = None
    roster_ordered: bool = False
    complete: bool = False


class Ledger:
    """One run's exchange.

    Args:
        method: Which teachers there are and how their members are weighted.
        students: All student ids of the run.
        num_blocks: Blocks of every publication and every teacher.
    """

    def __init__(self, method: Method, *, students: Sequence[str], num_blocks: int) -> None:
        self.method = method
        self.students = tuple(sorted(students))
        self.num_blocks = num_blocks
        self._cycles: dict[int, _Cycle] = {}

    def _cycle(self, cycle: int) -> _Cycle:
        return self._cycles.setdefault(cycle, _Cycle())

    # -- facts ------------------------------------------------------------------------

    def announced(self, publication: Publication) -> list[Action]:
        """A student begins to publish.

        Raises:
            ValueError: it is not one of the run's students, or it publishes from other weights
                than those it announced before: the run is not deterministic.
        """
        if publication.student not in self.students:
            raise ValueError(f"{publication.student!r} is not in this run: {self.students}")
        cycle = self._cycle(publication.cycle)
        known = cycle.publications.setdefault(publication.student, publication)
        if known != publication:
            raise ValueError(
                f"{publication.student} published cycle {publication.cycle} from other weights "
                f"before: {known}, now {publication}"
            )
        if len(cycle.publications) < len(self.students) or cycle.roster_ordered:
            return []
        cycle.roster_ordered = True
        return [self._roster(publication.cycle)]

    def _roster(self, cycle: int) -> CommitRoster:
        publications = self._cycle(cycle).publications
        accuracies = {student: publications[student].accuracy for student in self.students}
        weights = {
            teacher: self.method.teacher_weights(teacher, accuracies)
            for teacher in self.method.teachers(self.students)
        }
        ordered = tuple(publications[student] for student in self.students)
        return CommitRoster(cycle, ordered, weights)

    def roster_committed(self, roster: CommitRoster) -> list[Action]:
        """A cycle's roster is in storage, just now or from an earlier life."""
        cycle = self._cycle(roster.cycle)
        for publication in roster.publications:
            cycle.publications.setdefault(publication.student, publication)
        cycle.roster_ordered = True
        cycle.weights = roster.weights
        return self._mergeable(roster.cycle)

    def delivered(self, cycle: int, student: str, block: int) -> list[Action]:
        """A student's block is committed and can be read."""
        self._cycle(cycle).delivered.add((student, block))
        return self._mergeable(cycle)

    def merged(self, cycle: int, teacher: str, block: int) -> list[Action]:
        """A teacher's block is committed, just now or in an earlier life."""
        state = self._cycle(cycle)
        state.ordered.add((teacher, block))
        state.merged.add((teacher, block))
        wanted = self.num_blocks * len(self.method.teachers(self.students))
        if len(state.merged) < wanted or state.complete:
            return []
        state.complete = True
        return [CompleteCycle(cycle)]

    def merge_failed(self, order: MergeBlock) -> list[Action]:
        """A merge was lost before it was committed; it is ordered again."""
        self._cycle(order.cycle).ordered.discard((order.teacher, order.block))
        return self._mergeable(order.cycle)

    def _mergeable(self, cycle: int) -> list[Action]:
        state = self._cycle(cycle)
        actions: list[Action] = []
        for teacher, weights in sorted((state.weights or {}).items()):
            for block in range(self.num_blocks):
                ready = all((student, block) in state.delivered for student in weights)
                if ready and (teacher, block) not in state.ordered:
                    state.ordered.add((teacher, block))
                    actions.append(MergeBlock(cycle, teacher, block, weights))
        return actions

    # -- questions --------------------------------------------------------------------

    def missing(self, cycle: int) -> tuple[str, ...]:
        """Students whose blocks a cycle still waits for."""
        state = self._cycle(cycle)
        blocks = range(self.num_blocks)
        return tuple(
            s for s in self.students if not all((s, block) in state.delivered for block in blocks)
        )

    def is_merged(self, cycle: int, teacher: str, block: int) -> bool:
        """Whether a teacher's block is committed."""
        return (teacher, block) in self._cycle(cycle).merged

    def weights(self, cycle: int, teacher: str) -> Mapping[str, float] | None:
        """A teacher's members and weights, once its roster is committed."""
        weights = self._cycle(cycle).weights
        return None if weights is None else weights[teacher]
