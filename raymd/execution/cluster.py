"""A run's plan on the cluster that is connected."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from raymd.config import FitConfig
from raymd.execution.opening import Run
from raymd.execution.plan import Plan, check_workers, make_plan
from raymd.result import PLAN

Node = Mapping[str, Any]


def alive_nodes() -> list[Node]:
    """The cluster's nodes, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def plan_of(config: FitConfig, run: Run, nodes: Sequence[Node]) -> Plan:
    """The run's plan; what an earlier attempt chose and the weights depend on stays.

    Raises:
        UserError: The students do not fit; with numbers.
    """
    students = run.settings.students
    workers = {student.id: student.workers_per_student for student in students}
    sizes = {student.id: student.batch_size for student in students}
    check_workers(workers, batch_sizes=sizes, num_samples=len(run.data.train))
    recorded = run.storage.record(PLAN)
    return make_plan(
        workers,
        nodes=[node["Resources"] for node in nodes],
        cpus_per_worker=config.cpus_per_worker,
        gpus_per_worker=config.gpus_per_worker,
        threads=recorded["threads"] if recorded else None,
        device=config.device,
        placement=config.placement,
        slots=config.slots,
    )
