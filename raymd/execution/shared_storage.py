"""Whether all nodes of a cluster see the same storage; asked before a run is begun.

The driver commits a probe file, a small task on each other node that could hold a worker reads it
and answers with a file of its own, which the driver reads. On one node nothing has to be asked.
"""

import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymd.errors import UserError
from raymd.runs import IDENTITY
from raymd.storage import Storage

ANSWER_S = 120.0  # a loaded node takes its time to start a worker
REMEDY = "give all nodes the same folder: a shared mount, or --storage s3://…"


@dataclass(frozen=True)
class Probe:
    """A question left in a storage: the driver's record, and where each node answers.

    Attributes:
        storage: The storage asked about.
        token: What the records say; a name nobody else uses.
    """

    storage: Storage
    token: str

    @property
    def folder(self) -> str:
        return f".probe-{self.token}"

    def write(self, writer: str) -> None:
        self.storage.commit(f"{self.folder}/{writer}.json", {"token": self.token})

    def sees(self, writer: str) -> bool:
        record = self.storage.record(f"{self.folder}/{writer}.json")
        return record is not None and record["token"] == self.token


def answer(probe: Probe, node: str) -> str | None:
    """Task: read what the driver wrote and write an answer beside it; what went wrong, if so.

    Where the driver's file is not to be seen nothing is written.
    """
    try:
        if not probe.sees("driver"):
            return "it sees another folder there, or none"
        probe.write(node)
    except OSError as error:
        return str(error)
    return None


_answer = ray.remote(num_cpus=0, max_retries=0)(answer)


def check_shared(
    storage: Storage, nodes: Sequence[Mapping[str, Any]], *, timeout_s: float = ANSWER_S
) -> None:
    """Refuse a storage that some node does not share with the driver.

    Args:
        storage: Where runs go. The probe is removed; the folder itself stays if it was made.
        nodes: The cluster's living nodes, as Ray describes them.
        timeout_s: How long a node may take to answer.

    Raises:
        UserError: naming node, folder and remedy.
    """
    here = ray.get_runtime_context().get_node_id()
    asked = {node["NodeID"]: node for node in nodes if node["NodeID"] != here and _can_work(node)}
    if not asked:
        return
    probe = Probe(storage, uuid.uuid4().hex)
    try:
        probe.write("driver")
        answers = _answers(probe, asked, timeout_s)
        reasons = {node: reason for node, reason in answers.items() if reason is not None}
    finally:
        storage.delete(probe.folder)
    if reasons:
        raise UserError(_refusal(storage, asked, reasons))


def _can_work(node: Mapping[str, Any]) -> bool:
    return any(node["Resources"].get(kind, 0) > 0 for kind in ("CPU", "GPU"))


def _answers(
    probe: Probe, asked: Mapping[str, Mapping[str, Any]], timeout_s: float
) -> dict[str, str | None]:
    """By node: None if all is well, or what is not."""
    calls = {
        node: _answer.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(probe, node)
        for node in asked
    }
    answered, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=timeout_s)
    reasons: dict[str, str | None] = {}
    for node, call in calls.items():
        if call in answered:
            reasons[node] = _reason(probe, node, call)
        else:
            reasons[node] = f"no answer within {timeout_s:g} s"
            ray.cancel(call, force=True)
    return reasons


def _reason(probe: Probe, node: str, call: Any) -> str | None:
    try:
        reason: str | None = ray.get(call)
    except RayError as error:
        if not _is_alive(node):
            return None  # it left in between, and will hold no worker
        return str(error).strip().rpartition("\n")[2] or type(error).__name__  # no raymd, say
    if reason is None and not probe.sees(node):
        return "what it writes there does not arrive here"
    return reason


def _is_alive(node: str) -> bool:
    return any(other["NodeID"] == node and other["Alive"] for other in ray.nodes())


def _refusal(
    storage: Storage, asked: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, str]
) -> str:
    first, reason = next(iter(reasons.items()))
    name = f"{asked[first]['NodeManagerHostname']} ({asked[first]['NodeManagerAddress']})"
    others = f" (and {len(reasons) - 1} more nodes)" if len(reasons) > 1 else ""
    return (
        f"storage {storage.uri!r} (--storage) is not shared with node {name}{others}: {reason}; "
        f"{REMEDY}"
    )


def check_begun(storage: Storage) -> None:
    """Refuse to work where a run is not to be seen: a node that joined later has other storage.

    Args:
        storage: The run's folder; the driver has begun the run.

    Raises:
        UserError: naming this node, the folder and the remedy.
    """
    if storage.record(IDENTITY) is None:
        raise UserError(
            f"run {storage.uri!r} (--storage) is not to be seen from node "
            f"{socket.gethostname()}, which joined later or lost its mount; {REMEDY}"
        )
