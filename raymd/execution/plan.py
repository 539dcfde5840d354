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
    cpus = cpus_per_worker or _default_cpus(len(students), nodes, gpus)
    plan = Plan(tuple(students), cpus, gpus, threads or max(1, int(cpus)))
    fitting = num_fitting(plan.worker_resources, nodes)
    if fitting < len(students):
        raise UserError(_refusal(plan, nodes, fitting))
    return plan


def num_fitting(worker: Resources, nodes: Sequence[Resources]) -> int:
    """How many equal workers the nodes hold at once; a worker lies on one node."""
    return sum(
        min(_parts(name, node.get(name, 0.0), amount) for name, amount in worker.items())
        for node in nodes
    )


def _parts(name: str, available: float, amount: float) -> int:
    if name != "GPU" or amount >= 1:
        return int(available / amount + ROUNDING)
    # A part of a GPU is a part of one GPU: two of them hold two workers of 0.8, or of 0.6.
    whole = int(available)
    return whole * int(1 / amount + ROUNDING) + int((available - whole) / amount + ROUNDING)


def largest_share(
    name: str, num_workers: int, nodes: Sequence[Resources], *, others: Resources
) -> float | None:
    """The most of a resource that each worker can have so that all fit, or None if they cannot.

    Args:
        name: ``CPU`` or ``GPU``; its amount is whole from 1 upwards.
        num_workers: How many equal workers there are.
        nodes: As in make_plan.
        others: What each worker needs beside it.
    """
    wholes = {1.0, *(node.get(name, 0.0) for node in nodes)}
    shares = {_rounded_down(w / parts) for w in wholes for parts in range(1, num_workers + 1)}
    fitting = (
        share
        for share in sorted(shares - {0.0}, reverse=True)
        if num_fitting({**others, name: share}, nodes) >= num_workers
    )
    return next(fitting, None)


def _rounded_down(amount: float) -> float:
    # Ray counts ten-thousandths; rounded up, the last worker would lack one.
    return float(int(amount)) if amount >= 1 else int(amount * 10_000) / 10_000


def _default_cpus(num_students: int, nodes: Sequence[Resources], gpus: float) -> float:
    others = {"GPU": gpus} if gpus else {}
    share = largest_share("CPU", num_students, nodes, others=others)
    # Where GPUs are what is missing, the refusal should not speak of CPUs.
    return share or largest_share("CPU", num_students, nodes, others={}) or 1.0


def _total(nodes: Sequence[Resources], name: str) -> float:
    return sum(node.get(name, 0.0) for node in nodes)


def _refusal(plan: Plan, nodes: Sequence[Resources], fitting: int) -> str:
    num_students = len(plan.students)
    there = f"{_total(nodes, 'CPU'):g} CPUs and {_total(nodes, 'GPU'):g} GPUs on {len(nodes)} node"
    remedy = _remedy(plan, nodes)
    return (
        f"the cluster cannot hold all {num_students} students at once: each needs "
        f"{plan.cpus_per_worker:g} CPUs and {plan.gpus_per_worker:g} GPUs, "
        f"{there}{'s' if len(nodes) != 1 else ''} hold {fitting}. "
        f"{f'Ask for less ({remedy}), name' if remedy else 'Name'} fewer --students, or use a "
        "larger cluster (--address)"
    )


def _remedy(plan: Plan, nodes: Sequence[Resources]) -> str:
    """The flag, or both flags, with which all students would fit."""
    num_students = len(plan.students)
    for names in (("CPU",), ("GPU",), ("GPU", "CPU")):
        needs = {n: amount for n, amount in plan.worker_resources.items() if n not in names}
        for name in names:
            share = largest_share(name, num_students, nodes, others=needs)
            needs |= {name: share} if share else {}
        if "CPU" in needs and num_fitting(needs, nodes) >= num_students:
            return " ".join(f"--{n.lower()}s_per_worker {needs.get(n, 0):g}" for n in names)
    return ""
