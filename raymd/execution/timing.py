"""Timing a few steps of all students at once, in Ray actors with their workers' resources.

The Ray side of measure.py: what --plan reckons with is what the students will have.
"""

import time
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
from raymd.models.shipped import ShippedModel, adopt_models, shipped_models
from raymd.settings import Settings, StudentConfig

START_TIMEOUT_S = 600.0
FREED_AFTER_S = 5.0  # what a job just ended held is counted as free only then
TIMED_STEPS = 3


@dataclass(frozen=True)
class Measured:
    """What the actors found: by student, the slowest of its workers; node ids of all workers; and
    when all had taken their first step."""

    students: dict[str, StepMeasure]
    node_ids: list[str]
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
    """Time every worker of every student at once.

    Raises:
        UserError: workers do not start or have too little memory.
    """
    _check_free(plan)
    owners, orders = _orders(run, plan)
    remote: Any = ray.remote(TimingWorker)
    options = {
        "num_cpus": plan.cpus_per_worker,
        "num_gpus": plan.gpus_per_worker,
        "scheduling_strategy": "DEFAULT",
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
    return Measured(slowest, node_ids, ready_at)


def _orders(run: Run, plan: Plan) -> tuple[list[str], list[TimingOrder]]:
    """One order for each worker of each student, and the student's id."""
    owners, orders = [], []
    for student in run.settings.students:
        rows = rows_of_step(len(run.data.train), student)
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
    needed = {name: n * plan.num_workers for name, n in plan.worker_resources.items()}
    give_up_at = time.monotonic() + FREED_AFTER_S
    while lacking := _lacking(needed):
        if time.monotonic() > give_up_at:
            raise UserError(
                f"{' and '.join(lacking)} of the cluster are free: other jobs hold the rest. Plan "
                "again when they have ended, or use another cluster (--address)"
            )
        time.sleep(0.2)


def _lacking(needed: Mapping[str, float]) -> list[str]:
    free = ray.available_resources()
    return [
        f"{free.get(name, 0.0):g} of the {amount:g} {name}s needed"
        for name, amount in needed.items()
        if free.get(name, 0.0) + ROUNDING < amount
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
