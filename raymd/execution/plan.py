"""What a run needs against what the cluster has: a plan, or a refusal with numbers.

Pure: node resources enter as numbers. What is chosen here is recorded in plan.json and taken
from there on resume, for the number of threads is part of what makes weights repeatable.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from raymd.errors import UserError

Resources = Mapping[str, float]
ROUNDING = 1e-6


@dataclass(frozen=True)
class Plan:
    """How a run's students are placed.

    Attributes:
        workers: Workers of each student, by its id. A worker lies on one node, a student's
            workers may lie on several.
        cpus_per_worker, gpus_per_worker: What each worker holds; may be fractions.
        threads: Torch's threads in each worker.
        device: ``cpu``, ``cuda`` or ``mps``.
        placement: ``resident``: every student holds its workers through the run.
    """

    workers: dict[str, int]
    cpus_per_worker: float
    gpus_per_worker: float
    threads: int
    device: str = "cpu"
    placement: str = "resident"

    def to_dict(self) -> dict[str, Any]:
        """As plan.json keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, recorded: Mapping[str, Any]) -> Self:
        """The inverse of to_dict; what else plan.json says is left aside.

        Raises:
            UserError: a field is missing, so another raymd wrote it.
        """
        names = [entry.name for entry in fields(cls)]
        missing = [name for name in names if name not in recorded]
        if missing:
            raise UserError(
                f"plan.json of another raymd version: missing {', '.join(missing)}; go on with "
                "that version, or begin a new run (--name)"
            )
        return cls(**{name: recorded[name] for name in names})

    @property
    def students(self) -> tuple[str, ...]:
        """The students' ids."""
        return tuple(self.workers)

    @property
    def num_workers(self) -> int:
        """Workers of all students together."""
        return sum(self.workers.values())

    @property
    def worker_resources(self) -> dict[str, float]:
        """One worker's resources as Ray counts them."""
        return _resources(self.cpus_per_worker, self.gpus_per_worker)


def make_plan(
    workers: Mapping[str, int],
    *,
    nodes: Sequence[Resources],
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    threads: int | None = None,
    device: str = "auto",
) -> Plan:
    """Decide each worker's resources, and see that all workers fit at once.

    Args:
        workers: How many workers each student has, by its id.
        nodes: What each node of the cluster has in all, with keys ``CPU`` and ``GPU``.
        cpus_per_worker: None: the cluster's CPUs over the workers.
        gpus_per_worker: None: one if the device is a GPU, else none.
        threads: What an earlier attempt of the run recorded; None: the worker's whole CPUs.
        device: ``auto``: a GPU if the cluster has any and workers are to hold one, else the CPU.

    Raises:
        UserError: they do not fit, or the device is not there; with what is there, what is
            needed, and what would fit.
    """
    resolved = choose_device(device, nodes=nodes, gpus_per_worker=gpus_per_worker)
    gpus = gpus_per_worker
    if gpus is None:
        gpus = 1.0 if resolved == "cuda" else 0.0
    _check_whole_gpus(workers, gpus)
    cpus = cpus_per_worker or _default_cpus(sum(workers.values()), nodes, gpus)
    plan = Plan(dict(workers), cpus, gpus, threads or max(1, int(cpus)), resolved)
    fitting = num_fitting(plan.worker_resources, nodes)
    if fitting < plan.num_workers:
        raise UserError(_refusal(plan, nodes, fitting, may_leave_gpus=device == "auto"))
    return plan


def choose_device(
    device: str, *, nodes: Sequence[Resources], gpus_per_worker: float | None = None
) -> str:
    """What workers train on: ``cpu``, ``cuda`` or ``mps``.

    Args:
        device: As asked for; ``auto``: see make_plan.
        nodes, gpus_per_worker: As in make_plan.

    Raises:
        UserError: what was asked for is not there, or contradicts the GPUs asked for.
    """
    num_gpus = _total(nodes, "GPU")
    if device == "auto":
        wanted = gpus_per_worker > 0 if gpus_per_worker is not None else num_gpus > 0
        return "cuda" if wanted else "cpu"
    if device == "cuda" and not num_gpus:
        raise UserError(
            f"device cuda: the cluster has {_there(nodes)}; train on CPUs (--device cpu), or join "
            "a cluster with GPUs (--address)"
        )
    if gpus_per_worker is not None and (device == "cuda") != (gpus_per_worker > 0):
        raise UserError(
            f"gpus_per_worker {gpus_per_worker:g} with device {device}: workers hold GPUs to "
            "train on cuda, and for nothing else (--gpus_per_worker, --device)"
        )
    if device == "mps" and len(nodes) != 1:
        raise UserError(
            f"device mps: Apple's GPU serves the workers of one machine, and the cluster has "
            f"{_there(nodes)} (--device cpu, or leave out --address)"
        )
    return device


def check_workers(
    workers: Mapping[str, int], *, batch_sizes: Mapping[str, int], num_samples: int
) -> None:
    """See that no worker's part of any step is empty, which would leave the others waiting.

    Args:
        workers, batch_sizes: Of each student, by its id; a batch is shared by all its workers.
        num_samples: Training images, after subset and hold-out.

    Raises:
        UserError: a step has fewer images than the student has workers.
    """
    for student, count in workers.items():
        batch_size = batch_sizes[student]
        # an epoch's images are spread evenly over its steps
        rows = num_samples // -(-num_samples // batch_size)
        if rows < count:
            raise UserError(
                f"{student}: its {count} workers would share steps of {rows} of {num_samples:,} "
                f"training images, and none may be left without; raise --batch_size (now "
                f"{batch_size}) or --subset, or give it at most {rows} (--workers_per_student)"
            )


def num_fitting(worker: Resources, nodes: Sequence[Resources]) -> int:
    """How many equal workers the nodes hold at once; a worker lies on one node."""
    return sum(fitting_on(worker, node) for node in nodes)


def fitting_on(worker: Resources, node: Resources) -> int:
    """How many equal workers one node holds at once."""
    return min(_parts(name, node.get(name, 0.0), amount) for name, amount in worker.items())


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


def _default_cpus(num_workers: int, nodes: Sequence[Resources], gpus: float) -> float:
    others = {"GPU": gpus} if gpus else {}
    share = largest_share("CPU", num_workers, nodes, others=others)
    # Where GPUs are what is missing, the refusal should not speak of CPUs.
    return share or largest_share("CPU", num_workers, nodes, others={}) or 1.0


def _resources(cpus: float, gpus: float) -> dict[str, float]:
    amounts = {"CPU": cpus, "GPU": gpus}
    return {name: amount for name, amount in amounts.items() if amount > 0}


def _total(nodes: Sequence[Resources], name: str) -> float:
    return sum(node.get(name, 0.0) for node in nodes)


def _there(nodes: Sequence[Resources]) -> str:
    amounts = f"{_total(nodes, 'CPU'):g} CPUs and {_total(nodes, 'GPU'):g} GPUs"
    return f"{amounts} on {len(nodes)} node{'s' if len(nodes) != 1 else ''}"


def _check_whole_gpus(workers: Mapping[str, int], gpus: float) -> None:
    for student, count in workers.items():
        if 0 < gpus < 1 and count > 1:
            raise UserError(
                f"gpus_per_worker {gpus:g} for the {count} workers of {student}: a student's "
                "workers need a GPU each, for NCCL refuses two of them on one "
                "(--gpus_per_worker 1, or --workers_per_student 1)"
            )


def _refusal(plan: Plan, nodes: Sequence[Resources], fitting: int, *, may_leave_gpus: bool) -> str:
    students = "student" if len(plan.students) == 1 else f"{len(plan.students)} students"
    ways = [*_remedies(plan, nodes, fitting, may_leave_gpus=may_leave_gpus)]
    less = f"Ask for less ({', or '.join(ways)}), name" if ways else "Name"
    return (
        f"the cluster cannot hold the {plan.num_workers} workers of {students} at once: each "
        f"needs {plan.cpus_per_worker:g} CPUs and {plan.gpus_per_worker:g} GPUs, "
        f"{_there(nodes)} hold {fitting}. {less} fewer --students, or use a larger cluster "
        "(--address)"
    )


def _remedies(
    plan: Plan, nodes: Sequence[Resources], fitting: int, *, may_leave_gpus: bool
) -> Iterator[str]:
    """Flags with which all students would fit, each by itself."""
    smaller = _smaller_workers(plan, nodes, may_leave_gpus=may_leave_gpus)
    if smaller:
        yield smaller
    counts = range(max(plan.workers.values()) - 1, 0, -1)
    fewer = (n for n in counts if sum(min(n, own) for own in plan.workers.values()) <= fitting)
    most = next(fewer, None)
    if most is not None:
        yield f"--workers_per_student {most}"


def _smaller_workers(plan: Plan, nodes: Sequence[Resources], *, may_leave_gpus: bool) -> str | None:
    """The flag, or both flags, with which as many workers would fit."""
    num_workers = plan.num_workers
    for names in (("CPU",), ("GPU",), ("GPU", "CPU")):
        needs = {n: amount for n, amount in plan.worker_resources.items() if n not in names}
        for name in names:
            share = largest_share(name, num_workers, nodes, others=needs)
            needs |= {name: share} if share else {}
        if "CPU" not in needs or num_fitting(needs, nodes) < num_workers:
            continue
        gpus = needs.get("GPU", 0.0)
        # no part of a GPU for several workers of one student, and no cuda without a GPU
        shared = 0 < gpus < 1 and max(plan.workers.values()) > 1
        if not shared and (gpus or may_leave_gpus or plan.device != "cuda"):
            return " ".join(f"--{n.lower()}s_per_worker {needs.get(n, 0):g}" for n in names)
    return None
