"""fit(): the driver. Checks, starts, follows and ends a run.

    FitConfig -> data, Settings -> run directory -> Ray, Plan -> students -> Result

What can be refused is refused before Ray starts, what needs the cluster's numbers before a
worker does. Whatever ends the driver, `--resume` goes on from what is committed.
"""

import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from rich.console import Console

from raymd.config import FitConfig
from raymd.data import load_dataset
from raymd.data.splits import Prepared, prepare
from raymd.distillation.methods import get_method
from raymd.distillation.soft_labels import BlockLayout
from raymd.errors import RaymdError
from raymd.execution.aggregator import start_aggregator
from raymd.execution.collect import collect
from raymd.execution.monitor import start_monitor
from raymd.execution.plan import Plan, make_plan
from raymd.execution.ray_setup import connected
from raymd.execution.shipping import pack
from raymd.execution.student import SegmentOrder
from raymd.execution.students import SCRATCH, StudentThread
from raymd.result import PLAN, RESULT, Result, checkpoints_folder
from raymd.runs import begin, check_same_science, choose_name
from raymd.settings import Settings, resolve
from raymd.storage import Storage
from raymd.view.lines import Lines
from raymd.view.summary import show_result

POLL_S = 0.5
LOG_COLUMNS = 120
STOP_GRACE_S = 120.0  # a student commits after its step; one that does not is left behind
SLOW_BF16 = (
    "warning: this CPU computes bf16 by emulation, many times slower than fp32 (--precision fp32)"
)

Show = Callable[[dict[str, Any]], None]


class TrainingError(RaymdError):
    """A student could not go on; the message names it and the remedy."""


class InterruptedRunError(RaymdError):
    """The run was told to stop, and everything is committed."""

    exit_code = 130


@dataclass(frozen=True)
class Run:
    """What every attempt of a run needs."""

    name: str
    storage: Storage
    settings: Settings
    data: Prepared


def fit(config: FitConfig, *, console: Console | None = None) -> Result:
    """Train the students of a configuration together.

    Args:
        config: What to train, on what, and where the results go.
        console: Where lines are printed; the terminal by default.

    Returns:
        The result, as result.json in the run directory holds it.

    Raises:
        UserError: something cannot work as given; nothing was started.
        RaymdError: a student failed; what was committed is kept.
        KeyboardInterrupt: interrupted twice.
    """
    console = console or new_console()
    run = open_run(config, console)
    finished = _finished(run)
    if finished is not None:
        console.print(f"{run.name} is finished already; its result:")
        _tidy(run)
        show_result(console, finished)
        return finished
    started = time.perf_counter()
    with connected(address=config.address, verbose=config.verbose) as where:
        plan = _plan(config, run)
        start_run(run, config, plan)
        console.print(f"cluster: {where}; {_describe(plan)}", soft_wrap=True)
        if run.settings.precision == "bf16" and not plan.gpus_per_worker and not cpu_has_bf16():
            console.print(SLOW_BF16, soft_wrap=True)
        _train(run, plan, console)
    result = collect(run.storage, run.settings, run.data, seconds=time.perf_counter() - started)
    _tidy(run)
    show_result(console, result)
    return result


def new_console() -> Console:
    """The terminal, or 120 columns of a log."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=LOG_COLUMNS)


# -- before Ray ---------------------------------------------------------------------------


def open_run(config: FitConfig, console: Console) -> Run:
    """Load the data, resolve the settings, and find a place for the run or the run to go on with.

    Raises:
        UserError: what cannot work; see the message.
    """
    base = Storage.at(config.storage)
    base.check_writable()
    name = choose_name(config, base)
    storage = base.sub(name)
    data_dir = Path(config.data_dir) if config.data_dir is not None else None
    dataset = load_dataset(config.dataset, data_dir=data_dir)
    settings, announcements = resolve(
        config, num_train=len(dataset.train), image_size=dataset.train.images.shape[-1]
    )
    data = prepare(
        dataset, subset=settings.subset, val_fraction=settings.val_fraction, seed=settings.seed
    )
    console.print(
        f"dataset {dataset.name}: {len(data.train):,} to train on, "
        f"{len(data.val) if data.val is not None else 0:,} held out, {len(data.test):,} to test"
    )
    for line in announcements:
        console.print(line, soft_wrap=True)
    if config.resume:
        check_same_science(storage, settings=settings, fingerprint=data.fingerprint)
    console.print(f"run {storage.uri}" + (" (resumed)" if config.resume else ""), soft_wrap=True)
    return Run(name, storage, settings, data)


def _finished(run: Run) -> Result | None:
    if not run.storage.exists(RESULT):
        return None
    return Result.from_json(run.storage.read(RESULT).to_pybytes().decode())


# -- with Ray -----------------------------------------------------------------------------


def _plan(config: FitConfig, run: Run) -> Plan:
    """The run's plan; what an earlier attempt chose and the weights depend on stays."""
    recorded = run.storage.record(PLAN)
    return make_plan(
        [student.id for student in run.settings.students],
        nodes=[node["Resources"] for node in ray.nodes() if node["Alive"]],
        cpus_per_worker=config.cpus_per_worker,
        gpus_per_worker=config.gpus_per_worker,
        threads=recorded["threads"] if recorded else None,
    )


def start_run(run: Run, config: FitConfig, plan: Plan) -> None:
    """Commit what the run is, now that nothing speaks against it, and how it is placed."""
    if not config.resume:
        named = replace(config, name=run.name)
        begin(run.storage, config=named, settings=run.settings, fingerprint=run.data.fingerprint)
    run.storage.commit(PLAN, plan.to_dict())


def _describe(plan: Plan) -> str:
    gpus = f", {plan.gpus_per_worker:g} GPUs" if plan.gpus_per_worker else " (no GPU in sight)"
    return (
        f"{len(plan.students)} students at once, each {plan.cpus_per_worker:g} CPUs, "
        f"{plan.threads} threads{gpus}"
    )


def cpu_has_bf16() -> bool:
    """Whether this machine's processor has instructions for bf16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _train(run: Run, plan: Plan, console: Console) -> None:
    """Run every student to the schedule's end.

    Raises:
        TrainingError: a student failed for good.
        InterruptedRunError: Ctrl-C; all students have committed.
    """
    settings = run.settings
    lines = Lines(
        console,
        students=list(plan.students),
        epochs=settings.epochs,
        tin=settings.tin,
        td=settings.td,
        distils=get_method(settings.method).distils,
    )
    with _actors(run) as (monitor, aggregator):
        threads = [StudentThread(order, plan) for order in _orders(run, plan, monitor, aggregator)]
        for thread in threads:
            thread.start()
        interrupted = _follow(threads, monitor, lines.show, console)
        reason = ray.get(monitor.reason.remote("the aggregator"))
    records = [thread.record for thread in threads]
    failed = [record for record in records if record is not None and record.ending == "failed"]
    if failed:
        error = TrainingError(f"{failed[0].error} (run {run.storage.uri}; --resume goes on)")
        error.exit_code = failed[0].exit_code
        raise error
    if reason is not None:
        raise TrainingError(f"the aggregator failed: {reason} (run {run.storage.uri})")
    if interrupted or any(record is None or record.ending != "reached" for record in records):
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


def _orders(run: Run, plan: Plan, monitor: Any, aggregator: Any) -> list[SegmentOrder]:
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
            aggregator=aggregator,
            monitor=monitor,
        )
        for student in settings.students
    ]


def _follow(threads: Sequence[StudentThread], monitor: Any, show: Show, console: Console) -> bool:
    """Show events until all students have ended; stop all once one failed.

    Returns:
        Whether the run was interrupted (once; a second interrupt is raised).
    """
    interrupted, give_up_at = False, math.inf
    while any(thread.is_alive() for thread in threads) and time.monotonic() < give_up_at:
        try:
            _show_events(monitor, show)
            if any(t.record is not None and t.record.ending != "reached" for t in threads):
                give_up_at = min(give_up_at, time.monotonic() + STOP_GRACE_S)
                ray.get(monitor.stop.remote())
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            console.print("stopping after the step under way (Ctrl-C again: at once) ...")
            give_up_at = min(give_up_at, time.monotonic() + STOP_GRACE_S)
            ray.get(monitor.stop.remote())
    _show_events(monitor, show, timeout_s=0.0)
    return interrupted


def _show_events(monitor: Any, show: Show, *, timeout_s: float = POLL_S) -> None:
    for event in ray.get(monitor.take.remote(timeout_s)):
        show(event)


# -- after Ray ----------------------------------------------------------------------------


def _tidy(run: Run) -> None:
    """Remove what only an unfinished run needs."""
    run.storage.delete("soft_labels")
    for student in run.settings.students:
        run.storage.delete(checkpoints_folder(student.id))
