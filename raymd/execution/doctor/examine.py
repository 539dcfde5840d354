"""The whole examination: a Ray -> facts of every node -> findings.

    examination = examine("runs", address=None, device="auto")

What a node does not answer is a finding; nothing here raises for what it finds.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray

from raymd.execution.compat import asks_token
from raymd.execution.doctor import between
from raymd.execution.doctor.between import Token
from raymd.execution.doctor.checks import CHECKS, judge_all, limit_s
from raymd.execution.doctor.examiner import (
    ANSWER_S,
    START_S,
    Answers,
    ask,
    clocks,
    examiners,
    transfers,
)
from raymd.execution.doctor.finding import (
    CLUSTER,
    Against,
    Failed,
    Finding,
    Judge,
    Node,
    attempted,
    findings_of,
)
from raymd.execution.doctor.software import (
    judge_driver_variables,
    measure_software,
    measure_variables,
    needs,
)
from raymd.execution.doctor.storage_trip import StorageTrip, judge_trip
from raymd.execution.ray_setup import OWN, connected
from raymd.execution.shared_storage import Probe
from raymd.storage import Storage
from raymd.view.text import count_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        where: The Ray that was examined.
        nodes: Names of its living nodes.
        findings: Those of the cluster first, then node by node.
    """

    where: str
    nodes: tuple[str, ...]
    findings: tuple[Finding, ...]


def examine(
    storage: str,
    *,
    address: str | None = None,
    device: str = "auto",
    verbose: bool = False,
    say: Say = lambda _: None,
) -> Examination:
    """Look at every node of a cluster, or at this machine.

    Args:
        storage: Folder or URI where runs would go; one that cannot be used is a finding.
        address: The cluster's; None: ``RAY_ADDRESS``, or a Ray of our own on this machine.
        device: What the user means to train on.
        verbose: Let Ray's own output through.
        say: Takes a line on what is done at the moment.

    Raises:
        UserError: nobody answers at the address, or Ray does not start.
    """
    say("connecting to Ray")
    with connected(address=address, verbose=verbose) as where:
        described = ray.nodes()
        nodes = between.nodes_of(described)
        cluster = _of_cluster(where, nodes, described, device)
        with examiners(nodes) as actors:
            of_nodes = list(_of_nodes(nodes, actors, storage, device, say))
    names = tuple(node.name for node in nodes)
    return Examination(where, names, (*cluster, *of_nodes))


def _of_cluster(
    where: str, nodes: Sequence[Node], described: Sequence[Mapping[str, Any]], device: str
) -> list[Finding]:
    """What is no node's alone."""
    against = Against(Node("", CLUSTER, ""), len(nodes), device=device)
    token = attempted(lambda: Token(asks_token(), is_own=where.startswith(OWN)))
    return [
        Finding(CLUSTER, "Ray", "ok", where),
        *findings_of("resources", nodes, between.judge_resources, against),
        *findings_of("lost nodes", described, between.judge_lost, against),
        *findings_of("driver's variables", measure_variables(), judge_driver_variables, against),
        *findings_of("token", token, between.judge_token, against),
    ]


def _of_nodes(
    nodes: Sequence[Node], actors: Mapping[str, ray.actor.ActorHandle], storage: str,
    device: str, say: Say,
) -> Iterator[Finding]:  # fmt: skip
    """Ask all that answer; findings node by node."""
    say(f"asking {count_of(len(nodes), 'node')} what they have")
    facts = ask(actors, lambda _, actor: actor.measure.remote(slow=False), timeout_s=START_S)
    awake = [node for node in nodes if not isinstance(facts[node.id], Failed)]
    answering = {node.id: actors[node.id] for node in awake}
    _add_slow(facts, answering, say)
    links = _links(awake, answering, storage, say)
    driver, needed = measure_software(), needs()
    for node in nodes:
        against = Against(node, len(nodes), driver, needed, device)
        if isinstance(facts[node.id], Failed):
            yield _silent(node, facts[node.id])
            continue
        yield from judge_all(facts[node.id], against)
        for check, judge, answers in links:
            if node.id in answers:
                yield from findings_of(check, answers[node.id], judge, against)


def _add_slow(facts: Answers, actors: Mapping[str, ray.actor.ActorHandle], say: Say) -> None:
    """Ask for what may hang, and put it to the other facts."""
    say("trying GPUs, where there are any")
    slow = ask(
        actors, lambda _, actor: actor.measure.remote(slow=True), timeout_s=limit_s() + ANSWER_S
    )
    for node, answer in slow.items():
        late = {check.name: answer for check in CHECKS if check.limit_s}
        facts[node] |= late if isinstance(answer, Failed) else answer


def _silent(node: Node, failed: Failed) -> Finding:
    remedy = (
        "is raymd installed there, at the driver's version, and is the node not overloaded? See"
        " raylet.out and python-core-worker-*.log in its Ray's logs"
    )
    return Finding(node.name, "answer", "problem", failed.reason, remedy)


def _links(
    nodes: Sequence[Node], actors: Mapping[str, ray.actor.ActorHandle], storage: str, say: Say
) -> list[tuple[str, Judge, Answers]]:
    """What lies between the nodes that answer: check, how it is judged, facts by node."""
    if not nodes:
        return []
    say("comparing clocks, sending objects round")
    compared = _all_failed(actors, attempted(lambda: clocks(actors)))
    stored, fetched = transfers(nodes, actors)
    say(f"using storage {storage}")
    trips = _all_failed(actors, attempted(lambda: storage_trips(storage, actors)))
    return [
        ("clock", between.judge_clock, compared),
        ("object store", between.judge_store, stored),
        ("network", between.judge_network, fetched),
        ("storage", judge_trip, trips),
    ]


def _all_failed(actors: Mapping[str, Any], answers: Answers | Failed) -> Answers:
    """The answers; where asking itself has failed, that of every node."""
    return dict.fromkeys(actors, answers) if isinstance(answers, Failed) else answers


def storage_trips(uri: str, actors: Mapping[str, ray.actor.ActorHandle]) -> Answers:
    """What each node did with the storage; all is removed again, and folders that were made."""
    probe = attempted(lambda: Probe(Storage.at(uri), uuid.uuid4().hex))
    if isinstance(probe, Failed):
        return dict.fromkeys(actors, StorageTrip(f"the driver cannot use it: {probe.reason}"))
    with probe.storage.left_as_it_was():
        return _trips(probe, actors)


def _trips(probe: Probe, actors: Mapping[str, ray.actor.ActorHandle]) -> Answers:
    written = attempted(lambda: probe.write("driver"))
    if isinstance(written, Failed):
        return dict.fromkeys(
            actors, StorageTrip(f"the driver cannot write there: {written.reason}")
        )
    try:
        trips = ask(
            actors, lambda node, actor: actor.try_storage.remote(probe, node), timeout_s=ANSWER_S
        )
        return {node: _confirmed(probe, node, trip) for node, trip in trips.items()}
    finally:
        with suppress(OSError):  # the trips tell already what is wrong with it
            probe.storage.delete(probe.folder)


def _confirmed(probe: Probe, node: str, trip: StorageTrip | Failed) -> StorageTrip:
    if isinstance(trip, Failed):
        return StorageTrip(trip.reason)
    seen = attempted(lambda: bool(trip.reason) or probe.sees(node))
    if seen is True:
        return trip
    return StorageTrip("what it writes there does not arrive here")
