"""What a run needs against what the cluster has: a plan, or a refusal with numbers.

Pure: node resources enter as numbers. What is chosen here is recorded in plan.json and taken
from there on resume, for the number of threads is part of what makes weights repeatable.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raymd.errors import UserError
from raymd.student_options import members_of

Resources = Mapping[str, float]
ROUNDING = 1e-6


@dataclass(frozen=True)
class Plan:
    """How a run's students are placed.

    Attributes:
        workers: Workers of each student, by its id, or of students that are trained together, by
            their common name (student_options.unit_of). A worker lies on one node, a student's
            workers may lie on several.
        cpus_per_worker, gpus_per_worker: What each worker holds; may be fractions.
        threads: Torch's threads in each worker.
        device: ``cpu``, ``cuda`` or ``mps``.
        placement: ``resident``: every student holds its workers through the run; ``sliced``:
            students take turns.
        slots: Workers at a time, of all students together: what the run holds of the cluster.
    """

    workers: dict[str, int]
    cpus_per_worker: float
    gpus_per_worker: float
    threads: int
    device: str = "cpu"
    placement: str = "resident"
    slots: int = 0

    def __post_init__(self) -> None:
        if not self.slots:
            object.__setattr__(self, "slots", self.num_workers)

    def to_dict(self) -> dict[str, Any]:
        """As plan.json keeps it."""
        return asdict(self)

    @property
    def students(self) -> tuple[str, ...]:
        """The students' ids."""
        return tuple(student for unit in self.workers for student in members_of(unit))

    def workers_of(self, student: str) -> int:
        """How many workers train a student, alone or together with others."""
        return next(n for unit, n in self.workers.items() if student in members_of(unit))

    @property
    def num_workers(self) -> int:
        """Workers of all students together."""
        return sum(self.workers.values())

    @property
    def worker_resources(self) -> dict[str, float]:
        """One worker's resources as Ray counts them."""
        return _resources(self.cpus_per_worker, self.gpus_per_worker)

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What the run holds of the cluster; each lies on one node."""
        return [self.worker_resources] * self.slots


def make_plan(
    workers: Mapping[str, int],
    *,
    nodes: Sequence[Resources],
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    threads: int | None = None,
    device: str = "auto",
    placement: str = "auto",
    slots: int | None = None,
) -> Plan:
    """Decide each worker's resources and how many workers there are at a time.

    Args:
        workers: How many workers each student has, by its id.
        nodes: What each node of the cluster has in all, with keys ``CPU`` and ``GPU``.
        cpus_per_worker: None: the cluster's CPUs over the workers that fit at a time.
        gpus_per_worker: None: one if the device is a GPU, else none.
        threads: What an earlier attempt of the run recorded; None: the worker's whole CPUs.
        device: ``auto``: a GPU if the cluster has any and workers are to hold one, else the CPU.
        placement: ``auto``: resident if all workers fit at once, each with a CPU of its own where
            CPUs train; else sliced.
        slots: The most workers at a time; None: as many as fit.

    Raises:
        UserError: they do not fit, or the device is not there; with what is there, what is
            needed, and what would fit.
    """
    resolved = choose_device(device, nodes=nodes, gpus_per_worker=gpus_per_worker)
    gpus = gpus_per_worker
    if gpus is None:
        gpus = 1.0 if resolved == "cuda" else 0.0
    _check_whole_gpus(workers, gpus)
    needed = at_once = sum(workers.values())
    if placement != "resident":
        least = cpus_per_worker or (0.0 if resolved == "cuda" else 1.0)
        fitting = num_fitting(_resources(least, gpus), nodes)
        at_once = min(needed, max(fitting, max(workers.values())))
    # Not the larger for fewer slots: threads, and with them weights, are those of any placement.
    cpus = cpus_per_worker or _default_cpus(at_once, nodes, gpus)
    at_once = min(at_once, slots or at_once)
    if placement == "auto":
        placement = "resident" if at_once == needed else "sliced"
    plan = Plan(
        dict(workers), cpus, gpus, threads or max(1, int(cpus)), resolved, placement, at_once
    )
    fitting = num_fitting(plan.worker_resources, nodes)
    if fitting < plan.slots:
        raise UserError(_refusal(plan, nodes, fitting, may_leave_gpus=device == "auto"))
    return plan


def check_slots(workers: Mapping[str, int], *, slots: int | None, placement: str) -> None:
    """See that a number of slots holds the widest student, and all of them if resident.

    Raises:
        UserError: it does not.
    """
    if slots is None:
        return
    widest = max(workers, key=lambda student: workers[student])
    if slots < workers[widest]:
        raise UserError(
            f"slots {slots}: the {workers[widest]} workers of {widest} run at the same time, so"
            f" takes {workers[widest]} or more (--slots, --workers_per_student)"
        )
    needed = sum(workers.values())
    if placement == "resident" and slots < needed:
        raise UserError(
            f"slots {slots} with placement resident: all {needed} workers run at the same time"
            " (--placement sliced, or leave out --slots)"
        )


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
    less = [*_remedies(plan, nodes, fitting, may_leave_gpus=may_leave_gpus)]
    if plan.placement == "resident":
        students = "student" if len(plan.students) == 1 else f"{len(plan.students)} students"
        whose = f"workers of {students}"
    else:  # no other student has to fit beside the widest
        widest = max(plan.workers, key=lambda unit: plan.workers[unit])
        whose = f"worker{'s' if plan.slots > 1 else ''} of {widest}"
    may_take_turns = plan.placement == "resident" and max(plan.workers.values()) <= fitting
    ways = ["let them take turns (--placement sliced)"] if may_take_turns else []
    ways += [f"ask for less ({', or '.join(less)})"] if less else []
    ways += ["name fewer --students"] if plan.placement == "resident" else []
    out = ", ".join([*ways, f"{'or ' if ways else ''}use a larger cluster (--address)"])
    return (
        f"the cluster cannot hold the {plan.slots} {whose} at once: each needs "
        f"{plan.cpus_per_worker:g} CPUs and {plan.gpus_per_worker:g} GPUs, "
        f"{_there(nodes)} hold {fitting}. {out[0].upper()}{out[1:]}"
    )


def _remedies(
    plan: Plan, nodes: Sequence[Resources], fitting: int, *, may_leave_gpus: bool
) -> Iterator[str]:
    """Flags with which the workers would fit, each by itself."""
    smaller = _smaller_workers(plan, nodes, may_leave_gpus=may_leave_gpus)
    if smaller:
        yield smaller
    counts = range(max(plan.workers.values()) - 1, 0, -1)
    at_once = sum if plan.placement == "resident" else max
    fewer = (n for n in counts if at_once(min(n, own) for own in plan.workers.values()) <= fitting)
    most = next(fewer, None)
    if most is not None:
        yield f"--workers_per_student {most}"


def _smaller_workers(plan: Plan, nodes: Sequence[Resources], *, may_leave_gpus: bool) -> str | None:
    """The flag, or both flags, with which as many workers would fit."""
    for names in (("CPU",), ("GPU",), ("GPU", "CPU")):
        needs = {n: amount for n, amount in plan.worker_resources.items() if n not in names}
        for name in names:
            share = largest_share(name, plan.slots, nodes, others=needs)
            needs |= {name: share} if share else {}
        if "CPU" not in needs or num_fitting(needs, nodes) < plan.slots:
            continue
        gpus = needs.get("GPU", 0.0)
        # no part of a GPU for several workers of one student, and no cuda without a GPU
        shared = 0 < gpus < 1 and max(plan.workers.values()) > 1
        if not shared and (gpus or may_leave_gpus or plan.device != "cuda"):
            return " ".join(f"--{n.lower()}s_per_worker {needs.get(n, 0):g}" for n in names)
    return None
