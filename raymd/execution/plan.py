"""What a run needs against what the cluster has: a plan, or a refusal with numbers.

Pure: node resources enter as numbers. What is chosen here is recorded in plan.json and taken
from there on resume, for the number of threads is part of what makes weights repeatable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raymd.errors import UserError

Resources = Mapping[str, float]
ROUNDING = 1e-6


@dataclass(frozen=True)
class Plan:
    """How a run's students are placed.

    Attributes:
        students: Their ids.
        cpus_per_worker, gpus_per_worker: What each student's worker holds; may be fractions.
        threads: Torch's threads in each worker.
        placement: ``resident``: every student holds its worker through the run.
    """

    students: tuple[str, ...]
    cpus_per_worker: float
    gpus_per_worker: float
    threads: int
    placement: str = "resident"

    def to_dict(self) -> dict[str, Any]:
        """As plan.json keeps it."""
        return asdict(self)

    @property
    def worker_resources(self) -> dict[str, float]:
        """One worker's resources as Ray counts them."""
        resources = {"CPU": self.cpus_per_worker, "GPU": self.gpus_per_worker}
        return {name: amount for name, amount in resources.items() if amount > 0}


def make_plan(
    students: Sequence[str],
    *,
    nodes: Sequence[Resources],
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    threads: int | None = None,
) -> Plan:
    """Decide each worker's resources, and see that all students fit at once.

    Args:
        students: Ids of all students; each has one worker.
        nodes: What each node of the cluster has in all, with keys ``CPU`` and ``GPU``.
        cpus_per_worker: None: the cluster's CPUs over the students.
        gpus_per_worker: None: one if the cluster has any, else none.
        threads: What an earlier attempt of the run recorded; None: the worker's whole CPUs.

    Raises:
        UserError: they do not fit; with what is there, what is needed, and what would fit.
    """
    gpus = gpus_per_worker
    if gpus is None:
        gpus = 1.0 if _total(nodes, "GPU") > 0 else 0.0
    cpus = cpus_per_worker
    if cpus is None:
        cpus = _default_cpus(len(students), nodes, gpus)
    plan = Plan(tuple(students), cpus, gpus, threads or max(1, int(cpus)))
    fitting = num_fitting(plan.worker_resources, nodes)
    if fitting < len(students):
        raise UserError(_refusal(plan, nodes, fitting))
    return plan


def num_fitting(worker: Resources, nodes: Sequence[Resources]) -> int:
    """How many equal workers the nodes hold at once; a worker lies on one node."""
    return sum(
        min(int(node.get(name, 0.0) / amount + ROUNDING) for name, amount in worker.items())
        for node in nodes
    )


def _default_cpus(num_students: int, nodes: Sequence[Resources], gpus: float) -> float:
    """The largest equal share of CPUs with which all students fit, whole from 1 upwards."""
    share = min(_total(nodes, "CPU") / num_students, max(node.get("CPU", 0.0) for node in nodes))
    if share < 1:
        # Rounded down, or the last worker would lack a ten-thousandth.
        return max(int(share * 10_000) / 10_000, 0.0001)
    for cpus in range(int(share), 1, -1):
        needs = {"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})
        if num_fitting(needs, nodes) >= num_students:
            return float(cpus)
    return 1.0


def _total(nodes: Sequence[Resources], name: str) -> float:
    return sum(node.get(name, 0.0) for node in nodes)


def _refusal(plan: Plan, nodes: Sequence[Resources], fitting: int) -> str:
    num_students = len(plan.students)
    there = f"{_total(nodes, 'CPU'):g} CPUs and {_total(nodes, 'GPU'):g} GPUs on {len(nodes)} node"
    return (
        f"the cluster cannot hold all {num_students} students at once: each needs "
        f"{plan.cpus_per_worker:g} CPUs and {plan.gpus_per_worker:g} GPUs, "
        f"{there}{'s' if len(nodes) != 1 else ''} hold {fitting}. "
        f"Ask for less ({_remedy(plan, nodes)}), name fewer --students, or use a larger cluster "
        "(--address)"
    )


def _remedy(plan: Plan, nodes: Sequence[Resources]) -> str:
    flags = []
    for name, amount in plan.worker_resources.items():
        share = _total(nodes, name) / len(plan.students)
        if share < amount:
            fraction = int(share * 100) / 100
            flags.append(f"--{name.lower()}s_per_worker {fraction:g}")
    return " ".join(flags) or "--cpus_per_worker 1"
