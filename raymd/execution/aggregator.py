"""The aggregator: a detached actor that drives the exchange's ledger with Ray's objects and tasks.

It holds references and never bytes: merging runs in tasks, which commit what they make, and
what a task returns is owned by the aggregator. Everything it must know is in storage, so a
restart begins with ``recover``. It imports no torch and takes no CPU of the cluster's count.
"""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from raymd.distillation.methods import Method
from raymd.errors import RaymdError
from raymd.exchange.blocks import (
    commit_loss,
    commit_roster,
    complete_cycle,
)
from raymd.exchange.damaged import Claims, Damaged
from raymd.exchange.facts import Action, CommitRoster, Loss, MergeBlock, Publication
from raymd.exchange.ledger import Ledger
from raymd.exchange.memory import BlockKey, Held
from raymd.exchange.recovery import recover
from raymd.execution.merging import load_task, merge_task, warm_up_task, with_attempts
from raymd.execution.monitor import NAMESPACE
from raymd.storage import Storage
from raymd.view import events

log = logging.getLogger(__name__)

TASKS_IN_FLIGHT = 4
TELL_MEMORY_EVERY_S = 1.0


class Aggregator:
    """Announcements and blocks in, teachers out.

    Args:
        storage: The run's folder.
        method: Name of the run's method.
        students: All student ids, lost ones too.
        num_blocks: Blocks of every publication.
        monitor: Name of the driver's actor; when that dies, so does this one. A name, for a
            handle among an actor's arguments would be an object that can be lost.
        base_bytes: What the run keeps in the object store beside soft labels.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        method: Method,
        students: Sequence[str],
        num_blocks: int,
        monitor: Any,
        frozen: Sequence[str] = (),
        base_bytes: int = 0,
    ) -> None:
        self.storage = storage
        self.monitor = ray.get_actor(monitor, namespace=NAMESPACE)
        self.ledger = Ledger(method, students=students, num_blocks=num_blocks, frozen=frozen)
        self._held = Held(base_bytes=base_bytes)
        self._claims = Claims()
        self._changed = asyncio.Condition()
        self._in_flight = asyncio.Semaphore(TASKS_IN_FLIGHT)
        # Rosters, completions and losses are committed one after the other: what is ordered
        # before a loss and would be committed after it is not committed at all.
        self._records = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self._begun = False
        self._telling_memory = False
        # A thread, for nobody may call this life, and only a call starts the event loop.
        threading.Thread(target=_end_with_driver, args=(self.monitor,), daemon=True).start()

    async def begin(self) -> None:
        """Take up what storage holds; called once in each life, by whoever calls first."""
        if self._begun:
            return
        self._begun = True
        try:
            self._order(recover(self.storage, self.ledger, tell=self._note))
        except Exception as error:
            self._report(error)
            raise

    # -- what students call -----------------------------------------------------------

    async def announce(self, publication: Publication) -> None:
        """A student begins to publish; see Ledger.announced."""
        await self.begin()
        self._order(self.ledger.announced(publication))

    async def deliver(
        self, publication: Publication, block: int, refs: Sequence[Any], num_bytes: int = 0
    ) -> None:
        """A student's committed block; ``refs`` holds its object of so many bytes, or nothing."""
        await self.begin()
        cycle, student = publication.cycle, publication.student
        # again, for the announcement may have been damaged before a restart read it
        self._order(self.ledger.announced(publication))
        waited_for = self.ledger.complete(cycle) is None and self.ledger.is_member(cycle, student)
        if refs and waited_for:
            self._hold(BlockKey(cycle, "student", student, block), refs[0], num_bytes)
        self._order(self.ledger.delivered(cycle, student, block))

    async def teacher(
        self, cycle: int, teacher: str, *, lost: Sequence[int] = ()
    ) -> Damaged | tuple[Mapping[str, float], list[Any]]:
        """Wait until a teacher can be read, or the caller is needed to make a block again.

        Args:
            cycle, teacher: Which one.
            lost: Blocks whose references the caller could not read; it gets others.

        Returns:
            The members' weights, and the references to all blocks. Or a damaged block, which
            the caller is to commit again and to tell of by ``rebuilt``, before it asks once more.
        """
        await self.begin()
        self._drop(lambda key: key[:3] == (cycle, "teacher", teacher) and key.block in lost)
        while True:
            damaged = self._claims.take(self.ledger.damage(cycle), now=self._now())
            if damaged is not None:
                return damaged
            roster = self.ledger.complete(cycle)
            if roster is not None and not self.ledger.damage(cycle):
                refs = await self._references(roster, teacher)
                if refs is not None:
                    return roster.weights[teacher], refs
                continue
            await self._wait(cycle)

    async def rebuilt(self, damaged: Damaged) -> None:
        """A damaged block is committed again."""
        await self.begin()
        self._claims.release(damaged)
        self._order(self.ledger.rebuilt(damaged))
        await self._wake()

    async def missing(self, cycle: int) -> tuple[str, ...]:
        """Students whose soft labels a cycle waits for."""
        await self.begin()
        return self.ledger.missing(cycle)

    # -- what the driver calls --------------------------------------------------------

    async def lose(self, loss: Loss) -> Loss:
        """Go on without a student: cycles that are not complete are made by the others.

        Returns:
            What was committed of it, now or before.
        """
        await self.begin()
        async with self._records:
            known = self.ledger.loss(loss.student)
            if known is None:
                known = replace(loss, cycle=self.ledger.first_open())
                await asyncio.to_thread(commit_loss, self.storage, known)
                self._order(self.ledger.lost(known))
        self._drop(lambda key: key.kind == "student" and key.id == loss.student)
        await self._wake()
        return known

    async def memory(self) -> dict[str, int]:
        """``bytes`` of the run in the object store now, and ``peak_bytes`` in this life."""
        return {"bytes": self._held.bytes, "peak_bytes": self._held.peak_bytes}

    async def ping(self) -> None:
        """Return when the actor is up."""
        await self.begin()

    async def warm_up(self) -> None:
        """Have the first merge's process ready; called once students train, not while they start:
        it imports torch, for which a small machine has no core to spare then."""
        if self.ledger.num_blocks:
            warm_up_task.remote()

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
        said = str(error) if isinstance(error, RaymdError) else f"{type(error).__name__}: {error}"
        self.monitor.failed.remote("the aggregator", said)
        self.monitor.stop.remote()

    async def _act(self, action: Action) -> None:
        if isinstance(action, MergeBlock):
            await self._merge(action)
            return
        async with self._records:
            if not self.ledger.is_current(action):
                return
            if isinstance(action, CommitRoster):
                await asyncio.to_thread(commit_roster, self.storage, action)
                self._order(self.ledger.roster_committed(action))
            else:
                await asyncio.to_thread(complete_cycle, self.storage, action.roster)
                self.ledger.completed(action.roster)
                self._forget(action.cycle)
        await self._wake()

    async def _merge(self, order: MergeBlock) -> None:
        students = list(order.weights)
        keys = [
            BlockKey(order.published_in(student), "student", student, order.block)
            for student in students
        ]

        def submit(attempt: int) -> Any:
            # Objects die with the student that put them; what it committed does not.
            blocks = [self._held.get(key) if attempt == 0 else None for key in keys]
            return merge_task.remote(self.storage, order, students, *blocks)

        async with self._in_flight:
            if not self.ledger.is_current(order):
                return
            outcome, data = await with_attempts(submit)
        if isinstance(outcome, Damaged):
            await self._damaged(outcome)
            return
        if self.ledger.is_current(order):
            key = BlockKey(order.cycle, "teacher", order.teacher, order.block)
            self._hold(key, data, outcome)
        merged = self.ledger.merged(
            order.cycle, order.teacher, order.block, revision=order.revision
        )
        self._order(merged)

    def _forget(self, cycle: int) -> None:
        """Drop the references that nobody asks for once a cycle's teachers are complete."""
        self._drop(lambda key: key.cycle < cycle + (key.kind == "student"))

    # -- teachers ---------------------------------------------------------------------

    async def _references(self, roster: CommitRoster, teacher: str) -> list[Any] | None:
        """All blocks of a complete teacher; None if some are damaged, as the ledger now knows."""
        blocks = range(self.ledger.num_blocks)
        keys = [BlockKey(roster.cycle, "teacher", teacher, block) for block in blocks]
        await asyncio.gather(*(self._load(roster, key) for key in keys))
        refs = [self._held.get(key) for key in keys]
        return None if any(ref is None for ref in refs) else refs

    async def _load(self, roster: CommitRoster, key: BlockKey) -> None:
        def submit(_: int) -> Any:
            return load_task.remote(self.storage, roster, key.id, key.block)

        async with self._in_flight:
            if self._held.get(key) is not None:
                return
            outcome, data = await with_attempts(submit)
        if isinstance(outcome, Damaged):
            await self._damaged(outcome)
        else:
            self._hold(key, data, outcome)

    async def _damaged(self, damaged: Damaged) -> None:
        self._claims.release(damaged)
        self.ledger.damaged(damaged)
        await self._wake()

    async def _wait(self, cycle: int) -> None:
        """Until a cycle is complete or damaged, or who was to mend it may have died."""

        def has_news() -> bool:
            damage = self.ledger.damage(cycle)
            return self._claims.has_any(damage, now=self._now()) or (
                self.ledger.complete(cycle) is not None and not damage
            )

        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(has_news), self._claims.claim_s)
            except TimeoutError:
                return

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # -- telling ----------------------------------------------------------------------

    def _hold(self, key: BlockKey, ref: Any, num_bytes: int) -> None:
        self._held.put(key, ref, num_bytes)
        self._tell_memory()

    def _drop(self, where: Callable[[BlockKey], bool]) -> None:
        self._held.drop(where)
        self._tell_memory()

    def _tell_memory(self) -> None:
        if not self._telling_memory:
            self._telling_memory = True
            self._spawn(self._push_memory())

    async def _push_memory(self) -> None:
        await asyncio.sleep(TELL_MEMORY_EVERY_S)
        self._telling_memory = False
        held = self._held
        self._push(events.memory(bytes=held.bytes, peak_bytes=held.peak_bytes))

    def _note(self, text: str) -> None:
        log.warning(text)
        self._push(events.note(text=text))

    def _push(self, event: Mapping[str, Any]) -> None:
        self.monitor.push.remote(dict(event))


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
    method: Method,
    students: Sequence[str],
    num_blocks: int,
    monitor: Any,
    frozen: Sequence[str] = (),
    base_bytes: int = 0,
) -> Any:
    """Create a run's aggregator for this attempt of its driver; ``wait_until_up`` follows."""
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Aggregator).options(
        name=aggregator_prefix(storage) + attempt,
        namespace=NAMESPACE,
        lifetime="detached",
        max_concurrency=10_000,
        scheduling_strategy="DEFAULT",
    )
    return actor.remote(
        storage,
        method=method,
        students=list(students),
        num_blocks=num_blocks,
        monitor=monitor,
        frozen=list(frozen),
        base_bytes=base_bytes,
    )


def wait_until_up(aggregator: Any) -> None:
    """Wait until an aggregator knows what storage holds.

    Raises:
        RaymdError: what it holds is damaged, or it cannot be read.
    """
    try:
        ray.get(aggregator.ping.remote())
    except RayTaskError as error:
        if isinstance(error.cause, RaymdError):  # without Ray's traceback
            raise error.cause from None
        raise
