"""fit(): the driver. Checks, starts, follows and ends a run.

    FitConfig -> Run (opening.py) -> Ray, Plan -> students -> Result

What can be refused is refused before Ray starts, what needs the cluster's numbers before a
worker does. Whatever ends the driver, `--resume` goes on from what is committed.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import ray
import torch
from rich.console import Console

from raymd.config import FitConfig, parse_checkpoint_every
from raymd.distillation.soft_labels import BlockLayout
from raymd.errors import RaymdError
from raymd.execution.aggregator import start_aggregator
from raymd.execution.cluster import alive_nodes, plan_of
from raymd.execution.collect import collect
from raymd.execution.following import follow, interruptible
from raymd.execution.monitor import start_monitor
from raymd.execution.opening import Run, open_run
from raymd.execution.plan import Plan
from raymd.execution.ray_setup import connected
from raymd.execution.shipping import pack
from raymd.execution.student import SegmentOrder
from raymd.execution.students import StudentThread
from raymd.execution.telling import OnEvent, Telling
from raymd.models.shipped import shipped_models
from raymd.result import ENDED, PLAN, SCRATCH, Result, checkpoints_folder
from raymd.runs import IDENTITY, begin
from raymd.view.text import count_of

SLOW_BF16 = (
    "warning: this CPU computes bf16 by emulation, many times slower than fp32 (--precision fp32)"
)


class TrainingError(RaymdError):
    """A student could not go on; the message names it and the remedy."""


class InterruptedRunError(RaymdError):
    """The run was told to stop, and everything is committed."""

    exit_code = 130


def fit(
    config: FitConfig, *, console: Console | None = None, on_event: OnEvent | None = None
) -> Result:
    """Train the students of a configuration together.

    Args:
        config: What to train, on what, and where the results go.
        console: Where people read; the terminal by default.
        on_event: Takes every event of the run (docs/events.md), in the driver's thread. If it
            raises it is told of and called no more; the run goes on.

    Returns:
        The result, as result.json in the run directory holds it.

    Raises:
        UserError: something cannot work as given; nothing was started.
        InterruptedRunError: Ctrl-C or SIGTERM; everything is committed.
        RaymdError: a student failed; what was committed is kept.
        KeyboardInterrupt: interrupted twice.
    """
    telling = Telling(config, console=console, on_event=on_event)
    run = open_run(config, telling.announce)
    result = run.result
    if result is not None:
        telling.announce(f"{run.name} is finished already; its result:")
        _tidy(run)
    else:
        result = _train(config, run, telling)
    telling.finish(run, result)
    return result


def _train(config: FitConfig, run: Run, telling: Telling) -> Result:
    started = time.perf_counter()
    with connected(address=config.address, verbose=config.verbose) as where:
        plan = plan_of(config, run, alive_nodes())
        telling.announce(f"cluster: {where}; {_describe(plan)}")
        if _slow_bf16(run, plan):
            telling.announce(SLOW_BF16)
        try:
            telling.begin(run)  # first, for it may refuse
            start_run(run, config, plan)
            _run_students(config, run, plan, telling)
            result = collect(
                run.storage, run.settings, run.data, seconds=time.perf_counter() - started
            )
        except BaseException:
            telling.close()
            mark_ended(run)
            raise
    _tidy(run)
    return result


def mark_ended(run: Run) -> None:
    """Leave a mark in a run that was stopped or failed, so that nobody takes it for going on.

    A run that was never begun gets none, and a mark that cannot be written (the disk is full, say)
    must not hide what ended the run.
    """
    if run.storage.record(IDENTITY) is not None:
        with suppress(OSError):
            run.storage.write(ENDED, b"")


def start_run(run: Run, config: FitConfig, plan: Plan) -> None:
    """Commit what the run is, now that nothing speaks against it, and how it is placed."""
    if not run.resumed:
        named = replace(config.with_absolute_paths(), name=run.name)
        begin(run.storage, config=named, settings=run.settings, fingerprint=run.data.fingerprint)
    run.storage.commit(PLAN, plan.to_dict())
    run.storage.delete(ENDED)


def _describe(plan: Plan) -> str:
    if plan.gpus_per_worker:
        device = f", {plan.gpus_per_worker:g} GPUs"
    else:
        device = ", Apple's GPU" if plan.device == "mps" else " (no GPU in sight)"
    some = {student: n for student, n in plan.workers.items() if n > 1}
    workers = "".join(f"; {student} on {n} workers" for student, n in some.items())
    each = "each worker" if some else "each"
    cpus = "1 CPU" if plan.cpus_per_worker == 1 else f"{plan.cpus_per_worker:g} CPUs"
    return (
        f"{count_of(len(plan.students), 'student')} at once, {each} {cpus},"
        f" {count_of(plan.threads, 'thread')}{device}{workers}"
    )


def _slow_bf16(run: Run, plan: Plan) -> bool:
    wanted = any(student.precision == "bf16" for student in run.settings.students)
    return wanted and plan.device == "cpu" and not cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Whether this machine's processor has instructions for bf16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _run_students(config: FitConfig, run: Run, plan: Plan, telling: Telling) -> None:
    """Run every student to the schedule's end.

    Raises:
        TrainingError: a student failed for good.
        InterruptedRunError: a signal came; all students have committed.
    """
    with interruptible() as interruption, _actors(run) as (monitor, aggregator):
        orders = _orders(config, run, plan, monitor, aggregator)
        threads = [StudentThread(order, plan) for order in orders]
        for thread in threads:
            thread.start()
        try:
            follow(threads, monitor, telling.show, interruption)
        finally:
            for thread in threads:
                thread.abandon()
        reason = ray.get(monitor.reason.remote("the aggregator"))
    _check_ending(run, threads, reason)


def _check_ending(run: Run, threads: list[StudentThread], reason: str | None) -> None:
    records = [thread.record for thread in threads]
    failed = [record for record in records if record is not None and record.ending == "failed"]
    if failed:
        error = TrainingError(f"{failed[0].error} (run {run.storage.uri}; --resume goes on)")
        error.exit_code = failed[0].exit_code
        raise error
    if reason is not None:
        raise TrainingError(f"the aggregator failed: {reason} (run {run.storage.uri})")
    # a signal in the last moment of a run that reached its end changes nothing
    if any(record is None or record.ending != "reached" for record in records):
        raise InterruptedRunError(
            f"stopped, and everything is committed in {run.storage.uri}; "
            f"--resume --name {run.name} goes on"
        )


@contextmanager
def _actors(run: Run) -> Iterator[tuple[Any, Any]]:
    """The run's monitor and aggregator while the block runs; both are ended after it."""
    attempt = uuid.uuid4().hex[:8]
    layout = BlockLayout(len(run.data.train), len(run.data.classes))
    monitor = start_monitor(f"monitor-{attempt}")
    aggregator = start_aggregator(
        run.storage,
        attempt=attempt,
        method=run.settings.method,
        students=[student.id for student in run.settings.students],
        num_blocks=layout.num_blocks,
        monitor=f"monitor-{attempt}",
    )
    try:
        yield monitor, aggregator
    finally:
        ray.kill(aggregator, no_restart=True)
        ray.kill(monitor, no_restart=True)
        run.storage.delete(SCRATCH)


def _orders(
    config: FitConfig, run: Run, plan: Plan, monitor: Any, aggregator: Any
) -> list[SegmentOrder]:
    settings = run.settings
    schedule = settings.schedule()
    data = ray.put(pack(run.data))
    return [
        SegmentOrder(
            student=student,
            settings=settings,
            run=run.name,
            storage=run.storage,
            data=[data],
            start=schedule.start,
            stop=schedule.end,
            threads=plan.threads,
            device=plan.device,
            checkpoint_every=parse_checkpoint_every(config.checkpoint_every),
            models=shipped_models([student.arch]),
            aggregator=aggregator,
            monitor=monitor,
        )
        for student in settings.students
    ]


def _tidy(run: Run) -> None:
    """Remove what only an unfinished run needs."""
    run.storage.delete("soft_labels")
    for student in run.settings.students:
        run.storage.delete(checkpoints_folder(student.id))
