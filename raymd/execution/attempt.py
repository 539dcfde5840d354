"""One attempt at a run: a lease, the run's actors, and the slots that train in them.

The run's plan enters, an Outcome leaves. When work of others takes the cluster's place, there is
another attempt; whatever ends one, everything is committed.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray

from raymd.config import FitConfig, parse_checkpoint_every
from raymd.execution.admission import MONITOR_PREFIX
from raymd.execution.admitted import admitted
from raymd.execution.aggregator import start_aggregator, wait_until_up
from raymd.execution.dispatch import Dispatch, Standing
from raymd.execution.drive import Drive, Outcome
from raymd.execution.lateness import Lateness
from raymd.execution.monitor import start_monitor
from raymd.execution.opening import Run
from raymd.execution.pace import Pace, operations
from raymd.execution.plan import Plan
from raymd.execution.shipping import shipment_bytes
from raymd.execution.signals import Interruption
from raymd.execution.standings import standings
from raymd.execution.telling import Telling
from raymd.execution.work import Work
from raymd.models.shipped import shipped_models
from raymd.run_folder import SCRATCH
from raymd.runs import read_history
from raymd.training.student import layout_of


def attempt(
    config: FitConfig,
    run: Run,
    plan: Plan,
    data: Any,
    telling: Telling,
    interruption: Interruption,
) -> Outcome:
    """Hold a lease for all that the plan needs, and run the students in it.

    Args:
        config: What the user asked for.
        run: What was begun.
        plan: Where.
        data: Reference of the run's Shipment.
        telling: Who is told.
        interruption: Of ``interruptible``.

    Returns:
        How it ended; no worker is left.

    Raises:
        AdmissionTimeoutError: other jobs held the cluster for too long.
        KeyboardInterrupt: a second signal came.
    """
    name = f"{MONITOR_PREFIX}{uuid.uuid4().hex[:8]}"
    monitor = start_monitor(name)
    try:
        # Its process starts beside the admission's.
        with (
            _aggregator(run, name) as aggregator,
            admitted(
                plan.bundles,
                run=run.name,
                monitor=monitor,
                monitor_name=name,
                wait_s=config.wait_s,
                tell=telling.announce,
                stopping=lambda: interruption.name is not None,
            ) as granted,
        ):
            if not granted:
                return Outcome("stopped")
            wait_until_up(aggregator)
            work = _work(config, run, plan, data, monitor=monitor, aggregator=aggregator)
            outcome = _drive(config, run, plan, work, telling, interruption).run()
            held = ray.get(aggregator.memory.remote())  # what no event has told of yet
            return replace(outcome, peak_bytes=max(outcome.peak_bytes, held["peak_bytes"]))
    finally:
        ray.kill(monitor, no_restart=True)
        run.storage.delete(SCRATCH)


@contextmanager
def _aggregator(run: Run, monitor: str) -> Iterator[Any]:
    """The run's aggregator while the block runs."""
    method = run.settings.teaching()
    aggregator = start_aggregator(
        run.storage,
        attempt=monitor.removeprefix(MONITOR_PREFIX),
        method=method,
        students=[s.id for s in run.settings.students] if method.students_publish else [],
        frozen=[teacher.id for teacher in run.settings.teachers] if method.exchanges else [],
        num_blocks=layout_of(run.settings, run.data).num_blocks,
        monitor=monitor,
        base_bytes=shipment_bytes(run.data),
    )
    try:
        yield aggregator
    finally:
        ray.kill(aggregator, no_restart=True)


def _work(
    config: FitConfig, run: Run, plan: Plan, data: Any, *, monitor: Any, aggregator: Any
) -> Work:
    return Work(
        settings=run.settings,
        run=run.name,
        storage=run.storage,
        data=[data],
        threads=plan.threads,
        device=plan.device,
        checkpoint_every=parse_checkpoint_every(config.checkpoint_every),
        models=shipped_models(
            [s.arch for s in run.settings.students] + [t.arch for t in run.settings.teachers]
        ),
        aggregator=aggregator,
        monitor=monitor,
    )


def _workers(plan: Plan, standings: Mapping[str, Standing]) -> dict[str, int]:
    """Of each student; frozen teachers publish with as many as the smallest slot has."""
    fewest = min(plan.workers.values())
    return {unit: plan.workers.get(unit, fewest) for unit in standings}


def _drive(
    config: FitConfig,
    run: Run,
    plan: Plan,
    work: Work,
    telling: Telling,
    interruption: Interruption,
) -> Drive:
    schedule, students = run.settings.schedule(), run.settings.students
    now = standings(run)
    sliced = plan.placement == "sliced"
    # resident students all start at once, so nobody goes first
    needed = operations(students, run.data) if sliced else {s.id: 1.0 for s in students}
    needed |= {unit: sum(needed[s.id] for s in of) for unit, of in run.settings.units.items()}
    needed |= {teacher.id: 0.0 for teacher in run.settings.teachers}
    pace = Pace(needed, history=read_history(run.storage))
    return Drive(
        work=work,
        plan=plan,
        dispatch=Dispatch(
            schedule,
            workers=_workers(plan, now),
            standings=now,
            slots=plan.slots,
            sliced=sliced,
            cost=pace.cost,
        ),
        lateness=Lateness(
            schedule,
            standings=now,
            timeout_s=config.barrier_timeout_s,
        ),
        pace=pace,
        show=telling.show,
        interruption=interruption,
        goes_on=config.on_student_loss == "continue",
        least_students=run.settings.teaching().least_students,
    )
