"""Timing a few steps of students, as many at once as will train at once, in Ray actors with their
workers' resources.

The Ray side of measure.py: what --plan reckons with is what the students will have.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayTaskError

from raymd.errors import RaymdError, UserError
from raymd.execution.measure import StepMeasure, TimedStudent, rows_of_step, sample_of
from raymd.execution.opening import Run
from raymd.execution.plan import (
    ROUNDING,
    Plan,
)
from raymd.execution.shipping import Shipment, pack, unpack
from raymd.execution.worker_environment import worker_environment
from raymd.models.shipped import ShippedModel, adopt_models, shipped_models
from raymd.settings import Settings, StudentConfig

START_TIMEOUT_S = 600.0
FREED_AFTER_S = 5.0  # what a job just ended held is counted as free only then
TIMED_STEPS = 3


@dataclass(frozen=True)
class Measured:
    """What the actors found.

    Attributes:
        students: Of each student its slowest worker, by id.
        workers: The most that a node had at a time, by node id.
        ready_at: When the first workers had all taken a step, on time.perf_counter.
    """

    students: dict[str, StepMeasure]
    workers: dict[str, int]
    ready_at: float


@dataclass(frozen=True)
class TimingOrder:
    """What an actor is told to time; see TimedStudent and Work."""

    student: StudentConfig
    settings: Settings
    data: list[Any]
    rows: int
    threads: int
    device: str
    models: list[ShippedModel] = field(default_factory=list)


class TimingWorker:
    """An actor with one worker's resources."""

    def __init__(self, order: TimingOrder) -> None:
        torch.set_num_threads(order.threads)
        adopt_models(order.models)
        shipment: Shipment = ray.get(order.data[0])
        self.timed = TimedStudent(
            order.student,
            settings=order.settings,
            data=unpack(shipment),
            rows=order.rows,
            device=order.device,
        )

    def warm_up(self) -> str:
        """Be ready to be measured; gives back the node's id."""
        self.timed.warm_up()
        node_id: str = ray.get_runtime_context().get_node_id()
        return node_id

    def measure(self) -> StepMeasure:
        """Take steps while the others do."""
        return self.timed.measure(steps=TIMED_STEPS)


def measure(run: Run, plan: Plan) -> Measured:
    """Time every worker of every student, as many at once as the plan has slots.

    Raises:
        UserError: workers do not start or have too little memory.
    """
    _check_free(plan)
    each = {student: plan.workers_of(student) for student in plan.students}
    found = [_together(run, plan, some) for some in batches(each, slots=plan.slots)]
    students = {student: one.students[student] for one in found for student in one.students}
    nodes = {node for one in found for node in one.workers}
    workers = {node: max(one.workers.get(node, 0) for one in found) for node in nodes}
    return Measured(students, workers, found[0].ready_at)


def batches(workers: Mapping[str, int], *, slots: int) -> list[list[str]]:
    """Students by turns: each goes into the first batch that has room for its workers.

    Args:
        workers: Of each student, by id; none has more than ``slots``.
        slots: Workers of a batch, at most.
    """
    found: list[list[str]] = []
    for student, count in workers.items():
        with_room = (b for b in found if sum(workers[s] for s in b) + count <= slots)
        batch = next(with_room, None)
        if batch is None:
            batch = []
            found.append(batch)
        batch.append(student)
    return found


def _together(run: Run, plan: Plan, students: Sequence[str]) -> Measured:
    """Time all workers of some students at once."""
    owners, orders = _orders(run, plan, students)
    remote: Any = ray.remote(TimingWorker)
    options = {
        "num_cpus": plan.cpus_per_worker,
        "num_gpus": plan.gpus_per_worker,
        "scheduling_strategy": "DEFAULT",
        "runtime_env": {"env_vars": worker_environment()},  # what they train in
    }
    actors = [remote.options(**options).remote(order) for order in orders]
    try:
        with _named_failures(owners):
            calls = [actor.warm_up.remote() for actor in actors]
            node_ids = ray.get(calls, timeout=START_TIMEOUT_S)
            ready_at = time.perf_counter()
            measures = ray.get([actor.measure.remote() for actor in actors])
    finally:
        for actor in actors:
            ray.kill(actor, no_restart=True)
    slowest: dict[str, StepMeasure] = {}
    for owner, measure in zip(owners, measures, strict=True):
        if owner not in slowest or measure.step_s > slowest[owner].step_s:
            slowest[owner] = measure
    return Measured(slowest, dict(Counter(node_ids)), ready_at)


def _orders(run: Run, plan: Plan, students: Sequence[str]) -> tuple[list[str], list[TimingOrder]]:
    """One order for each worker of some students, and the student's id."""
    owners, orders = [], []
    for student in run.settings.students:
        if student.id not in students:
            continue
        rows = rows_of_step(run.settings.samples_of_each(len(run.data.train)), student)
        order = TimingOrder(
            student=student,
            settings=run.settings,
            data=[ray.put(pack(sample_of(run.data, rows=rows)))],
            rows=rows,
            threads=plan.threads,
            device=plan.device,
            models=shipped_models([student.arch]),
        )
        owners += [student.id] * student.workers_per_student
        orders += [order] * student.workers_per_student
    return owners, orders


def _check_free(plan: Plan) -> None:
    """Refuse where other jobs hold what the workers need: they would wait, and so would we."""
    needed = {name: n * plan.slots for name, n in plan.worker_resources.items()}
    give_up_at = time.monotonic() + FREED_AFTER_S
    while lacking := _lacking(needed):
        if time.monotonic() > give_up_at:
            raise UserError(
                f"{' and '.join(lacking)} of the cluster are free: other jobs hold the rest. Plan "
                "again when they have ended, or use another cluster (--address)"
            )
        time.sleep(0.2)


def _lacking(needed: Mapping[str, float]) -> list[str]:
    free, there = ray.available_resources(), ray.cluster_resources()
    return [
        f"{free.get(name, 0.0):g} of the {amount:g} {name}s needed"
        for name, amount in needed.items()
        # what is not there yet, a cluster that can grow will get
        if free.get(name, 0.0) + ROUNDING < min(amount, there.get(name, 0.0))
    ]


@contextmanager
def _named_failures(owners: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RaymdError):
            raise cause from None
        raise
    except GetTimeoutError as error:
        raise UserError(
            f"the {len(owners)} workers did not start within {START_TIMEOUT_S:.0f} s: the cluster "
            "is busy, or its nodes cannot hold them (--cpus_per_worker, --address)"
        ) from error
    except (OutOfMemoryError, RayActorError) as error:
        raise UserError(
            f"a worker of {', '.join(dict.fromkeys(owners))} was killed while it was measured, "
            "most likely for lack of memory; lower --batch_size, or train fewer --students at once"
        ) from error
