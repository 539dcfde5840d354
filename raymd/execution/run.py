"""fit(): the driver. Checks, starts, follows and ends a run.

    FitConfig -> Run (opening.py) -> Ray, Plan -> students -> Result

What can be refused is refused before Ray starts, what needs the cluster's numbers before a
worker does. Whatever ends the driver, `--resume` goes on from what is committed.
"""

import platform
import time
from contextlib import suppress
from dataclasses import replace

import ray
import torch
from rich.console import Console

from raymd.config import FitConfig
from raymd.errors import RaymdError, StorageError, UserError
from raymd.execution.attempt import attempt
from raymd.execution.cluster import alive_nodes, plan_of
from raymd.execution.collect import collect
from raymd.execution.drive import DivergedError, TrainingError
from raymd.execution.opening import Run, open_run
from raymd.execution.plan import Plan
from raymd.execution.ray_setup import connected
from raymd.execution.shared_storage import check_shared
from raymd.execution.shipping import pack
from raymd.execution.signals import Interruption, interruptible
from raymd.execution.telling import OnEvent, Telling
from raymd.result import Result
from raymd.run_folder import ENDED, PLAN, checkpoints_folder
from raymd.runs import IDENTITY, begin
from raymd.storage import Storage
from raymd.training.frozen import keep_frozen
from raymd.view.text import count_of

SLOW_BF16 = "warning: this CPU computes bf16 by emulation, slower than fp32 (--precision fp32)"
X86 = ("x86_64", "amd64")


DISPLACED = (
    "work of others took the cluster's place: all students have committed and left, and ask for it"
    " again"
)


class InterruptedRunError(RaymdError):
    """The run was told to stop, and everything is committed."""

    exit_code = 130


def fit(
    config: FitConfig,
    *,
    console: Console | None = None,
    on_event: OnEvent | None = None,
    interruption: Interruption | None = None,
) -> Result:
    """Train the students of a configuration together.

    Args:
        config: What to train, on what, and where the results go.
        console: Where people read; the terminal by default.
        on_event: Takes every event of the run (docs/events.md), in the driver's thread. If it
            raises it is told of and called no more; the run goes on.
        interruption: What a program stops the run by from another thread; signals stay whoever's
            they are then.

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
        telling.finish(run, result)
        return result
    return _train(config, run, telling, interruption)


def _train(
    config: FitConfig, run: Run, telling: Telling, interruption: Interruption | None
) -> Result:
    started = time.perf_counter()
    with connected(address=config.address, verbose=config.verbose) as where:
        nodes = alive_nodes()
        plan = plan_of(config, run, nodes, announce=telling.announce)
        telling.announce(f"cluster: {where}; {_describe(plan, config)}")
        check_shared(Storage.at(config.storage), nodes)
        if _slow_bf16(run, plan):
            telling.announce(SLOW_BF16)
        try:
            telling.begin(run, plan)  # first, for it may refuse
            start_run(run, config, plan)
            peak_bytes = _run_students(config, run, plan, telling, interruption)
            result = collect(
                run.storage,
                run.settings,
                run.data,
                seconds=time.perf_counter() - started,
                object_store_peak_bytes=peak_bytes,
            )
        except BaseException:
            telling.close()
            mark_ended(run)
            raise
        try:
            telling.finish(run, result)  # while there is a Ray to tell, whose metrics show the end
        finally:
            _tidy(run)  # though nobody may be there any more to read the result (| head)
    return result


def mark_ended(run: Run) -> None:
    """Leave a mark in a run that was stopped or failed, so that nobody takes it for going on.

    A run that was never begun gets none, and a mark that cannot be written (the disk is full, say)
    must not hide what ended the run.
    """
    with suppress(OSError, StorageError):
        if run.storage.record(IDENTITY) is not None:
            run.storage.write(ENDED, b"")


def start_run(run: Run, config: FitConfig, plan: Plan) -> None:
    """Commit what the run is, now that nothing speaks against it, and how it is placed."""
    if not run.resumed:
        named = replace(config.with_absolute_paths(), name=run.name)
        begin(run.storage, config=named, settings=run.settings, fingerprint=run.data.fingerprint)
    keep_frozen(run.storage, run.settings, run.data)
    run.storage.commit(PLAN, plan.to_dict())
    run.storage.delete(ENDED)


def _describe(plan: Plan, config: FitConfig) -> str:
    if plan.gpus_per_worker:
        device = f", {plan.gpus_per_worker:g} GPUs"
    else:
        device = ", Apple's GPU" if plan.device == "mps" else " (no GPU in sight)"
    some = {student: n for student, n in plan.workers.items() if n > 1}
    workers = "".join(f"; {student} on {n} workers" for student, n in some.items())
    each = "each worker" if some else "each"
    cpus = "1 CPU" if plan.cpus_per_worker == 1 else f"{plan.cpus_per_worker:g} CPUs"
    return (
        f"{count_of(len(plan.students), 'student')} {_turns(plan, config)}, {each} {cpus},"
        f" {count_of(plan.threads, 'thread')}{device}{workers}"
    )


def _turns(plan: Plan, config: FitConfig) -> str:
    """How many at a time, and why."""
    if len(plan.workers) < len(plan.students):
        return "in step on the same workers"
    if plan.placement == "resident":
        return "at once"
    asked = config.placement == "sliced" or plan.slots == config.slots
    why = "as asked" if asked else "more do not fit"
    return (
        f"in turns, {count_of(plan.slots, 'worker')} of {plan.num_workers} at a time"
        f" ({why}; --placement, --slots)"
    )


def _slow_bf16(run: Run, plan: Plan) -> bool:
    wanted = any(student.precision == "bf16" for student in run.settings.students)
    return wanted and plan.device == "cpu" and not cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Whether this machine's processor has instructions for bf16."""
    if platform.machine().lower() in X86:
        # oneDNN, asked below, says yes to any AVX-512, and emulates.
        has_avx512: bool = torch.cpu._is_avx512_bf16_supported()
        has_amx: bool = torch.cpu._is_amx_tile_supported()
        return has_avx512 or has_amx
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _run_students(
    config: FitConfig,
    run: Run,
    plan: Plan,
    telling: Telling,
    interruption: Interruption | None,
) -> int:
    """Run every student to the schedule's end, in as many attempts as it takes.

    Returns:
        The most bytes that the run has held in the object store.

    Raises:
        TrainingError: a student failed for good.
        InterruptedRunError: a signal came, or ``interruption``; all students have committed.
        AdmissionTimeoutError: other jobs held the cluster for too long.
    """
    data = ray.put(pack(run.data))
    with interruptible(interruption) as stopped_by:
        outcome = attempt(config, run, plan, data, telling, stopped_by)
        while outcome.ending == "displaced":
            telling.announce(DISPLACED)
            plan = _plan_again(config, run, plan, telling)
            before = outcome.peak_bytes
            outcome = attempt(config, run, plan, data, telling, stopped_by)
            outcome = replace(outcome, peak_bytes=max(before, outcome.peak_bytes))
    if outcome.ending == "failed":
        error = TrainingError(f"{outcome.error} (run {run.storage.uri}; --resume goes on)")
        if outcome.diverged:
            error = DivergedError(*error.args)
        error.exit_code = outcome.exit_code
        raise error
    if outcome.ending == "stopped":
        committed = "everything" if not outcome.left else f"all but the last of {outcome.left}"
        raise InterruptedRunError(
            f"stopped, and {committed} is committed in {run.storage.uri}; "
            f"--resume --name {run.name} goes on"
        )
    return outcome.peak_bytes


def _plan_again(config: FitConfig, run: Run, before: Plan, telling: Telling) -> Plan:
    """The plan on the cluster as it is now; nodes may have come or gone.

    The device stays, for a run that began on GPUs is not to end on CPUs because a node was lost.
    What does not fit any more waits as it was, and its lease says what is missing.
    """
    config = FitConfig(**{**vars(config), "device": before.device})
    try:
        plan = plan_of(config, run, alive_nodes(), announce=telling.announce)
    except UserError:
        plan = before
    if plan != before:
        telling.announce(f"placed anew: {_describe(plan, config)}")
        run.storage.commit(PLAN, plan.to_dict())
    return plan


def _tidy(run: Run) -> None:
    """Remove what only an unfinished run needs."""
    run.storage.delete("soft_labels")
    for student in run.settings.students:
        run.storage.delete(checkpoints_folder(student.id))
