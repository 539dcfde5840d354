"""The exchange's policy: a state machine that decides and never acts.

Facts enter (a student announced, a block is committed, a merge was committed, a student is lost);
actions leave, for an executor to carry out: the aggregator with Ray, a folder without. Facts may
come late, twice or in any order; an action is ordered once for each life of the ledger, and what it
makes is byte-identical when a later life orders it again.

A cycle's teachers are made by a *roster*. Losing a student makes another one, of the next revision,
for each cycle that is not complete: all that was merged for the one before counts no more. A cycle
is complete, and its teachers can be read, once that is committed; then nothing of it changes.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from raymd.distillation.methods import Method
from raymd.exchange.damaged import Damaged
from raymd.exchange.facts import (
    FROZEN,
    Action,
    CommitRoster,
    CompleteCycle,
    Loss,
    MergeBlock,
    Publication,
)

TeacherBlock = tuple[str, int]


@dataclass
class _Making:
    """What has been done of one roster."""

    roster: CommitRoster | None = None  # once committed
    roster_ordered: bool = False
    ordered: set[TeacherBlock] = field(default_factory=set)
    merged: set[TeacherBlock] = field(default_factory=set)
    complete_ordered: bool = False

    def order_again(self, damaged: Damaged) -> None:
        """Forget the orders that cannot be carried out for want of a student's block."""
        assert self.roster is not None or self.ordered == self.merged
        for teacher, weights in (self.roster.weights if self.roster else {}).items():
            if damaged.id in weights and (teacher, damaged.block) not in self.merged:
                self.ordered.discard((teacher, damaged.block))


@dataclass
class _Cycle:
    publications: dict[str, Publication] = field(default_factory=dict)
    delivered: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    damage: set[Damaged] = field(default_factory=set)
    making: _Making = field(default_factory=_Making)
    complete: CommitRoster | None = None


class Ledger:
    """One run's exchange.

    Args:
        method: Which teachers there are and how their members are weighted.
        students: Ids of all students that publish, lost ones too.
        num_blocks: Blocks of every publication and every teacher; 0 where weights alone are
            published.
        frozen: Ids of teachers that publish once, for all cycles.
    """

    def __init__(
        self,
        method: Method,
        *,
        students: Sequence[str],
        num_blocks: int,
        frozen: Sequence[str] = (),
    ) -> None:
        self.method = method
        self.frozen = frozenset(frozen)
        self.students = tuple(sorted({*students, *frozen}))
        self.num_blocks = num_blocks
        self._cycles: dict[int, _Cycle] = {}
        self._losses: dict[str, Loss] = {}

    def _cycle(self, cycle: int) -> _Cycle:
        return self._cycles.setdefault(cycle, _Cycle())

    def _of(self, cycle: int, member: str) -> _Cycle:
        """Where a member's publication for a cycle is kept."""
        return self._cycle(FROZEN if member in self.frozen else cycle)

    # -- facts ------------------------------------------------------------------------

    def announced(self, publication: Publication) -> list[Action]:
        """A student begins to publish; nothing follows if it is lost.

        Raises:
            ValueError: it is not one of the run's students, or it publishes from other weights
                than those it announced before: the run is not deterministic.
        """
        self._check_known(publication.student)
        if not self.is_member(publication.cycle, publication.student):
            return []
        self._check_cycle(publication)
        known = self._know(publication.cycle, publication)
        if known != publication:
            raise ValueError(
                f"{publication.student} published cycle {publication.cycle} from other weights "
                f"before: {known}, now {publication}"
            )
        return self._due(publication.cycle, blocks=())

    def _know(self, cycle: int, publication: Publication) -> Publication:
        """Take note of an announcement; gives back what was known before, if anything was."""
        publications = self._of(cycle, publication.student).publications
        return publications.setdefault(publication.student, publication)

    def roster_committed(self, roster: CommitRoster) -> list[Action]:
        """A cycle's roster is in storage, just now or from an earlier life."""
        if not self.is_current(roster):
            return []
        for publication in roster.publications:
            self._know(roster.cycle, publication)
        self._cycle(roster.cycle).making.roster = roster
        return self._due(roster.cycle, blocks=range(self.num_blocks))

    def delivered(self, cycle: int, student: str, block: int) -> list[Action]:
        """A student's block is committed and can be read."""
        state = self._cycle(cycle)
        state.delivered[student].add(block)
        state.damage.discard(Damaged(cycle, "student", student, block))
        return self._due(cycle, blocks=(block,))

    def merged(self, cycle: int, teacher: str, block: int, *, revision: int = 0) -> list[Action]:
        """A teacher's block is committed, just now or in an earlier life."""
        if revision != self.revision(cycle):
            return []
        making = self._cycle(cycle).making
        making.ordered.add((teacher, block))
        making.merged.add((teacher, block))
        return self._due(cycle, blocks=())

    def completed(self, roster: CommitRoster) -> None:
        """That a cycle is complete was committed: its teachers can be read."""
        for publication in roster.publications:
            self._know(roster.cycle, publication)
        state = self._cycle(roster.cycle)
        state.complete, state.making = roster, _Making()
        state.damage = {damaged for damaged in state.damage if damaged.kind == "teacher"}

    def damaged(self, damaged: Damaged) -> None:
        """A committed block cannot be read; it is waited for until it was made again."""
        state = self._cycle(damaged.cycle)
        if damaged.kind == "student":
            if state.complete is not None or damaged.id not in self.members(damaged.cycle):
                return
            state.delivered[damaged.id].discard(damaged.block)
            for cycle in self._open_cycles(damaged.cycle):
                self._cycle(cycle).making.order_again(damaged)
        state.damage.add(damaged)

    def rebuilt(self, damaged: Damaged) -> list[Action]:
        """A damaged block was made and committed again."""
        if damaged.kind == "student":
            return self.delivered(damaged.cycle, damaged.id, damaged.block)
        self._cycle(damaged.cycle).damage.discard(damaged)
        return []

    def lost(self, loss: Loss) -> list[Action]:
        """A student's loss is committed: cycles that are not complete are made without it."""
        self._check_known(loss.student)
        if loss.student in self._losses:
            return []
        self._losses[loss.student] = loss
        actions: list[Action] = []
        for cycle, state in sorted(self._cycles.items()):
            if state.complete is None and loss.student not in self.members(cycle):
                state.making = _Making()
                state.damage = {found for found in state.damage if found.id != loss.student}
                actions += self._due(cycle, blocks=())  # its roster, which orders all blocks
        return actions

    def _check_known(self, student: str) -> None:
        if student not in self.students:
            raise ValueError(f"{student!r} is not in this run: {self.students}")

    def _check_cycle(self, publication: Publication) -> None:
        assert (publication.cycle == FROZEN) == (publication.student in self.frozen), publication

    # -- what follows from them -------------------------------------------------------

    def _open_cycles(self, cycle: int) -> list[int]:
        """The cycles that a fact of a cycle may move on: that one, or any that is not complete."""
        if cycle != FROZEN:
            return [cycle]
        begun = {*self._cycles} - {FROZEN}
        if self.frozen == {*self.students}:
            begun.add(0)  # nobody else will begin it
        return sorted(c for c in begun if self._cycle(c).complete is None)

    def _due(self, cycle: int, *, blocks: Sequence[int]) -> list[Action]:
        """What a fact of a cycle makes due, which may concern these blocks: a ledger that looked
        at all of them for each would take the square of their number."""
        return [action for c in self._open_cycles(cycle) for action in self._due_in(c, blocks)]

    def _due_in(self, cycle: int, blocks: Sequence[int]) -> list[Action]:
        state = self._cycle(cycle)
        if state.complete is not None:
            return []
        if state.making.roster is not None:
            return self._due_of_roster(state, state.making.roster, blocks)
        members = self.members(cycle)
        if not members:
            return []
        announced = all(member in self._of(cycle, member).publications for member in members)
        if state.making.roster_ordered or not announced:
            return []
        state.making.roster_ordered = True
        return [self._roster(cycle, members)]

    def _roster(self, cycle: int, members: Sequence[str]) -> CommitRoster:
        publications = tuple(self._of(cycle, member).publications[member] for member in members)
        values = {p.student: p.accuracy if p.loss is None else p.loss for p in publications}
        weights = {
            teacher: self.method.teacher_weights(teacher, values)
            for teacher in self.teachers(cycle)
        }
        return CommitRoster(cycle, publications, weights, self.revision(cycle))

    def _due_of_roster(
        self, state: _Cycle, roster: CommitRoster, blocks: Sequence[int]
    ) -> list[Action]:
        making = state.making
        actions: list[Action] = []
        for teacher, weights in sorted(roster.weights.items()):
            for block in blocks:
                if (teacher, block) in making.ordered:
                    continue
                if all(block in self._of(roster.cycle, m).delivered[m] for m in weights):
                    making.ordered.add((teacher, block))
                    actions.append(self._merge(roster, teacher, block))
        whole = len(making.merged) == self.num_blocks * len(roster.weights)
        if whole and not making.complete_ordered:
            making.complete_ordered = True
            actions.append(CompleteCycle(roster))
        return actions

    def _merge(self, roster: CommitRoster, teacher: str, block: int) -> MergeBlock:
        weights = roster.weights[teacher]
        frozen = self.frozen & weights.keys()
        return MergeBlock(roster.cycle, teacher, block, weights, roster.revision, frozen)

    # -- questions --------------------------------------------------------------------

    def teachers(self, cycle: int) -> tuple[str, ...]:
        """Ids of a cycle's teachers; frozen members are taught by none."""
        members = self.members(cycle)
        return self.method.teachers([m for m in members if m not in self.frozen] or members)

    def members(self, cycle: int) -> tuple[str, ...]:
        """Who makes a cycle's teachers: all students but those lost before it was complete."""
        return tuple(student for student in self.students if self.is_member(cycle, student))

    def is_member(self, cycle: int, student: str) -> bool:
        """Whether one of the run's students makes a cycle's teachers."""
        return not _is_without(cycle, self._losses.get(student))

    def revision(self, cycle: int) -> int:
        """Of a cycle's roster: how many are missing from it. Losses are never taken back, so a
        revision of a cycle always stands for the same members."""
        return len(self.students) - len(self.members(cycle))

    def is_current(self, action: Action) -> bool:
        """Whether an action, ordered a while ago, is still to be carried out."""
        complete = self._cycle(action.cycle).complete is not None
        return not complete and action.revision == self.revision(action.cycle)

    def missing(self, cycle: int) -> tuple[str, ...]:
        """Students whose blocks a cycle still waits for."""
        if self._cycle(cycle).complete is not None:
            return ()
        return tuple(member for member in self.members(cycle) if not self._is_whole(cycle, member))

    def _is_whole(self, cycle: int, member: str) -> bool:
        state = self._of(cycle, member)
        if not self.num_blocks:
            return member in state.publications
        return len(state.delivered[member]) == self.num_blocks

    def complete(self, cycle: int) -> CommitRoster | None:
        """The roster that a cycle's teachers were made by, once they can be read."""
        return self._cycle(cycle).complete

    def first_open(self) -> int:
        """The first cycle that is not complete."""
        cycle = 0
        while self.complete(cycle) is not None:
            cycle += 1
        return cycle

    def damage(self, cycle: int) -> list[Damaged]:
        """What has to be made again before a cycle's teachers can be read."""
        state = self._cycle(cycle)
        frozen = self._cycle(FROZEN).damage if state.complete is None else set[Damaged]()
        return sorted(state.damage | frozen)

    def loss(self, student: str) -> Loss | None:
        """What is known of a student's loss; None if it is not lost."""
        return self._losses.get(student)


def _is_without(cycle: int, loss: Loss | None) -> bool:
    return loss is not None and cycle >= (loss.cycle or 0)
