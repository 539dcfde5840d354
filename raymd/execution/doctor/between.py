"""What lies between nodes: clocks, the network, host names, nodes that are gone, Ray's token.

Enters: what examiner.py has measured, or Ray tells. Leaves: verdicts.
"""

import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from raymd.execution.compat import UNEXPECTED
from raymd.execution.doctor.finding import Against, Failed, Node, Verdict
from raymd.view.text import count_of, duration, num_bytes

# object stores refuse requests 15 minutes off, and certificates have a begin
SKEW_S, GREAT_SKEW_S = 1.0, 300.0
SLOW_NETWORK, SLOW_STORE = 60e6, 200e6  # bytes/s: less than a network of 1 Gbit/s has


@dataclass(frozen=True)
class Clock:
    """A node's clock against the driver's.

    Attributes:
        ahead_s: How much later it is there.
        within_s: How far off that may be: half of the time that the question took.
    """

    ahead_s: float
    within_s: float


def clock_of(asked: float, there: float, answered: float) -> Clock:
    """A node's clock, as NTP has it.

    Args:
        asked, answered: When the driver asked, and had the answer, by its own clock.
        there: What the node's clock said meanwhile.
    """
    return Clock(there - (asked + answered) / 2, (answered - asked) / 2)


def judge_clock(clock: Clock, _: Against) -> list[Verdict]:
    """Whether times of this node and the driver's go together."""
    off = abs(clock.ahead_s)
    if off <= SKEW_S + clock.within_s:
        return [Verdict("ok", f"as the driver's, within {clock.within_s + off:.2g} s")]
    way = "ahead of" if clock.ahead_s > 0 else "behind"
    return [
        Verdict(
            "problem" if off > GREAT_SKEW_S else "warning",
            f"{duration(off)} {way} the driver's",
            "have all nodes keep time (chrony, ntpd or systemd-timesyncd): object stores and TLS"
            " refuse clocks that are minutes off, and logs cannot be compared",
        )
    ]


@dataclass(frozen=True)
class Transfer:
    """Bytes that went somewhere: how many, how long that took, and where they came from."""

    num_bytes: int
    seconds: float
    source: str = ""

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.num_bytes / max(self.seconds, 1e-9)

    @property
    def text(self) -> str:
        """``67.1 MB in 0.051 s (1.3 GB/s)``."""
        size, rate = num_bytes(self.num_bytes), num_bytes(round(self.rate))
        return f"{size} in {self.seconds:.2g} s ({rate}/s)"


def judge_store(put: Transfer, _: Against) -> list[Verdict]:
    """How fast a process of the node puts an object."""
    if put.rate >= SLOW_STORE:
        return [Verdict("ok", f"{put.text} put")]
    remedy = "if the machine is not just busy: is the store on disk? See shared memory"
    return [Verdict("warning", f"{put.text} put: slow", remedy)]


def judge_network(fetched: Transfer | Failed, _: Against) -> list[Verdict]:
    """How an object came from the node before, from one store to the other."""
    if isinstance(fetched, Failed):
        return [Verdict("problem", fetched.reason, _PORTS)]
    found = f"{fetched.text} from {fetched.source}"
    if fetched.rate >= SLOW_NETWORK:
        return [Verdict("ok", found)]
    remedy = "soft labels of all students cross it in each cycle: take a faster network, nodes of"
    remedy += " one zone, --soft_labels top_k:K, or fewer nodes"
    return [Verdict("warning", f"{found}: slow", remedy)]


_PORTS = (
    "open all TCP ports between the nodes (security group, firewall), or fix them: ray start"
    " --node-manager-port, --object-manager-port, --min-worker-port, --max-worker-port"
)


@dataclass(frozen=True)
class OwnName:
    """What a node's host name means on the node itself.

    Attributes:
        address: None if it means nothing there.
        interface: GLOO_SOCKET_IFNAME, which stands above it.
    """

    name: str
    address: str | None
    interface: str | None = None


def measure_own_name() -> OwnName:
    """Look the node's own name up, there."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = None
    return OwnName(name, address, os.environ.get("GLOO_SOCKET_IFNAME"))


def judge_own_name(own: OwnName, against: Against) -> list[Verdict]:
    """Whether a student's workers on several nodes would find each other without NCCL."""
    if own.address is None:
        found, is_bad = f"{own.name} cannot be looked up", True
    else:
        found = f"{own.name} is {own.address}"
        is_bad = ipaddress.ip_address(own.address).is_loopback
    if not is_bad or against.nodes == 1 or own.interface:
        return [Verdict("ok", found)]
    remedy = (
        f"workers of one student on several nodes meet at that address when CPUs train: have"
        f" {own.name} mean {against.node.address} in /etc/hosts, or set GLOO_SOCKET_IFNAME to the"
        " network's interface before ray start"
    )
    return [Verdict("warning", found, remedy)]


# -- the cluster as a whole ---------------------------------------------------------------


def nodes_of(described: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The living nodes, with names of their own; those that share one get a part of their id."""
    alive = [one for one in described if one["Alive"]]
    names = [f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']})" for one in alive]
    return [
        Node(
            id=one["NodeID"],
            name=name if names.count(name) == 1 else f"{name} {one['NodeID'][:6]}",
            address=one["NodeManagerAddress"],
            cpus=one["Resources"].get("CPU", 0),
            gpus=one["Resources"].get("GPU", 0),
            store_bytes=int(one["Resources"].get("object_store_memory", 0)),
        )
        for one, name in zip(alive, names, strict=True)
    ]


def judge_lost(described: Sequence[Mapping[str, Any]], _: Against) -> list[Verdict]:
    """Nodes that the cluster has lost without their being told to go."""
    lost = [one for one in described if not one["Alive"] and one.get("DeathReason") == UNEXPECTED]
    if not lost:
        return [Verdict("ok", "none")]
    last = lost[-1]
    name = f"{last['NodeManagerHostname']} ({last['NodeManagerAddress']})"
    said = f": {last['DeathReasonMessage']}" if last.get("DeathReasonMessage") else ""
    found = f"{count_of(len(lost), 'node')} lost so far, the last was {name}{said}"
    remedy = "a run goes on without them; spot instances go like that, else see the node's own logs"
    return [Verdict("note", found, remedy)]


def judge_resources(nodes: Sequence[Node], against: Against) -> list[Verdict]:
    """Whether there is what the user means to train on."""
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    if gpus or against.device != "cuda":
        found = f"{count_of(len(nodes), 'node')}, {cpus:g} CPUs and {gpus:g} GPUs that Ray counts"
        return [Verdict("ok", found)]
    remedy = "add nodes with GPUs, start Ray where they are to be seen, or --device cpu"
    return [Verdict("problem", "Ray counts no GPU on any node", remedy)]


class Token(NamedTuple):
    """Whether a Ray asks for a token (None: not known), and whether it is one of our own."""

    is_asked: bool | None
    is_own: bool


def judge_token(token: Token, _: Against) -> list[Verdict]:
    """Whether the cluster lets in whoever reaches its ports."""
    if token.is_asked is None:
        return [Verdict("note", "this Ray does not say whether it asks for one")]
    if token.is_asked:
        return [Verdict("ok", "asked for (RAY_AUTH_MODE=token)")]
    found = "not asked for: whoever reaches Ray's ports runs programs on it"
    if token.is_own:
        return [Verdict("note", found, "`ray get-auth-token --generate` once")]
    remedy = "start Ray with RAY_AUTH_MODE=token and the same token on all nodes, and keep its"
    remedy += " ports from other machines"
    return [Verdict("warning", found, remedy)]
