"""fit(): the driver. Checks, starts, follows and ends a run.

    FitConfig -> data, Settings -> run directory -> Ray, Plan -> students -> Result

What can be refused is refused before Ray starts, what needs the cluster's numbers before a
worker does. Whatever ends the driver, `--resume` goes on from what is committed.
"""

import datetime
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from raymd.config import FitConfig, to_yaml
from raymd.data import load_dataset
from raymd.data.splits import Prepared, prepare
from raymd.distillation.schedule import build_schedule
from raymd.distillation.soft_labels import BlockLayout
from raymd.errors import RaymdError, UserError
from raymd.execution.aggregator import start_aggregator
from raymd.execution.collect import collect
from raymd.execution.monitor import start_monitor
from raymd.execution.plan import Plan, make_plan
from raymd.execution.ray_setup import connected
from raymd.execution.shipping import pack
from raymd.execution.student import SegmentOrder
from raymd.execution.students import SCRATCH, StudentThread
from raymd.result import Result
from raymd.settings import Settings, differences, resolve
from raymd.storage import Storage
from raymd.view.lines import Lines
from raymd.view.summary import show_result

POLL_S = 0.5

Show = Callable[[dict[str, Any]], None]


class TrainingError(RaymdError):
    """A student could not go on; the message names it and the remedy."""


class InterruptedRunError(RaymdError):
    """The run was told to stop, and everything is committed."""

    exit_code = 130


@dataclass(frozen=True)
class Run:
    """A run whose directory is there: what every attempt of it needs."""

    name: str
    storage: Storage
    settings: Settings
    data: Prepared
    resumed: bool


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
    console = console or Console(highlight=False)
    run = open_run(config, console)
    finished = _finished(run)
    if finished is not None:
        console.print(f"{run.name} is finished already; its result:")
        show_result(console, finished)
        return finished
    started = time.perf_counter()
    with connected(address=config.address, verbose=config.verbose) as where:
        plan = _plan(config, run)
        console.print(f"cluster: {where}; {_describe(plan)}", soft_wrap=True)
        _train(run, plan, console)
    result = collect(run.storage, run.settings, run.data, seconds=time.perf_counter() - started)
    _tidy(run)
    show_result(console, result)
    return result


# -- before Ray ---------------------------------------------------------------------------


def open_run(config: FitConfig, console: Console) -> Run:
    """Load the data, resolve the settings, and make or find the run directory.

    Raises:
        UserError: what cannot work; see the message.
    """
    base = Storage.at(config.storage)
    base.check_writable()
    name = config.name or (latest_run(base) if config.resume else new_run_name())
    storage = base.sub(name)
    _check_name(config, storage, name)
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
    run = Run(name, storage, settings, data, resumed=config.resume)
    if config.resume:
        _check_same_science(run)
    else:
        _write_identity(run, config)
    console.print(f"run {storage.uri}" + (" (resumed)" if config.resume else ""), soft_wrap=True)
    return run


def new_run_name() -> str:
    """A name that sorts by time: ``20261122-225555-3f2a``."""
    stamp = datetime.datetime.now(tz=datetime.UTC).astimezone().strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{uuid.uuid4().hex[:4]}"


IDENTITY = "run.json"


def latest_run(base: Storage) -> str:
    """Name of the run begun last in a storage.

    Raises:
        UserError: there is none.
    """
    begun = [
        (record["begun"], name)
        for name in base.list()
        if (record := base.record(f"{name}/{IDENTITY}")) is not None
    ]
    if not begun:
        raise UserError(
            f"--resume: no run in {base.uri}; name its --storage, or leave --resume out"
        )
    return max(begun)[1]


def _check_name(config: FitConfig, storage: Storage, name: str) -> None:
    exists = storage.record(IDENTITY) is not None
    if exists and not config.resume:
        raise UserError(
            f"run {name!r} exists in {config.storage}; go on with it (--resume) or choose another "
            "--name"
        )
    if config.resume and not exists:
        raise UserError(
            f"--resume: no run {name!r} in {config.storage}; check --name and --storage, or leave "
            "--resume out"
        )


def _write_identity(run: Run, config: FitConfig) -> None:
    run.storage.write("config.yaml", to_yaml(replace(config, name=run.name)).encode())
    fields = {
        "begun": time.time(),
        "settings": run.settings.to_dict(),
        "fingerprint": run.data.fingerprint,
    }
    run.storage.commit(IDENTITY, fields)


def _check_same_science(run: Run) -> None:
    record = run.storage.record(IDENTITY)
    assert record is not None
    lines = differences(Settings.from_dict(record["settings"]), run.settings)
    if not lines and record["fingerprint"] != run.data.fingerprint:
        lines = [
            f"the data: fingerprint {record['fingerprint']} in the run, "
            f"{run.data.fingerprint} now (--dataset, --data_dir)"
        ]
    if lines:
        raise UserError(
            f"--resume: run {run.name!r} was begun with other settings: {'; '.join(lines)}. "
            "Resume with the run's own, or begin a new run (--name)"
        )


def _finished(run: Run) -> Result | None:
    if not run.storage.exists("result.json"):
        return None
    return Result.from_json(run.storage.read("result.json").to_pybytes().decode())


# -- with Ray -----------------------------------------------------------------------------


def _plan(config: FitConfig, run: Run) -> Plan:
    """The run's plan; what an earlier attempt chose and the weights depend on stays."""
    recorded = run.storage.record("plan.json")
    plan = make_plan(
        [student.id for student in run.settings.students],
        nodes=[node["Resources"] for node in ray.nodes() if node["Alive"]],
        cpus_per_worker=config.cpus_per_worker,
        gpus_per_worker=config.gpus_per_worker,
        threads=recorded["threads"] if recorded else None,
    )
    run.storage.commit("plan.json", plan.to_dict())
    return plan


def _describe(plan: Plan) -> str:
    gpus = f", {plan.gpus_per_worker:g} GPUs" if plan.gpus_per_worker else " (no GPU in sight)"
    return (
        f"{len(plan.students)} students at once, each {plan.cpus_per_worker:g} CPUs, "
        f"{plan.threads} threads{gpus}"
    )


def _train(run: Run, plan: Plan, console: Console) -> None:
    """Run every student to the schedule's end.

    Raises:
        TrainingError: a student failed for good.
        InterruptedRunError: Ctrl-C; all students have committed.
    """
    lines = Lines(console, students=list(plan.students), epochs=run.settings.epochs)
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
            f"stopped, everything is committed; go on with: --resume --name {run.name} and the "
            "same settings"
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


def _orders(run: Run, plan: Plan, monitor: Any, aggregator: Any) -> list[SegmentOrder]:
    settings = run.settings
    schedule = build_schedule(
        method=settings.method,
        epochs=settings.epochs,
        tin=settings.tin,
        td=settings.td,
        lr_drop=settings.lr_drop,
    )
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
    interrupted = False
    while any(thread.is_alive() for thread in threads):
        try:
            _show_events(monitor, show)
            if any(t.record is not None and t.record.ending != "reached" for t in threads):
                ray.get(monitor.stop.remote())
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            console.print("stopping after the step under way (Ctrl-C again: at once) ...")
            ray.get(monitor.stop.remote())
    _show_events(monitor, show, timeout_s=0.0)
    return interrupted


def _show_events(monitor: Any, show: Show, *, timeout_s: float = POLL_S) -> None:
    for event in ray.get(monitor.take.remote(timeout_s)):
        show(event)


# -- after Ray ----------------------------------------------------------------------------


def _tidy(run: Run) -> None:
    """Remove what only an unfinished run needs."""
    run.storage.delete(SCRATCH)
    run.storage.delete("soft_labels")
    for student in run.settings.students:
        run.storage.delete(f"students/{student.id}/checkpoints")
