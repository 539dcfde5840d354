"""A worker's way to the aggregator: what training/ knows as an Exchange, over Ray.

Committed bytes go into the object store, their references to the aggregator; a teacher comes
back as references, read without a copy. Waiting looks at the stop flag, says who is missing,
and burns no CPU.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import ObjectLostError, RayTaskError

from raymd.exchange.damaged import Damaged, Rebuild, damaged_error
from raymd.exchange.facts import Publication
from raymd.exchange.folder import Teacher
from raymd.execution.admitted import growing_intervals
from raymd.training.student import Emit
from raymd.view import events

POLL_S = 1.0
READ_ATTEMPTS = 5
REBUILD_ATTEMPTS = 3


class StoppedError(Exception):
    """The stop flag went up while waiting."""


class RayExchange:
    """The exchange as one student's worker sees it.

    Args:
        aggregator: The run's aggregator.
        student: The student's id, for events.
        emit: Takes ``waiting`` events.
    """

    def __init__(self, aggregator: Any, *, student: str, emit: Emit) -> None:
        self.aggregator = aggregator
        self.student = student
        self.emit = emit

    def announce(self, publication: Publication) -> None:
        """Tell the aggregator, and wait until it knows: a wrong announcement must not be lost."""
        ray.get(self.aggregator.announce.remote(publication))

    def deliver(self, publication: Publication, *, block: int, data: np.ndarray | None) -> None:
        """Put a block's bytes into the object store and hand their reference over."""
        refs, num_bytes = ([], 0) if data is None else ([ray.put(data)], data.nbytes)
        ray.get(self.aggregator.deliver.remote(publication, block, refs, num_bytes))

    def teacher(
        self,
        cycle: int,
        teacher: str,
        *,
        num_blocks: int,
        stop: threading.Event,
        rebuild: Rebuild | None = None,
    ) -> Teacher | None:
        """Wait for a teacher, and make damaged blocks again where this worker is asked to."""
        tries: Counter[Damaged] = Counter()
        lost: list[int] = []
        for attempt in range(READ_ATTEMPTS):
            try:
                weights, refs = self._ask(cycle, teacher, lost, tries, stop, rebuild)
            except StoppedError:
                return None
            assert len(refs) == num_blocks
            blocks, lost = _read(refs, is_last=attempt + 1 == READ_ATTEMPTS)
            if not lost:
                return Teacher(dict(weights), blocks)
        raise AssertionError("unreachable")

    def _ask(
        self,
        cycle: int,
        teacher: str,
        lost: Sequence[int],
        tries: Counter[Damaged],
        stop: threading.Event,
        rebuild: Rebuild | None,
    ) -> tuple[Mapping[str, float], Sequence[Any]]:
        while True:
            call = self.aggregator.teacher.remote(cycle, teacher, lost=lost)
            self._wait(call, cycle, stop)
            answer = ray.get(call)
            if not isinstance(answer, Damaged):
                return answer
            tries[answer] += 1
            if rebuild is None or tries[answer] > REBUILD_ATTEMPTS:
                raise damaged_error(answer)
            rebuild(answer)
            ray.get(self.aggregator.rebuilt.remote(answer))

    def _wait(self, call: Any, cycle: int, stop: threading.Event) -> None:
        reports = growing_intervals()
        started = time.monotonic()
        report_at = next(reports)
        while not ray.wait([call], timeout=POLL_S)[0]:
            if stop.is_set():
                raise StoppedError
            seconds = time.monotonic() - started
            if seconds >= report_at:
                report_at = next(reports)
                missing = ray.get(self.aggregator.missing.remote(cycle))
                self.emit(
                    events.waiting(
                        student=self.student, cycle=cycle, missing=list(missing), seconds=seconds
                    )
                )


def _read(refs: Sequence[Any], *, is_last: bool) -> tuple[list[np.ndarray], list[int]]:
    """The blocks behind references, and the numbers of those that could not be read."""
    blocks, lost = [], []
    for block, ref in enumerate(refs):
        try:
            blocks.append(ray.get(ref))
        except (ObjectLostError, RayTaskError):
            if is_last:
                raise
            lost.append(block)
    return blocks, lost
