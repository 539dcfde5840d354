"""Several Ray nodes on this machine, in a process of their own, so that drivers can be killed.

    with several_hosts(1, 1, 1) as hosts:
        ray.init(address=hosts.address)
        hosts.kill(hosts.nodes[1])

The process holds a ``ray.cluster_utils.Cluster`` and is told what to do in lines of JSON.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import ray

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from tests.execution.conftest import descendants, wait_until

STORE_BYTES = 100 * 2**20
SHUTDOWN_S = 120.0


@dataclass
class Hosts:
    """The cluster's handle.

    Attributes:
        process: It holds the cluster; all nodes are below it.
        address: For ``--address`` and ``ray.init``.
        nodes: Raylets by node id, in the order they joined; the head comes first.
    """

    process: subprocess.Popen[str]
    address: str = ""
    nodes: dict[str, int] = field(default_factory=dict)

    def add(self, *, num_cpus: float) -> str:
        """A node joins; gives back its id."""
        reply = self._ask({"add": num_cpus})
        self.nodes[reply["node"]] = reply["raylet"]
        return reply["node"]

    def kill(self, node: str) -> None:
        """SIGKILL a node's raylet, as if the machine had lost its power."""
        below = descendants(self.nodes.pop(node))
        self._ask({"kill": node})
        for process in below:  # a machine's processes go with it
            kill(process)

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.reply()

    def reply(self) -> dict[str, Any]:
        """The process's next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the cluster's process ended with {self.process.poll()}"
        return json.loads(line)


def kill(process: psutil.Process) -> None:
    """SIGKILL, if it is still there."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


@contextmanager
def several_hosts(*num_cpus: float) -> Iterator[Hosts]:
    """A cluster with a node for each number of CPUs; the first is its head."""
    folder = tempfile.mkdtemp(prefix="hosts-", dir="/tmp")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.execution.hosts"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(Path(folder) / "err").open("wb"),
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "RAY_TMPDIR": folder},
    )
    hosts = Hosts(process)
    try:
        for cpus in num_cpus:
            hosts.add(num_cpus=cpus)
        hosts.address = hosts._ask({"address": None})["address"]
        yield hosts
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[str]) -> None:
    """Shut the cluster down; whatever outlives it is killed."""
    left = descendants(process.pid) if process.poll() is None else []
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(SHUTDOWN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in left:
        kill(one)
    psutil.wait_procs(left, timeout=60)


@contextmanager
def node_with_other_storage(hosts: Hosts, folder: Path, *, num_cpus: float = 1) -> Iterator[None]:
    """A node of the cluster on which a folder is another, empty one (needs root, Linux)."""
    known = {node["NodeID"] for node in ray.nodes()}
    ray_command = Path(sys.executable).parent / "ray"
    join = f"{ray_command} start --block --address {hosts.address} --num-cpus {num_cpus:g}"
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none '{folder}' && exec {join}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(
            lambda: {node["NodeID"] for node in ray.nodes() if node["Alive"]} - known, "a node"
        )
        yield
    finally:
        left = descendants(process.pid)
        process.terminate()
        process.wait(SHUTDOWN_S)
        for one in left:
            kill(one)


def serve(orders: TextIO, replies: TextIO) -> None:
    """The process's body: hold a cluster until there are no more orders."""
    from ray.cluster_utils import Cluster

    for number in (signal.SIGINT, signal.SIGTERM):  # whoever gave the orders ends them
        signal.signal(number, lambda *_: None)  # SIG_IGN would be handed down to the nodes
    cluster = Cluster()
    nodes: dict[str, Any] = {}
    for line in orders:
        order = json.loads(line)
        reply: dict[str, Any] = {}
        if "add" in order:
            node = cluster.add_node(
                num_cpus=order["add"], object_store_memory=STORE_BYTES, include_dashboard=False
            )
            nodes[node.node_id] = node
            reply = {"node": node.node_id, "raylet": _raylet(node).pid}
        elif "kill" in order:
            raylet = _raylet(nodes.pop(order["kill"]))
            raylet.kill()
            raylet.wait()
        else:
            reply = {"address": cluster.address}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    cluster.shutdown()


def _raylet(node: Any) -> Any:
    return node.all_processes["raylet"][0].process


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Ray prints is no answer
    serve(sys.stdin, answers)
