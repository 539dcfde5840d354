"""The whole exchange against a folder, in one process: the reference for what Ray does at scale.

Students call it one after the other; merges happen at once, in the caller. It serves the
tests of the student loop, and shows in fifty lines what an executor owes the ledger.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from raymd.exchange import names
from raymd.exchange.blocks import commit_roster, complete_cycle, read_block, recover
from raymd.exchange.ledger import Action, CommitRoster, Ledger, MergeBlock, Publication
from raymd.exchange.merge import merge_block
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
        """Hand over a committed block: its bytes, or None where only storage has them."""

    def teacher(
        self, cycle: int, teacher: str, *, num_blocks: int, stop: threading.Event
    ) -> Teacher | None:
        """Wait for a teacher; None if ``stop`` was set first."""


class TeacherNotReadyError(RuntimeError):
    """In one process nobody else will finish the teacher while the caller waits."""


class FolderExchange:
    """The exchange for students that run one after the other in this process."""

    def __init__(self, storage: Storage, ledger: Ledger) -> None:
        self.storage = storage
        self.ledger = ledger
        self._execute(recover(storage, ledger))

    def announce(self, publication: Publication) -> None:
        self._execute(self.ledger.announced(publication))

    def deliver(self, publication: Publication, *, block: int, data: np.ndarray | None) -> None:
        del data  # the committed bytes serve every merge alike
        self._execute(self.ledger.delivered(publication.cycle, publication.student, block))

    def teacher(
        self, cycle: int, teacher: str, *, num_blocks: int, stop: threading.Event
    ) -> Teacher | None:
        del stop
        folder = f"{names.teacher_folder(cycle)}/{teacher}"
        blocks = [read_block(self.storage, folder, block=block) for block in range(num_blocks)]
        present = [block for block in blocks if block is not None]
        weights = self.ledger.weights(cycle, teacher)
        if weights is None or len(present) < num_blocks:
            raise TeacherNotReadyError(f"cycle {cycle} waits for {self.ledger.missing(cycle)}")
        return Teacher(weights, present)

    def _execute(self, actions: Sequence[Action]) -> None:
        queue = list(actions)
        while queue:
            queue += self._act(queue.pop(0))

    def _act(self, action: Action) -> list[Action]:
        if isinstance(action, CommitRoster):
            commit_roster(self.storage, action)
            return self.ledger.roster_committed(action)
        if isinstance(action, MergeBlock):
            merge_block(self.storage, action, sources={})
            return self.ledger.merged(action.cycle, action.teacher, action.block)
        complete_cycle(self.storage, action.cycle)
        return []
