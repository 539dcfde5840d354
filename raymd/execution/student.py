"""train_loop_per_worker: one segment of one student, inside a Ray Train worker.

It turns Ray's side (references, actors, devices) into what training/ takes, and the outcome
into a small record. It returns records rather than raising wherever a retry would not help.
"""

import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError
from ray.train.torch import get_device
from ray.util import get_current_placement_group

from raymd.config import CheckpointEvery
from raymd.distillation.schedule import Position
from raymd.errors import NonFiniteLossError, RaymdError
from raymd.execution.exchange import RayExchange
from raymd.execution.monitor import FAILURES_AT_ONE_POSITION
from raymd.execution.shipping import unpack
from raymd.models.shipped import ShippedModel, adopt_models
from raymd.result import student_folder
from raymd.settings import Settings, StudentConfig
from raymd.storage import Storage
from raymd.training.checkpoint import committed_positions
from raymd.training.ranks import Ranks
from raymd.training.segment import run_segment
from raymd.training.student import StudentTask
from raymd.view import events

# What the same code on the same data will do again.
NOT_WORTH_A_RETRY = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, TypeError,
    ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class SegmentOrder:
    """What a worker is told to do.

    Attributes:
        student, settings, run: See StudentTask.
        storage: The run's folder.
        data: A list with the reference of the run's Shipment.
        start, stop: The segment.
        threads: Torch's threads; part of what makes weights repeatable.
        device: ``cpu``, ``cuda`` or ``mps``.
        checkpoint_every: When to commit beside the ends of phases.
        models: Networks that the user registered.
        aggregator, monitor: The run's actors.
    """

    student: StudentConfig
    settings: Settings
    run: str
    storage: Storage
    data: list[Any]
    start: Position
    stop: Position
    threads: int
    device: str
    checkpoint_every: CheckpointEvery
    models: list[ShippedModel]
    aggregator: Any
    monitor: Any


@dataclass(frozen=True)
class SegmentRecord:
    """What became of a segment.

    Attributes:
        ending: ``reached``, ``stopped``, or ``failed``.
        position: Where the student stands.
        error: What went wrong, for a person; it names the remedy.
        exit_code: What the command line should end with.
    """

    ending: str
    position: Position
    error: str = ""
    exit_code: int = 0


def newest_position(order: SegmentOrder) -> Position:
    """Where the order's student stands in storage."""
    positions = committed_positions(order.storage, student_folder(order.student.id))
    return positions[-1] if positions else order.start


def train_loop(config: dict[str, SegmentOrder]) -> SegmentRecord:
    """Run the order's segment; TorchTrainer calls this in every worker of the student."""
    order = config["order"]
    torch.set_num_threads(order.threads)
    adopt_models(order.models)
    ranks = Ranks.join()
    position = ranks.from_first(newest_position(order))
    try:
        return _segment(order, ranks, position)
    except Exception:
        if _driver_is_gone(order):
            # Nobody is left to work for, and Ray Train would start the worker again for ever.
            return SegmentRecord("stopped", position)
        raise


def _driver_is_gone(order: SegmentOrder) -> bool:
    try:
        ray.get(order.monitor.lives.remote(order.student.id))
    except RayActorError:
        return True
    return False


def _segment(order: SegmentOrder, ranks: Ranks, position: Position) -> SegmentRecord:
    refusal = ranks.from_first(_begin(order, position) if ranks.is_first else None)
    if refusal is not None:
        return refusal
    stopping = threading.Event()
    threading.Thread(target=_watch, args=(order.monitor, stopping), daemon=True).start()
    try:
        return _run(order, ranks, stopping)
    except NonFiniteLossError as error:  # raised by all workers of the student at the same step
        return SegmentRecord("failed", position, str(error), error.exit_code)
    except RaymdError as error:
        return _give_up(order, ranks, position, error, str(error))
    except NOT_WORTH_A_RETRY as error:
        text = f"{order.student.id}: {_report(order, ranks, error)}"
        return _give_up(order, ranks, position, error, text)
    except Exception as error:
        # Ray Train starts the workers again, from what is committed.
        reason = _report(order, ranks, error)
        ray.get(order.monitor.failed.remote(order.student.id, reason))
        raise


def _begin(order: SegmentOrder, position: Position) -> SegmentRecord | None:
    """Tell the driver of this beginning; a record if there is nothing to begin."""
    student = order.student.id
    given_up = ray.get(order.monitor.given_up.remote(student))
    if given_up is not None:
        return SegmentRecord("failed", position, *given_up)
    if ray.get(order.monitor.is_stopping.remote()):
        return SegmentRecord("stopped", position)
    group = get_current_placement_group()
    starts = ray.get(order.monitor.started.remote(student, tuple(position), group))
    if starts > FAILURES_AT_ONE_POSITION:
        return SegmentRecord("failed", position, _gave_up(order, position), 1)
    lives = ray.get(order.monitor.lives.remote(student))
    if lives > 1:
        _say_restarted(order, position, lives - 1)
    return None


def _give_up(
    order: SegmentOrder, ranks: Ranks, position: Position, error: Exception, reason: str
) -> SegmentRecord:
    """End without a retry, telling why.

    Other workers of the student may be waiting for this one in a collective, which only the end of
    its process frees them from. So it raises, Ray Train ends all of them, and what it starts
    instead finds the reason (_begin).
    """
    exit_code = error.exit_code if isinstance(error, RaymdError) else 1
    if ranks.world_size > 1:
        ray.get(order.monitor.give_up.remote(order.student.id, reason, exit_code))
        raise error
    return SegmentRecord("failed", position, reason, exit_code)


def _report(order: SegmentOrder, ranks: Ranks, error: Exception) -> str:
    """Write the traceback into the run directory; gives back one line that names it."""
    worker = "" if ranks.is_first else f"-worker-{ranks.rank}"
    name = f"{student_folder(order.student.id)}/failure{worker}.txt"
    order.storage.write(name, traceback.format_exc().encode())
    return f"{type(error).__name__}: {error} (traceback: {order.storage.uri}/{name})"


def _run(order: SegmentOrder, ranks: Ranks, stopping: threading.Event) -> SegmentRecord:
    task = StudentTask(
        student=order.student,
        settings=order.settings,
        data=unpack(ray.get(order.data[0])),
        storage=order.storage,
        run=order.run,
        device=get_device() if order.device == "cuda" else torch.device(order.device),
        ranks=ranks,
        checkpoint_every=order.checkpoint_every,
    )

    def emit(event: Mapping[str, Any]) -> None:
        if ranks.is_first:
            order.monitor.push.remote(event)

    exchange = RayExchange(order.aggregator, student=order.student.id, emit=emit)
    result = run_segment(
        task, start=order.start, stop=order.stop, exchange=exchange, emit=emit, stopping=stopping
    )
    return SegmentRecord(result.ending, result.position)


def _watch(monitor: Any, stopping: threading.Event) -> None:
    """Raise this process's flag with the run's; a dead driver stops the student too."""
    try:
        ray.get(monitor.wait_for_stop.remote())
    except RayActorError:
        pass
    finally:
        stopping.set()


def _say_restarted(order: SegmentOrder, position: Position, attempt: int) -> None:
    reason = ray.get(order.monitor.reason.remote(order.student.id)) or "its worker was killed"
    event = events.restarted(
        student=order.student.id,
        epoch=position.epoch,
        step=position.step,
        attempt=attempt,
        reason=reason,
    )
    order.monitor.push.remote(event)


def _gave_up(order: SegmentOrder, position: Position) -> str:
    reason = ray.get(order.monitor.reason.remote(order.student.id)) or (
        "its worker process was killed (out of memory?)"
    )
    return (
        f"{order.student.id} failed {FAILURES_AT_ONE_POSITION} times at epoch "
        f"{position.epoch + 1}, step {position.step + 1}; the last time: {reason.strip()}"
    )
