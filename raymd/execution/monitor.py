"""The driver's own actor: events and records come in, orders and the stop flag go out.

Its death is the driver's. It is not detached, so Ray ends it when the driver is gone; whoever
waits on it learns of that at once, while a driver that is merely paused keeps it. No heartbeat
could tell the two apart.

Nothing here is lost for good: should its process be killed, Ray starts it anew, callers' pending
calls come again, and the driver, who sees another ``life``, gives its orders once more.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Event = dict[str, Any]

NAMESPACE = "raymd"
FAILURES_AT_ONE_POSITION = 3


class Taken(NamedTuple):
    """What the driver takes: the monitor's life, events, (slot, order's number, record), and the
    placement groups of slots whose workers have started since."""

    life: str
    events: list[Event]
    records: list[tuple[int, int, Any]]
    groups: dict[int, PlacementGroup]


@dataclass
class _Slot:
    number: int = -1  # of the newest order
    order: Any = None
    ended: int = -1  # the newest order that a record has come of
    is_closed: bool = False


class Monitor:
    """State of one driver's attempt at a run. Nothing here survives it, or needs to."""

    def __init__(self) -> None:
        self._life = uuid.uuid4().hex
        self._events: list[Event] = []
        self._records: list[tuple[int, int, Any]] = []
        self._groups: dict[int, PlacementGroup] = {}
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._slots: dict[int, _Slot] = {}
        self._given = asyncio.Condition()
        self._starts: Counter[tuple[int, tuple[int, int]]] = Counter()
        self._lives: Counter[int] = Counter()
        self._reasons: dict[str, str] = {}
        self._earlier_reasons: dict[str, str | None] = {}
        self._given_up: dict[str, Any] = {}
        self._lease: Mapping[str, Any] | None = None

    # -- events -----------------------------------------------------------------------

    async def push(self, event: Event) -> None:
        """Take an event for the driver to show."""
        self._events.append(event)
        self._arrived.set()

    async def take(self, timeout_s: float) -> Taken:
        """Events and records since the last call; waits for one, at most ``timeout_s``."""
        if not (
            self._events or self._records or self._groups
        ):  # wait_for with no time left would not look
            try:
                await asyncio.wait_for(self._arrived.wait(), timeout_s)
            except TimeoutError:
                return Taken(self._life, [], [], {})
        self._arrived.clear()
        events, self._events = self._events, []
        records, self._records = self._records, []
        groups, self._groups = self._groups, {}
        return Taken(self._life, events, records, groups)

    # -- orders -----------------------------------------------------------------------

    async def assign(self, slot: int, number: int, order: Any) -> None:
        """Give a slot's workers their next order; orders' numbers rise."""
        async with self._given:
            self._slot(slot).number, self._slot(slot).order = number, order
            self._given.notify_all()

    async def close(self, slot: int) -> None:
        """A slot's workers get no order any more."""
        async with self._given:
            self._slot(slot).is_closed = True
            self._given.notify_all()

    async def next_order(self, slot: int, last: int, record: Any) -> tuple[int, Any] | None:
        """Wait for an order that a worker has not carried out.

        Args:
            slot: The worker's.
            last: Number of the order it has carried out; -1 if none in this process.
            record: What became of that, from the first of a student's workers; else None. It
                comes along with the question because a question is asked again when this process
                was killed, and an answer in between would be lost.

        Returns:
            Number and order; None once the slot is closed.
        """
        state = self._slot(slot)
        if record is not None and last > state.ended:
            state.ended = last
            self._records.append((slot, last, record))
            self._arrived.set()
        async with self._given:
            await self._given.wait_for(
                lambda: state.is_closed or state.number > max(last, state.ended)
            )
        return None if state.is_closed else (state.number, state.order)

    def _slot(self, slot: int) -> _Slot:
        return self._slots.setdefault(slot, _Slot())

    # -- stopping ---------------------------------------------------------------------

    async def stop(self) -> None:
        """Raise the stop flag: every student commits after the step under way and returns."""
        self._stopping.set()

    async def wait_for_stop(self) -> None:
        """Return once the stop flag is up. Fails when the driver dies."""
        await self._stopping.wait()

    async def is_stopping(self) -> bool:
        """Whether the stop flag is up."""
        return self._stopping.is_set()

    async def wait_for_ever(self) -> None:
        """Never return. Fails when the driver dies."""
        await asyncio.Event().wait()

    # -- beginnings and failures ------------------------------------------------------

    async def began(self, student: str, number: int, position: tuple[int, int]) -> tuple[int, int]:
        """A student's worker begins an order at a committed position.

        Returns:
            How often it has begun that order, and how often at that position.
        """
        self._lives[number] += 1
        self._starts[number, position] += 1
        self._earlier_reasons[student] = self._reasons.pop(student, None)
        return self._lives[number], self._starts[number, position]

    async def joined(self, slot: int, group: PlacementGroup | None) -> None:
        """A slot's workers have started, in a placement group."""
        if group is not None:
            self._groups[slot] = group
            self._arrived.set()

    async def failed(self, student: str, reason: str) -> None:
        """Keep why a student failed, for the driver's report.

        The first reason of an attempt stays: when one worker fails, the others lose their
        connection to it and say so.
        """
        self._reasons.setdefault(student, reason)

    async def reason(self, student: str) -> str | None:
        """Why a student failed in this attempt or the one before; None if nobody could say."""
        return self._reasons.get(student) or self._earlier_reasons.get(student)

    async def give_up(self, student: str, record: Any) -> None:
        """One worker of several knows that no retry can help its student."""
        self._given_up.setdefault(student, record)

    async def given_up(self, student: str) -> Any:
        """The record of a student that no retry can help; None of any other."""
        return self._given_up.get(student)

    # -- the job's lease, for an admission actor that was killed ------------------------

    async def set_lease(self, lease: Mapping[str, Any] | None) -> None:
        """Remember what this job holds of the cluster."""
        self._lease = lease

    async def lease(self) -> Mapping[str, Any] | None:
        """What this job holds of the cluster."""
        return self._lease


def start_monitor(name: str) -> Any:
    """Create the monitor under a name; it belongs to this driver, and dies with no other node."""
    node = ray.get_runtime_context().get_node_id()
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Monitor).options(
        name=name,
        namespace=NAMESPACE,
        max_concurrency=10_000,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
    return actor.remote()
