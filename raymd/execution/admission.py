"""The cluster's admission: one detached actor grants leases, as leases.py decides.

    driver -- admitted.py --> Admission --> the driver's monitor remembers what it holds

The actor is a cache. Every life of it begins by asking all monitors, and nobody is told of a lease
before the monitor has it. So it may die at any time, and it ends itself when nobody needs it. A
lease lapses when its monitor dies, which is when its driver does: a paused driver keeps it. It
imports no torch and takes no CPU of the cluster's count.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.util import list_named_actors

from raymd.execution.leases import Lease, Leases
from raymd.execution.monitor import NAMESPACE
from raymd.execution.plan import Resources

log = logging.getLogger(__name__)

NAME = "admission"
MONITOR_PREFIX = "monitor-"
HEAD_NODE = "node:__internal_head__"
STEP_S = 1.0  # how often the nodes are looked at while somebody waits
IDLE_S = 10.0  # without leases and requests for so long, the actor ends itself
PATIENCE_S = 0.5  # how long one call waits for a grant


@dataclass(frozen=True)
class Answer:
    """What a job is told.

    Attributes:
        verdict: ``granted``; ``waiting``: not yet, and ``text`` says why; ``undecided``: monitors
            are still being asked or told.
        text: For people.
    """

    verdict: Literal["granted", "waiting", "undecided"]
    text: str = ""


class Admission:
    """Requests in, leases out. A job is known by the name of its driver's monitor."""

    def __init__(self) -> None:
        self.leases = Leases()
        self._monitors: dict[str, Any] = {}
        self._remembered: dict[str, asyncio.Event] = {}  # set once a job's monitor has its lease
        self._recovered = asyncio.Event()
        self._ending = False
        self._running: set[asyncio.Task[None]] = set()
        # What the autoscaler was asked for lasts, so an earlier life's request is still there.
        again = ray.get_runtime_context().was_current_actor_reconstructed
        self._requested: tuple[Resources, ...] | None = None if again else ()
        self._spawn(self._live())

    # -- what drivers call ------------------------------------------------------------

    async def ask(self, job: str, run: str, bundles: Sequence[Resources]) -> Answer:
        """Ask for a lease, or again for the one asked for; waits a moment for it.

        Args:
            job: Name of the driver's monitor.
            run: How people know the run.
            bundles: One a worker.

        Raises:
            ValueError: there is no such monitor.
        """
        if self._ending:
            await asyncio.Event().wait()  # the death on its way is the answer: ask the next life
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._recovered.wait()
                self._take(Lease(job, run, tuple(bundles), asked_at=time.time()))
                await self._remembered[job].wait()
        except TimeoutError:
            lease = self.leases.get(job)
            if not self._recovered.is_set() or lease is None or lease.granted_at is not None:
                return Answer("undecided", "other runs are being asked what they hold")
            return Answer("waiting", self.leases.explain(job, now=time.time()))
        return Answer("granted")

    async def release(self, job: str) -> None:
        """Give a lease back, or wait for it no longer."""
        await self._recovered.wait()
        self._drop(job)
        if job in self._monitors:
            with suppress(RayActorError):
                # once more after the driver: what this life was just telling it comes before this
                await self._monitors[job].set_lease.remote(None)

    # -- one life ---------------------------------------------------------------------

    async def _live(self) -> None:
        """Recover, look at the nodes while somebody waits, and end when nobody is there."""
        try:
            await self._recover()
            needed_at = time.monotonic()
            while time.monotonic() - needed_at < IDLE_S:
                await asyncio.sleep(STEP_S)
                if len(self.leases):
                    needed_at = time.monotonic()
                    self._step()
        finally:  # after an error too: the next life begins anew from the monitors
            self._ending = True
            ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    async def _recover(self) -> None:
        """Ask all monitors; nothing is granted before each has answered or died."""
        actors: list[Any] = list_named_actors(all_namespaces=True)
        names = [actor["name"] for actor in actors if actor["namespace"] == NAMESPACE]
        jobs = [name for name in names if name.startswith(MONITOR_PREFIX)]
        await asyncio.gather(*(self._recall(job) for job in jobs))
        self._recovered.set()
        self._step()

    async def _recall(self, job: str) -> None:
        try:
            monitor: Any = ray.get_actor(job, namespace=NAMESPACE)
            remembered = await monitor.lease.remote()
        except (ValueError, RayActorError):
            return  # it died since the list was made
        if remembered is not None:
            lease = Lease.from_dict(remembered)
            self._follow(lease, monitor)
            if lease.granted_at is not None:
                self._remembered[job].set()

    # -- leases -----------------------------------------------------------------------

    def _take(self, lease: Lease) -> None:
        """Queue a request, unless it is the one this job has."""
        known = self.leases.get(lease.job)
        if known is not None and known.bundles == lease.bundles:
            return
        self._follow(lease, ray.get_actor(lease.job, namespace=NAMESPACE))
        self._step()
        if self.leases.get(lease.job) is lease:  # its place in the queue is to survive as well
            self._spawn(self._remember(lease.job))

    def _follow(self, lease: Lease, monitor: Any) -> None:
        """Count a lease, for as long as the job's monitor lives."""
        if lease.job not in self._monitors:
            self._monitors[lease.job] = monitor
            self._spawn(self._watch(lease.job))
        self.leases.put(lease)
        self._remembered[lease.job] = asyncio.Event()

    async def _watch(self, job: str) -> None:
        """Wait on a monitor, which never answers; when it dies, its job's lease lapses."""
        alive = True
        while alive:
            try:
                await self._monitors[job].wait_for_ever.options(max_task_retries=0).remote()
            except ActorUnavailableError:  # it restarts, without what it remembered
                await asyncio.sleep(STEP_S)
                await self._remember(job)
            except RayActorError:
                alive = False
        del self._monitors[job]
        self._drop(job)

    async def _remember(self, job: str) -> None:
        """Have a job's monitor remember its lease; only then the job may be told."""
        lease = self.leases.get(job)
        if lease is None:
            return
        with suppress(RayActorError):  # its watch sees that too
            await self._monitors[job].set_lease.remote(lease.to_dict())
            if lease.granted_at is not None and self.leases.get(job) is lease:
                self._remembered[job].set()

    def _drop(self, job: str) -> None:
        self.leases.drop(job)
        self._remembered.pop(job, None)
        self._step()

    def _step(self) -> None:
        """Grant what the cluster holds by now, and have it grow for whoever is left."""
        if not self._recovered.is_set():
            return
        if self.leases.waiting:
            self.leases.nodes = tuple(node["Resources"] for node in ray.nodes() if node["Alive"])
        for lease in self.leases.grant(at=time.time()):
            self._spawn(self._remember(lease.job))
        lacking = self.leases.lacking()
        if lacking != self._requested:  # without an autoscaler nobody reads it
            request_resources(bundles=[dict(bundle) for bundle in lacking])
            self._requested = lacking

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.get_running_loop().create_task(work)
        self._running.add(running)
        running.add_done_callback(self._ended)

    def _ended(self, running: "asyncio.Task[None]") -> None:
        self._running.discard(running)
        if not running.cancelled() and running.exception() is not None:
            log.error("admission failed", exc_info=running.exception())


def admission_actor() -> Any:
    """The cluster's admission actor; created if there is none.

    Raises:
        RayActorError: it ended in that moment.
    """
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(Admission).options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_concurrency=10_000,
        scheduling_strategy="DEFAULT",
        # on the head node it lives as long as the cluster; not every cluster marks one
        resources={HEAD_NODE: 0.001} if HEAD_NODE in ray.cluster_resources() else {},
    )
    try:
        return actor.remote()
    except ValueError as error:  # somebody else's, which was there and is not any more
        raise RayActorError(error_msg=str(error)) from error
