"""One size of the growth benchmark, in a fresh process (see fresh.py): a cluster of raylets."""

import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymd.distillation.soft_labels import BlockLayout
from raymd.execution.aggregator import TASKS_IN_FLIGHT
from raymd.execution.ray_setup import OWN_RAY
from raymd.storage import Storage
from tests.bench import gate
from tests.bench.exchange_sides import SHARED
from tests.bench.fresh import answer
from tests.bench.synthetic import DTYPE, Publisher, start, wait_warm


@dataclass(frozen=True)
class SmallBlocks(BlockLayout):
    """Smaller blocks than raymd's, so that a size that fits in here has many.

    Attributes:
        block_bytes: Of rows.
    """

    block_bytes: int = 2**20

    @property
    def rows_per_block(self) -> int:
        """Rows of every block but the last."""
        return max(1, self.block_bytes // (DTYPE.itemsize * self.num_classes))


class Host:
    """A node's process, which plays several students, one after the other."""

    def __init__(self, students: Sequence[str], layout: BlockLayout, storage: Storage) -> None:
        self.players = [Publisher(student, layout, storage, held_blocks=1) for student in students]

    def publish(self, aggregator: Any, cycle: int) -> None:
        """All of them, for a cycle."""
        for player in self.players:
            player.publish(aggregator, cycle)

    def ping(self) -> None:
        """Be up."""


def start_cluster(nodes: int, store_bytes: int) -> Cluster:
    """Several raylets on this machine, of one CPU each."""
    head = {
        "num_cpus": 1, "object_store_memory": store_bytes, "_system_config": OWN_RAY,
        "include_dashboard": False,
    }  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=1, object_store_memory=store_bytes)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    cluster.wait_for_nodes()
    return cluster


def grow(
    *,
    students: int,
    rows: int,
    classes: int,
    nodes: int,
    repeats: int,
    store_gb: float,
    block_mb: float,
) -> dict[str, Any]:
    """Cycles of one size, by turns merged and with empty tasks in place of merging.

    Returns:
        Lists, a value each cycle: ``merge_s`` and ``empty_s`` from the moment that all blocks are
        delivered to the teacher's completion, ``cpu_s`` of the aggregator; ``most_in_flight``.
    """
    layout = SmallBlocks(rows, classes, block_bytes=int(block_mb * 2**20))
    place = SHARED / f"raymd-bench-growth-{uuid.uuid4().hex[:8]}"
    storage = Storage.at(place)
    ids = [f"student-{number:03d}" for number in range(students)]
    cluster = start_cluster(nodes, int(store_gb * 2**30 / nodes))
    try:
        on_node = [
            NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes()
        ]
        actor: Any = ray.remote(num_cpus=0)(Host)
        hosts = [
            actor.options(scheduling_strategy=place_).remote(ids[at::nodes], layout, storage)
            for at, place_ in enumerate(on_node)
        ]
        ray.get([host.ping.remote() for host in hosts])
        _monitor, aggregator = start(storage, ids, layout.num_blocks)
        ray.get([wait_warm.options(scheduling_strategy=n).remote() for n in on_node * 2])
        figures: dict[str, list[float]] = {"merge_s": [], "empty_s": [], "cpu_s": []}
        most = 0
        _cycle(aggregator, hosts, 0, empty=False)  # what it warms is not measured
        for cycle in range(1, 2 * repeats + 1):
            empty = cycle % 2 == 0
            seconds, cpu_s, inside = _cycle(aggregator, hosts, cycle, empty=empty)
            figures["empty_s" if empty else "merge_s"].append(seconds)
            if not empty:
                figures["cpu_s"].append(cpu_s)
            most = max(most, inside)
        return {
            **figures, "most_in_flight": most, "blocks": layout.num_blocks,
            "bytes": rows * classes * DTYPE.itemsize * students, "students": students,
        }  # fmt: skip
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(place, ignore_errors=True)


def _cycle(
    aggregator: Any, hosts: Sequence[Any], cycle: int, *, empty: bool
) -> tuple[float, float, int]:
    """Seconds from all blocks delivered to completion, the aggregator's CPU seconds of the whole
    cycle, and the most tasks that were in flight."""
    call = aggregator.__ray_call__.remote
    ray.get(call(gate.close(TASKS_IN_FLIGHT, empty=empty)))
    before = ray.get(call(gate.cpu_seconds))
    ray.get([host.publish.remote(aggregator, cycle) for host in hosts])
    ray.get(call(gate.open_gate))
    while (seen := ray.get(call(gate.seen))) is None:
        time.sleep(0.05)
    seconds, most = seen
    return seconds, ray.get(call(gate.cpu_seconds)) - before, most


if __name__ == "__main__":
    answer({"grow": grow})
