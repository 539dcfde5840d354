"""The driver's own actor: events come in, the stop flag goes out, and its death is the driver's.

It is not detached, so Ray ends it when the driver is gone; whoever waits on it learns of that
at once, while a driver that is merely paused keeps it. No heartbeat could tell the two apart.
"""

import asyncio
from collections import Counter
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup

Event = dict[str, Any]

NAMESPACE = "raymd"
FAILURES_AT_ONE_POSITION = 3


class Monitor:
    """State of one driver's attempt at a run. Nothing here survives it, or needs to."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._starts: dict[tuple[str, tuple[int, int]], int] = {}
        self._lives: Counter[str] = Counter()
        self._groups: dict[str, PlacementGroup] = {}
        self._reasons: dict[str, str] = {}
        self._earlier_reasons: dict[str, str | None] = {}
        self._given_up: dict[str, tuple[str, int]] = {}

    async def push(self, event: Event) -> None:
        """Take an event for the driver to show."""
        self._events.append(event)
        self._arrived.set()

    async def take(self, timeout_s: float) -> list[Event]:
        """Events since the last call; waits for one, at most ``timeout_s``."""
        if not self._events:  # wait_for with no time left would not even look
            try:
                await asyncio.wait_for(self._arrived.wait(), timeout_s)
            except TimeoutError:
                return []
        self._arrived.clear()
        events, self._events = self._events, []
        return events

    async def stop(self) -> None:
        """Raise the stop flag: every student commits after the step under way and returns."""
        self._stopping.set()

    async def wait_for_stop(self) -> None:
        """Return once the stop flag is up. Fails when the driver dies."""
        await self._stopping.wait()

    async def wait_for_ever(self) -> None:
        """Never return. Fails when the driver dies."""
        await asyncio.Event().wait()

    async def started(
        self, student: str, position: tuple[int, int], group: PlacementGroup | None
    ) -> int:
        """A student's worker begins at a committed position; how often it has begun there."""
        key = (student, position)
        self._starts[key] = self._starts.get(key, 0) + 1
        if group is not None:
            self._groups[student] = group
        self._lives[student] += 1
        self._earlier_reasons[student] = self._reasons.pop(student, None)
        return self._starts[key]

    async def is_stopping(self) -> bool:
        """Whether the stop flag is up."""
        return self._stopping.is_set()

    async def lives(self, student: str) -> int:
        """How often a student's worker has begun, at any position."""
        return self._lives[student]

    async def failed(self, student: str, reason: str) -> None:
        """Keep why a student failed, for the driver's report.

        The first reason of an attempt stays: when one worker fails, the others lose their
        connection to it and say so.
        """
        self._reasons.setdefault(student, reason)

    async def reason(self, student: str) -> str | None:
        """Why a student failed in this attempt or the one before; None if nobody could say."""
        return self._reasons.get(student) or self._earlier_reasons.get(student)

    async def give_up(self, student: str, reason: str, exit_code: int) -> None:
        """One worker of several knows that no retry can help its student."""
        self._given_up.setdefault(student, (reason, exit_code))

    async def given_up(self, student: str) -> tuple[str, int] | None:
        """Why no retry can help a student, and what the command should end with."""
        return self._given_up.get(student)

    async def group(self, student: str) -> PlacementGroup | None:
        """The placement group that a student's workers were last seen in."""
        return self._groups.get(student)


def start_monitor(name: str) -> Any:
    """Create the monitor under a name; it belongs to this driver."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Monitor)
    return actor.options(name=name, namespace=NAMESPACE, max_concurrency=10_000).remote()
