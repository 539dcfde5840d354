"""One small actor a node, which measures there; everything it is asked has a time limit.

Ray's nodes -> Examiners -> answers by node, or Failed
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymd.execution.doctor.between import Clock, Transfer, clock_of
from raymd.execution.doctor.checks import measure_all
from raymd.execution.doctor.finding import Failed, Node, one_line
from raymd.execution.doctor.storage_trip import StorageTrip, make_trip
from raymd.execution.shared_storage import Probe

START_S = 45.0  # a loaded node takes its time to start a worker
ANSWER_S = 30.0
CLOCK_S = 10.0
CLOCK_ROUNDS = 3
OBJECT_BYTES = 64 * 2**20
SHARE_OF_STORE = 4

Answers = dict[str, Any]


class Examiner:
    """Lives on one node and measures there."""

    def measure(self, *, slow: bool) -> Answers:
        """Facts by check."""
        return measure_all(slow=slow)

    def now(self) -> float:
        """This node's clock, in seconds since 1970."""
        return time.time()

    def put(self, num_bytes: int) -> tuple[Transfer, list[Any]]:
        """Put an object into this node's store; gives its reference in a list, so that nobody
        fetches it unasked."""
        data = np.ones(num_bytes, dtype=np.uint8)
        started = time.perf_counter()
        reference = ray.put(data)
        return Transfer(num_bytes, time.perf_counter() - started), [reference]

    def fetch(self, reference: list[Any], source: str) -> Transfer:
        """Have another node's object come into this node's store."""
        started = time.perf_counter()
        data = ray.get(reference[0], timeout=ANSWER_S)
        return Transfer(data.nbytes, time.perf_counter() - started, source)

    def try_storage(self, probe: Probe, node: str) -> StorageTrip:
        """Use the storage as a run would."""
        return make_trip(probe, node)


_Examiner = ray.remote(num_cpus=0, max_restarts=0)(Examiner)


@contextmanager
def examiners(nodes: Sequence[Node]) -> Iterator[dict[str, Any]]:
    """An examiner by node's id; they end with the block."""
    actors: dict[str, Any] = {
        node.id: _Examiner.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote()
        for node in nodes
    }
    try:
        yield actors
    finally:
        for actor in actors.values():
            ray.kill(actor)


def answers(calls: Mapping[str, Any], *, timeout_s: float) -> Answers:
    """What each node answers to a call.

    Args:
        calls: References by node, all made at the same time.
        timeout_s: How long to wait for all of them.

    Returns:
        By node the answer, or Failed.
    """
    done, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=timeout_s)
    late = Failed(f"no answer within {timeout_s:g} s")
    return {node: _answer(call) if call in done else late for node, call in calls.items()}


def _answer(call: Any) -> Any:
    try:
        return ray.get(call)
    except (RayError, OSError) as error:
        return Failed(one_line(error))


def ask(actors: Mapping[str, Any], call: Callable[[str, Any], Any], *, timeout_s: float) -> Answers:
    """Call all examiners at the same time; ``call`` takes a node's id and its examiner."""
    if not actors:
        return {}
    return answers({node: call(node, actors[node]) for node in actors}, timeout_s=timeout_s)


def clocks(actors: Mapping[str, Any]) -> Answers:
    """Each node's clock against the driver's, or Failed: the best of a few rounds."""
    return {node: _clock(actor) for node, actor in actors.items()}


def _clock(actor: Any) -> Clock | Failed:
    rounds = []
    for _ in range(CLOCK_ROUNDS):
        asked = time.time()
        there = answers({"": actor.now.remote()}, timeout_s=CLOCK_S)[""]
        if isinstance(there, Failed):
            return there
        rounds.append(clock_of(asked, there, time.time()))
    return min(rounds, key=lambda clock: clock.within_s)


def transfers(nodes: Sequence[Node], actors: Mapping[str, Any]) -> tuple[Answers, Answers]:
    """Objects put on each node, then fetched by the next one, round in a ring: all at once, since
    each node sends once and receives once, however many there are.

    Returns:
        By node: how it put its own, and how it fetched that of the node before; or Failed.
    """
    size = min(OBJECT_BYTES, min(node.store_bytes for node in nodes) // SHARE_OF_STORE)
    put = ask(actors, lambda _, actor: actor.put.remote(size), timeout_s=ANSWER_S)
    held = [node for node in nodes if not isinstance(put[node.id], Failed)]
    stored = {node: one if isinstance(one, Failed) else one[0] for node, one in put.items()}
    return stored, _fetched(held, actors, {node.id: put[node.id][1] for node in held})


def _fetched(
    nodes: Sequence[Node], actors: Mapping[str, Any], held: Mapping[str, list[Any]]
) -> Answers:
    """By node how it fetched what the one before it holds; nothing where it is alone."""
    if len(nodes) < 2:
        return {}
    before = {node.id: nodes[place - 1] for place, node in enumerate(nodes)}
    got = ask(
        {node: actors[node] for node in before},
        lambda node, actor: actor.fetch.remote(held[before[node].id], before[node].name),
        timeout_s=ANSWER_S + CLOCK_S,
    )
    return {
        node: Failed(f"nothing came from {before[node].name}: {one.reason}")
        if isinstance(one, Failed)
        else one
        for node, one in got.items()
    }
