"""A worker's way to the aggregator: what training/ knows as an Exchange, over Ray.

Committed bytes go into the object store, their references to the aggregator; a teacher comes
back as references, read without a copy. Waiting looks at the stop flag, says who is missing,
and burns no CPU.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
from ray.exceptions import ObjectLostError, RayTaskError

from raymd.exchange.folder import Teacher
from raymd.exchange.ledger import Publication
from raymd.training.student import Emit
from raymd.view import events

POLL_S = 1.0
READ_ATTEMPTS = 5


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
        refs = [] if data is None else [ray.put(data)]
        ray.get(self.aggregator.deliver.remote(publication, block, refs))

    def teacher(
        self, cycle: int, teacher: str, *, num_blocks: int, stop: threading.Event
    ) -> Teacher | None:
        """Wait for every block of a teacher."""
        try:
            parts = [self._block(cycle, teacher, block, stop) for block in range(num_blocks)]
        except StoppedError:
            return None
        return Teacher(parts[0][0], [data for _, data in parts])

    def _block(
        self, cycle: int, teacher: str, block: int, stop: threading.Event
    ) -> tuple[dict[str, float], np.ndarray]:
        for attempt in range(READ_ATTEMPTS):
            call = self.aggregator.teacher_block.remote(cycle, teacher, block, lost=attempt > 0)
            self._wait(call, cycle, stop)
            weights, refs = ray.get(call)
            try:
                return dict(weights), ray.get(refs[0])
            except (ObjectLostError, RayTaskError):
                if attempt + 1 == READ_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _wait(self, call: Any, cycle: int, stop: threading.Event) -> None:
        reports = _growing_intervals()
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


def _growing_intervals() -> Iterator[float]:
    """Seconds of waiting after which to say so: 1, 5, 15, 60, then every minute."""
    yield from (1.0, 5.0, 15.0)
    minute = 60.0
    while True:
        yield minute
        minute += 60.0
