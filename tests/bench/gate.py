"""What is put into a living aggregator to look at its merging. No torch here, nor in there."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import ray


class Gate(asyncio.Semaphore):
    """Lets as many tasks run at once as the aggregator's own, but none before it is opened."""

    def __init__(self, at_most: int) -> None:
        super().__init__(at_most)
        self.opened = asyncio.Event()
        self.inside = self.most_inside = 0
        self.opened_at = self.completed_at = 0.0

    async def __aenter__(self) -> None:
        await self.opened.wait()
        await super().__aenter__()
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)

    async def __aexit__(self, *error: Any) -> None:
        self.inside -= 1
        await super().__aexit__(*error)


@ray.remote(num_cpus=0, scheduling_strategy="DEFAULT", num_returns=2)
def nothing(*_: Any) -> tuple[int, None]:
    """An empty task, of the aggregator's kind."""
    return 1, None


class Empty:
    """In the merging task's place: takes the same orders and no block."""

    @staticmethod
    def remote(storage: Any, order: Any, students: Any, *blocks: Any) -> Any:
        """Submit it."""
        del blocks
        return nothing.remote(storage, order, students)


def close(at_most: int, *, empty: bool) -> Callable[[Any], None]:
    """For an aggregator: hold all merging back, and have it do nothing if ``empty``."""

    def change(aggregator: Any) -> None:
        import raymd.execution.aggregator as module
        from raymd.exchange.ledger import Ledger
        from raymd.execution.merging import merge_task

        gate = aggregator._in_flight = Gate(at_most)
        module.merge_task = Empty if empty else merge_task  # type: ignore[assignment]

        def completed(roster: Any) -> None:
            Ledger.completed(aggregator.ledger, roster)
            gate.completed_at = time.monotonic()

        aggregator.ledger.completed = completed

    return change


def open_gate(aggregator: Any) -> None:
    """For an aggregator: begin to merge."""
    aggregator._in_flight.opened_at = time.monotonic()
    aggregator._in_flight.opened.set()


def seen(aggregator: Any) -> tuple[float, int] | None:
    """For an aggregator: seconds from the opening to the completion, once that is over, and the
    most tasks that were in flight at once."""
    gate = aggregator._in_flight
    if not gate.completed_at:
        return None
    return gate.completed_at - gate.opened_at, gate.most_inside


def cpu_seconds(_: Any) -> float:
    """For an aggregator: of its process so far, all threads together."""
    return time.process_time()
