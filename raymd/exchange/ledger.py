"""The exchange's policy: a state machine that decides and never acts.

Facts enter (a student announced, a block is committed, a merge was committed, a student is lost);
actions leave, for an executor to carry out: the aggregator with Ray, a folder without. Facts may
come late, twice or in any order; an action is ordered once for each life of the ledger, and what it
makes is byte-identical when a later life orders it again.

A cycle's teachers are made by a *roster*. Losing a student makes another one, of the next revision,
for each cycle that is not complete: all that was merged for the one before counts no more. A cycle
is complete, and its teachers can be read, once that is committed; then nothing of it changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from raymd.distillation.methods import Method
from raymd.exchange.damaged import Damaged
from raymd.exchange.facts import (
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
    delivered: set[tuple[str, int]] = field(default_factory=set)
    damage: set[Damaged] = field(default_factory=set)
    making: _Making = field(default_factory=_Making)
    complete: CommitRoster | None = None


class Ledger:
    """One run's exchange.

    Args:
        method: Which teachers there are and how their members are weighted.
        students: All student ids of the run, lost ones too.
        num_blocks: Blocks of every publication and every teacher.
    """

    def __init__(self, method: Method, *, students: Sequence[str], num_blocks: int) -> None:
        self.method = method
        self.students = tuple(sorted(students))
        self.num_blocks = num_blocks
        self._cycles: dict[int, _Cycle] = {}
        self._losses: dict[str, Loss] = {}

    def _cycle(self, cycle: int) -> _Cycle:
        return self._cycles.setdefault(cycle, _Cycle())

    # -- facts ------------------------------------------------------------------------

    def announced(self, publication: Publication) -> list[Action]:
        """A student begins to publish; nothing follows if it is lost.

        Raises:
            ValueError: it is not one of the run's students, or it publishes from other weights
                than those it announced before: the run is not deterministic.
        """
        self._check_known(publication.student)
        if publication.student not in self.members(publication.cycle):
            return []
        known = self._cycle(publication.cycle).publications.setdefault(
            publication.student, publication
        )
        if known != publication:
            raise ValueError(
                f"{publication.student} published cycle {publication.cycle} from other weights "
                f"before: {known}, now {publication}"
            )
        return self._due(publication.cycle)

    def roster_committed(self, roster: CommitRoster) -> list[Action]:
        """A cycle's roster is in storage, just now or from an earlier life."""
        if not self.is_current(roster):
            return []
        state = self._cycle(roster.cycle)
        for publication in roster.publications:
            state.publications.setdefault(publication.student, publication)
        state.making.roster = roster
        return self._due(roster.cycle)

    def delivered(self, cycle: int, student: str, block: int) -> list[Action]:
        """A student's block is committed and can be read."""
        state = self._cycle(cycle)
        state.delivered.add((student, block))
        state.damage.discard(Damaged(cycle, "student", student, block))
        return self._due(cycle)

    def merged(self, cycle: int, teacher: str, block: int, *, revision: int = 0) -> list[Action]:
        """A teacher's block is committed, just now or in an earlier life."""
        if revision != self.revision(cycle):
            return []
        making = self._cycle(cycle).making
        making.ordered.add((teacher, block))
        making.merged.add((teacher, block))
        return self._due(cycle)

    def completed(self, roster: CommitRoster) -> None:
        """That a cycle is complete was committed: its teachers can be read."""
        state = self._cycle(roster.cycle)
        for publication in roster.publications:
            state.publications.setdefault(publication.student, publication)
        state.complete, state.making = roster, _Making()
        state.damage = {damaged for damaged in state.damage if damaged.kind == "teacher"}

    def damaged(self, damaged: Damaged) -> None:
        """A committed block cannot be read; it is waited for until it was made again."""
        state = self._cycle(damaged.cycle)
        if damaged.kind == "student":
            if state.complete is not None or damaged.id not in self.members(damaged.cycle):
                return
            state.delivered.discard((damaged.id, damaged.block))
            state.making.order_again(damaged)
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
                actions += self._due(cycle)
        return actions

    def _check_known(self, student: str) -> None:
        if student not in self.students:
            raise ValueError(f"{student!r} is not in this run: {self.students}")

    # -- what follows from them -------------------------------------------------------

    def _due(self, cycle: int) -> list[Action]:
        state, members = self._cycle(cycle), self.members(cycle)
        if state.complete is not None or not members:
            return []
        if state.making.roster is not None:
            return self._due_of_roster(state, state.making.roster)
        if state.making.roster_ordered or not state.publications.keys() >= set(members):
            return []
        state.making.roster_ordered = True
        return [self._roster(cycle, members)]

    def _roster(self, cycle: int, members: Sequence[str]) -> CommitRoster:
        publications = tuple(self._cycle(cycle).publications[student] for student in members)
        accuracies = {p.student: p.accuracy for p in publications}
        weights = {
            teacher: self.method.teacher_weights(teacher, accuracies)
            for teacher in self.method.teachers(members)
        }
        return CommitRoster(cycle, publications, weights, self.revision(cycle))

    def _due_of_roster(self, state: _Cycle, roster: CommitRoster) -> list[Action]:
        making = state.making
        actions: list[Action] = []
        for teacher, weights in sorted(roster.weights.items()):
            for block in range(self.num_blocks):
                ready = all((student, block) in state.delivered for student in weights)
                if ready and (teacher, block) not in making.ordered:
                    making.ordered.add((teacher, block))
                    order = MergeBlock(roster.cycle, teacher, block, weights, roster.revision)
                    actions.append(order)
        whole = len(making.merged) == self.num_blocks * len(roster.weights)
        if whole and not making.complete_ordered:
            making.complete_ordered = True
            actions.append(CompleteCycle(roster))
        return actions

    # -- questions --------------------------------------------------------------------

    def members(self, cycle: int) -> tuple[str, ...]:
        """Who makes a cycle's teachers: all students but those lost before it was complete."""
        return tuple(s for s in self.students if not _is_without(cycle, self._losses.get(s)))

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
        state = self._cycle(cycle)
        if state.complete is not None:
            return ()
        wanted = {s: {(s, block) for block in range(self.num_blocks)} for s in self.members(cycle)}
        return tuple(s for s, blocks in wanted.items() if not blocks <= state.delivered)

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
        return sorted(self._cycle(cycle).damage)

    def loss(self, student: str) -> Loss | None:
        """What is known of a student's loss; None if it is not lost."""
        return self._losses.get(student)


def _is_without(cycle: int, loss: Loss | None) -> bool:
    return loss is not None and cycle >= (loss.cycle or 0)
