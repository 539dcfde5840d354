"""The aggregator: a detached actor that drives the exchange's ledger with Ray's objects and tasks.

It holds references and never bytes: merging runs in tasks, which commit what they make, and
what a task returns is owned by the aggregator. Everything it must know is in storage, so a
restart begins with ``recover``. It imports no torch and takes no CPU of the cluster's count.
"""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError

from raymd.distillation.methods import get_method
from raymd.exchange import names
from raymd.exchange.blocks import commit_roster, complete_cycle, read_block, recover
from raymd.exchange.ledger import Action, CommitRoster, Ledger, MergeBlock, Publication
from raymd.execution.monitor import NAMESPACE
from raymd.storage import Storage

log = logging.getLogger(__name__)

MERGES_IN_FLIGHT = 4
MERGE_ATTEMPTS = 3

BlockKey = tuple[int, str, int]  # cycle, teacher or student, block


def merge(
    storage: Storage, order: MergeBlock, students: Sequence[str], *blocks: np.ndarray | None
) -> tuple[None, np.ndarray]:
    """Task: merge and commit one block. Returns nothing to wait for, and the block's bytes."""
    from raymd.exchange.merge import merge_block

    sources = dict(zip(students, blocks, strict=True))
    return None, merge_block(storage, order, sources=sources)


def load(storage: Storage, folder: str, block: int) -> np.ndarray:
    """Task: a committed block's bytes out of storage and into the object store."""
    data = read_block(storage, folder, block=block)
    if data is None:
        raise FileNotFoundError(f"{storage.uri}/{folder}: block {block}")
    return np.array(data)


def warm_up() -> None:
    """Task: start a worker and import what merging needs, while the students still train."""
    import raymd.exchange.merge  # noqa: F401


# Without CPUs a task starts although students hold them all; DEFAULT keeps it out of whatever
# placement group its caller may be in.
_task = ray.remote(num_cpus=0, scheduling_strategy="DEFAULT")
_merge = _task(merge).options(num_returns=2)
_load = _task(load)
_warm_up = _task(warm_up)


class Aggregator:
    """Announcements and blocks in, teacher blocks out.

    Args:
        storage: The run's folder.
        method: Name of the run's method.
        students: All student ids.
        num_blocks: Blocks of every publication.
        monitor: Name of the driver's actor; when that dies, so does this one. A name, for a
            handle among an actor's arguments would be an object that can be lost.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        method: str,
        students: Sequence[str],
        num_blocks: int,
        monitor: Any,
    ) -> None:
        self.storage = storage
        self.monitor = ray.get_actor(monitor, namespace=NAMESPACE)
        self.ledger = Ledger(get_method(method), students=students, num_blocks=num_blocks)
        self._raw: dict[BlockKey, Any] = {}
        self._teachers: dict[BlockKey, Any] = {}
        self._changed = asyncio.Condition()
        self._merging = asyncio.Semaphore(MERGES_IN_FLIGHT)
        self._running: set[asyncio.Task[None]] = set()
        self._begun = False
        # A thread, for nobody may call this life, and only a call starts the event loop.
        threading.Thread(target=_end_with_driver, args=(self.monitor,), daemon=True).start()

    async def begin(self) -> None:
        """Take up what storage holds; called once in each life, by whoever calls first."""
        if self._begun:
            return
        self._begun = True
        _warm_up.remote()
        try:
            self._order(recover(self.storage, self.ledger))
        except Exception as error:
            self._report(error)
            raise

    # -- what students call -----------------------------------------------------------

    async def announce(self, publication: Publication) -> None:
        """A student begins to publish; see Ledger.announced."""
        await self.begin()
        self._order(self.ledger.announced(publication))

    async def deliver(self, publication: Publication, block: int, refs: Sequence[Any]) -> None:
        """A student's committed block; ``refs`` holds its object, or nothing."""
        await self.begin()
        if refs:
            self._raw[publication.cycle, publication.student, block] = refs[0]
        self._order(self.ledger.delivered(publication.cycle, publication.student, block))
        async with self._changed:
            self._changed.notify_all()

    async def teacher_block(
        self, cycle: int, teacher: str, block: int, *, lost: bool = False
    ) -> tuple[Mapping[str, float], list[Any]]:
        """Wait until a teacher's block is committed.

        Args:
            cycle, teacher, block: Which one.
            lost: The caller could not read the reference it got; give it another.

        Returns:
            The members' weights, and a list with the block's reference.
        """
        await self.begin()
        async with self._changed:
            await self._changed.wait_for(lambda: self.ledger.is_merged(cycle, teacher, block))
        key = (cycle, teacher, block)
        if lost or key not in self._teachers:
            folder = f"{names.teacher_folder(cycle)}/{teacher}"
            self._teachers[key] = _load.remote(self.storage, folder, block)
        weights = self.ledger.weights(cycle, teacher)
        assert weights is not None
        return weights, [self._teachers[key]]

    async def missing(self, cycle: int) -> tuple[str, ...]:
        """Students whose soft labels a cycle waits for."""
        await self.begin()
        return self.ledger.missing(cycle)

    async def ping(self) -> None:
        """Return when the actor is up."""
        await self.begin()

    # -- what the ledger orders -------------------------------------------------------

    def _order(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._spawn(self._act(action))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.get_running_loop().create_task(work)
        self._running.add(running)
        running.add_done_callback(self._ended)

    def _ended(self, running: "asyncio.Task[None]") -> None:
        self._running.discard(running)
        error = None if running.cancelled() else running.exception()
        if error is not None:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Stop the run: nobody awaits this work, and students would wait for ever."""
        log.error("the aggregator could not go on", exc_info=error)
        self.monitor.failed.remote("the aggregator", f"{type(error).__name__}: {error}")
        self.monitor.stop.remote()

    async def _act(self, action: Action) -> None:
        if isinstance(action, CommitRoster):
            await asyncio.to_thread(commit_roster, self.storage, action)
            self._order(self.ledger.roster_committed(action))
        elif isinstance(action, MergeBlock):
            await self._merge(action)
        else:
            await asyncio.to_thread(complete_cycle, self.storage, action.cycle)
            self._forget(action.cycle)

    async def _merge(self, order: MergeBlock) -> None:
        students = list(order.weights)
        async with self._merging:
            for attempt in range(MERGE_ATTEMPTS):
                keys = [(order.cycle, student, order.block) for student in students]
                # Objects die with the student that put them; what it committed does not.
                blocks = [self._raw.get(key) if attempt == 0 else None for key in keys]
                committed, data = _merge.remote(self.storage, order, students, *blocks)
                try:
                    await committed
                    break
                except RayError:
                    if attempt + 1 == MERGE_ATTEMPTS:
                        raise
        self._teachers[order.cycle, order.teacher, order.block] = data
        self._order(self.ledger.merged(order.cycle, order.teacher, order.block))
        async with self._changed:
            self._changed.notify_all()

    def _forget(self, cycle: int) -> None:
        """Drop the references that nobody asks for once a cycle's teachers are complete."""
        self._raw = {key: ref for key, ref in self._raw.items() if key[0] > cycle}
        self._teachers = {key: ref for key, ref in self._teachers.items() if key[0] >= cycle}


def _end_with_driver(monitor: Any) -> None:
    """Wait on the driver's actor, which never answers; when it dies, end this process's actor."""
    try:
        ray.get(monitor.wait_for_ever.remote())
    except RayActorError:
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def aggregator_prefix(storage: Storage) -> str:
    """What the names of a run's aggregators begin with, in any attempt."""
    return f"aggregator-{hashlib.sha256(storage.uri.encode()).hexdigest()[:16]}-"


def start_aggregator(
    storage: Storage,
    *,
    attempt: str,
    method: str,
    students: Sequence[str],
    num_blocks: int,
    monitor: Any,
) -> Any:
    """Create a run's aggregator for this attempt of its driver, and wait until it is up."""
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Aggregator).options(
        name=aggregator_prefix(storage) + attempt,
        namespace=NAMESPACE,
        lifetime="detached",
        max_concurrency=10_000,
        scheduling_strategy="DEFAULT",
    )
    aggregator = actor.remote(
        storage, method=method, students=list(students), num_blocks=num_blocks, monitor=monitor
    )
    ray.get(aggregator.ping.remote())
    return aggregator
