"""run_segment: the one loop of the product. Restore, train, publish, distil, commit.

First start, resume after a kill, leaving at a barrier and coming back are the same call with
other arguments: a segment begins at whatever is committed and ends at ``stop``. Between
barriers a student needs nobody, so segments of different students may run in any order.
"""

import threading
import time
from dataclasses import dataclass
from typing import Literal

import torch

from raymd.data.loader import EpochLoader
from raymd.distillation.schedule import Epoch, Position
from raymd.distillation.soft_labels import TeacherRows
from raymd.exchange.folder import Exchange
from raymd.training.checkpoint import commit_checkpoint, weights_of
from raymd.training.evaluate import count_correct
from raymd.training.finish import finish
from raymd.training.progress import Progress
from raymd.training.publish import publish
from raymd.training.restore import restore
from raymd.training.step import epoch_record, train_epoch
from raymd.training.student import Best, Emit, StudentState, StudentTask, Sums
from raymd.training.teachers import Teachers
from raymd.view import events

Ending = Literal["reached", "stopped"]


@dataclass(frozen=True)
class SegmentResult:
    """How a segment ended: at its ``stop``, or before it because it was told to."""

    ending: Ending
    position: Position


def run_segment(
    task: StudentTask,
    *,
    start: Position,
    stop: Position,
    exchange: Exchange,
    emit: Emit,
    stopping: threading.Event,
) -> SegmentResult:
    """Train one student from its newest commit to ``stop``.

    Reaching a barrier, a student publishes at once, and waits for the teacher only when it goes
    on; so a segment that ends at a barrier leaves behind all that the others need.

    Args:
        task: The student.
        start: A position the caller knows to be committed.
        stop: Where to end; ``schedule.end`` also writes the student's final files.
        exchange: The way to the other students.
        emit: Takes events, for people to see; nothing depends on them.
        stopping: Once set, the segment commits after the step under way and returns.

    Returns:
        Where it ended. Everything up to there is committed.

    Raises:
        NonFiniteLossError: training diverged.
        StorageError: committed files are damaged, and nothing intact leads on.
        StorageWriteError: the disk is full or read-only; what was committed is intact.
    """
    schedule = task.schedule
    state = restore(task, start=start)
    emit(_started(task, state))
    for text in state.notes:
        emit(events.note(text=text))
    if state.best is None and state.position.epoch > 0 and state.position.step == 0:
        _evaluate(task, state, schedule.epochs[state.position.epoch - 1])  # the best were lost
    loader = task.loader()
    teachers = Teachers(task, exchange, stopping, emit)
    while True:
        barrier = schedule.barrier_at(state.position)
        if barrier is not None:
            commit_checkpoint(task, state)
            publish(task, state, barrier, exchange=exchange, emit=emit)
        if state.position >= stop or task.ranks.any(stopping.is_set())[0]:
            break
        epoch = schedule.epochs[state.position.epoch]
        teacher, stopped = teachers.for_epoch(epoch)
        if stopped or not _run_epoch(task, state, epoch, loader, teacher, emit, stopping):
            break
    commit_checkpoint(task, state)
    epoch_index, step = state.position
    if state.position < stop:
        emit(events.stopped(student=task.student.id, epoch=epoch_index, step=step))
    elif state.position == schedule.end and task.ranks.is_first:
        finish(task, state)
        emit(events.finished(student=task.student.id))
    return SegmentResult("reached" if state.position >= stop else "stopped", state.position)


def _run_epoch(
    task: StudentTask,
    state: StudentState,
    epoch: Epoch,
    loader: EpochLoader,
    teacher: TeacherRows | None,
    emit: Emit,
    stopping: threading.Event,
) -> bool:
    """Train to the epoch's end, evaluate, record. False if told to stop before."""
    progress = Progress(task, state, epoch, loader.steps, emit)

    def after_step() -> bool:
        progress.tell()
        due, stop = task.ranks.any(commit_due(task, state), stopping.is_set())
        if due and not stop:  # a stop commits anyway
            commit_checkpoint(task, state)
        return stop

    if not train_epoch(task, state, epoch, loader, teacher, after_step=after_step):
        return False
    _share_buffers(task, state)
    val_accuracy = _evaluate(task, state, epoch)
    lr = state.optimizer.param_groups[0]["lr"]
    record = epoch_record(
        task, epoch, _over_ranks(task, state.sums), lr=lr, val_accuracy=val_accuracy
    )
    state.accuracy = _accuracy_of_weights(task, state, epoch, record)
    state.history.append(record)
    state.position = Position(epoch.index + 1)
    state.epochs_since_commit += 1
    state.sums = Sums()
    if task.ranks.any(commit_due(task, state))[0]:
        commit_checkpoint(task, state)
    emit(record)
    return True


def commit_due(task: StudentTask, state: StudentState) -> bool:
    """Whether a checkpoint is due. Its time may depend on the clock: its content does not."""
    every = task.checkpoint_every
    if every.steps is not None:
        return state.steps_since_commit >= every.steps
    if every.epochs is not None:
        return state.epochs_since_commit >= every.epochs
    assert every.seconds is not None
    return time.monotonic() - state.committed_at >= every.seconds


def _share_buffers(task: StudentTask, state: StudentState) -> None:
    """BatchNorm's statistics are rank 0's from here on, before anyone evaluates or commits."""
    task.ranks.copy_from_first(state.model.buffers())
    if task.ranks.world_size > 1 and state.averaged is not None:
        for mine, firsts in zip(state.kept.buffers(), state.model.buffers(), strict=True):
            mine.copy_(firsts)


def _over_ranks(task: StudentTask, sums: Sums) -> Sums:
    """The epoch's sums over all workers; they worked at the same time."""
    all_sums = task.ranks.gather(sums)
    totals = {name: sum(getattr(s, name) for s in all_sums) for name in vars(sums)}
    return Sums(**totals | {"seconds": max(s.seconds for s in all_sums)})


def _evaluate(task: StudentTask, state: StudentState, epoch: Epoch) -> float | None:
    """Held-out accuracy at the epoch's end, and the best weights by it."""
    if task.data.val is None:
        return None
    correct = count_correct(task, state.kept, task.data.val)
    if state.best is None or correct > state.best.correct:
        file = f"{task.folder}/checkpoints/best-{epoch.index:05d}.safetensors"
        weights = weights_of(state.kept) if task.ranks.is_first else None
        state.best = Best(epoch.index, correct, file, weights)
    return correct / len(task.data.val)


def _accuracy_of_weights(
    task: StudentTask, state: StudentState, epoch: Epoch, record: events.EpochEvent
) -> float:
    """v_i of the weights that soft labels are published from, which may not be those kept."""
    val_accuracy = record["val_accuracy"]
    if val_accuracy is None or task.data.val is None:
        return record["train_accuracy"]
    coming = task.schedule.barrier_at(Position(epoch.index + 1))
    ends = epoch.index + 1 == task.settings.epochs
    if state.averaged is None or ends or coming is None:
        return val_accuracy
    return count_correct(task, state.model, task.data.val) / len(task.data.val)


def _started(task: StudentTask, state: StudentState) -> events.StartedEvent:
    return events.started(
        student=task.student.id,
        epoch=state.position.epoch,
        step=state.position.step,
        parameters=sum(p.numel() for p in state.model.parameters()),
        device=str(task.device),
        threads=torch.get_num_threads(),
        workers=task.ranks.world_size,
    )
