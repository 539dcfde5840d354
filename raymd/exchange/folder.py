"""The whole exchange against a folder, in one process: the reference for what Ray does at scale.

Students call it one after the other; merges happen at once, in the thread that calls. It serves the
tests of the student loop, and shows in a hundred lines what an executor owes the ledger.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from raymd.exchange.blocks import (
    commit_loss,
    commit_roster,
    complete_cycle,
    read_teacher_block,
)
from raymd.exchange.damaged import Damaged, DamagedBlockError, Rebuild, damaged_error
from raymd.exchange.facts import Action, CommitRoster, Loss, MergeBlock, Publication
from raymd.exchange.ledger import Ledger
from raymd.exchange.merge import merge_block
from raymd.exchange.recovery import recover
from raymd.storage import Storage


class Teacher(NamedTuple):
    """One cycle's teacher: its members' weights, and its encoded blocks in order."""

    weights: Mapping[str, float]
    blocks: Sequence[np.ndarray]


class Exchange(Protocol):
    """What a student sees of the others."""

    def announce(self, publication: Publication) -> None:
        """Say that soft labels of a cycle will come; the announcement is committed already."""

    def deliver(self, publication: Publication, *, block: int, data: np.ndarray | None) -> None:
        """Hand over a committed block: its bytes, or None where only storage has them.

        Publishing calls it in a thread of its own, one block after the other; nothing else is
        called meanwhile.
        """

    def teacher(
        self,
        cycle: int,
        teacher: str,
        *,
        num_blocks: int,
        stop: threading.Event,
        rebuild: Rebuild | None = None,
    ) -> Teacher | None:
        """Wait for a teacher; None if ``stop`` was set first.

        Args:
            cycle, teacher: Which one.
            num_blocks: How many blocks it has.
            stop: Ends the wait.
            rebuild: Called for damaged blocks that are waited for.

        Raises:
            DamagedBlockError: a block is damaged and there is no ``rebuild``, or it does not help.
        """


class TeacherNotReadyError(RuntimeError):
    """In one process nobody else will finish the teacher while the caller waits."""


class FolderExchange:
    """The exchange for students that run one after the other in this process.

    Attributes:
        notes: A line for every damaged record that was found.
    """

    def __init__(self, storage: Storage, ledger: Ledger) -> None:
        self.storage = storage
        self.ledger = ledger
        self.notes: list[str] = []
        self._execute(recover(storage, ledger, tell=self.notes.append))

    def announce(self, publication: Publication) -> None:
        self._execute(self.ledger.announced(publication))

    def deliver(self, publication: Publication, *, block: int, data: np.ndarray | None) -> None:
        del data  # the committed bytes serve every merge alike
        # again, for the announcement may have been damaged before a restart read it
        self._execute(self.ledger.announced(publication))
        self._execute(self.ledger.delivered(publication.cycle, publication.student, block))

    def lose(self, loss: Loss) -> Loss:
        """Go on without a student; gives back what was committed of it, now or before."""
        known = self.ledger.loss(loss.student)
        if known is None:
            known = replace(loss, cycle=self.ledger.first_open())
            commit_loss(self.storage, known)
            self._execute(self.ledger.lost(known))
        return known

    def teacher(
        self,
        cycle: int,
        teacher: str,
        *,
        num_blocks: int,
        stop: threading.Event,
        rebuild: Rebuild | None = None,
    ) -> Teacher | None:
        del stop
        for damaged in self.ledger.damage(cycle):
            self._mend(damaged, rebuild)
        roster = self.ledger.complete(cycle)
        if roster is None:
            raise TeacherNotReadyError(f"cycle {cycle} waits for {self.ledger.missing(cycle)}")
        blocks = [self._read(roster, teacher, block, rebuild) for block in range(num_blocks)]
        return Teacher(roster.weights[teacher], blocks)

    def _read(
        self, roster: CommitRoster, teacher: str, block: int, rebuild: Rebuild | None
    ) -> np.ndarray:
        found = read_teacher_block(self.storage, roster, teacher, block)
        if isinstance(found, Damaged):
            self._mend(found, rebuild)
            found = read_teacher_block(self.storage, roster, teacher, block)
        if isinstance(found, Damaged):
            raise damaged_error(found)
        return found

    def _mend(self, damaged: Damaged, rebuild: Rebuild | None) -> None:
        if rebuild is None:
            raise damaged_error(damaged)
        rebuild(damaged)
        self._execute(self.ledger.rebuilt(damaged))

    def _execute(self, actions: Sequence[Action]) -> None:
        queue = list(actions)
        while queue:
            queue += self._act(queue.pop(0))

    def _act(self, action: Action) -> list[Action]:
        if not self.ledger.is_current(action):
            return []
        if isinstance(action, CommitRoster):
            commit_roster(self.storage, action)
            return self.ledger.roster_committed(action)
        if isinstance(action, MergeBlock):
            return self._merge(action)
        complete_cycle(self.storage, action.roster)
        self.ledger.completed(action.roster)
        return []

    def _merge(self, order: MergeBlock) -> list[Action]:
        try:
            merge_block(self.storage, order, sources={})
        except DamagedBlockError as error:
            self.ledger.damaged(error.damaged)
            return []
        return self.ledger.merged(order.cycle, order.teacher, order.block, revision=order.revision)
