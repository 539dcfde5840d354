"""run_segment: the one loop of the product. Restore, train, publish, distil, commit.

First start, resume after a kill, leaving at a barrier and coming back are the same call with
other arguments: a segment begins at whatever is committed and ends at ``stop``. Between
barriers a student needs nobody, so segments of different students may run in any order.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from raymd.data.loader import EpochLoader
from raymd.distillation.schedule import Epoch, Position
from raymd.exchange.folder import Exchange
from raymd.training.checkpoint import commit_checkpoint, weights_of
from raymd.training.epoch import epoch_record, train_epoch
from raymd.training.evaluate import count_correct
from raymd.training.finish import finish
from raymd.training.progress import Progress
from raymd.training.publish import publish, published_model
from raymd.training.restore import restore_together
from raymd.training.student import Best, Emit, Member, StudentState, StudentTask, Sums
from raymd.training.teachers import BatchTeacher, Teachers
from raymd.view import events

Ending = Literal["reached", "stopped"]


@dataclass(frozen=True)
class SegmentResult:
    """How a segment ended: at its ``stop``, or before it because it was told to."""

    ending: Ending
    position: Position


def run_segment(
    tasks: Sequence[StudentTask],
    *,
    start: Position,
    stop: Position,
    exchange: Exchange,
    emit: Emit,
    stopping: threading.Event,
) -> SegmentResult:
    """Train students from their newest commit to ``stop``.

    Reaching a barrier, a student publishes at once, and waits for the teacher only when it goes
    on; so a segment that ends at a barrier leaves behind all that the others need.

    Args:
        tasks: One student; or those that take every step together, all of them on the same workers.
        start: A position the caller knows to be committed.
        stop: Where to end; ``schedule.end`` also writes the students' final files.
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
    members = restore_together(tasks, start=start)
    task, state = members[0]  # where one is, and what it is told, all are
    schedule, ranks = task.schedule, task.ranks
    for member in members:
        _begin(member, emit)
    loader = task.loader()
    teachers = Teachers(task, exchange, stopping, emit)
    while True:
        barrier = schedule.barrier_at(state.position)
        if barrier is not None:
            commit_all(members)
            for member in members:
                publish(*member, barrier, exchange=exchange, emit=emit)
        if state.position >= stop or ranks.any(stopping.is_set())[0]:
            break
        epoch = schedule.epochs[state.position.epoch]
        teacher, stopped = teachers.for_epoch(epoch)
        if stopped or not _run_epoch(members, epoch, loader, teacher, emit, stopping):
            break
    commit_all(members)
    for member in members:
        _leave(member, stop, emit)
    return SegmentResult("reached" if state.position >= stop else "stopped", state.position)


def commit_all(members: Sequence[Member]) -> None:
    """Commit the states of all, where they are not committed yet."""
    for task, state in members:
        commit_checkpoint(task, state)


def _begin(member: Member, emit: Emit) -> None:
    task, state = member
    emit(_started(task, state))
    for text in state.notes:
        emit(events.note(text=text))
    if state.best is None and state.position.epoch > 0 and state.position.step == 0:
        # the best were lost
        _evaluate(task, state, task.schedule.epochs[state.position.epoch - 1])


def _leave(member: Member, stop: Position, emit: Emit) -> None:
    task, state = member
    epoch, step = state.position
    if state.position < stop:
        emit(events.stopped(student=task.student.id, epoch=epoch, step=step))
    elif state.position == task.schedule.end and task.ranks.is_first:
        finish(task, state)
        _tell_of_images(task, emit, again=True)
        emit(events.finished(student=task.student.id))


def _tell_of_images(task: StudentTask, emit: Emit, *, again: bool = False) -> None:
    """What came to light while images were read; ``again``: also what was told before."""
    for split in (task.data.train, task.data.val, task.data.test):
        for text in split.notes(again=again) if split is not None else ():
            emit(events.note(text=f"{task.student.id}: {text}"))


def _run_epoch(
    members: Sequence[Member],
    epoch: Epoch,
    loader: EpochLoader,
    teacher: BatchTeacher | None,
    emit: Emit,
    stopping: threading.Event,
) -> bool:
    """Train to the epoch's end, evaluate, record. False if told to stop before."""
    task, state = members[0]
    told = [Progress(*member, epoch, loader.steps, emit) for member in members]

    def after_step() -> bool:
        for progress in told:
            progress.tell()
        due, stop = task.ranks.any(commit_due(task, state), stopping.is_set())
        if due and not stop:  # a stop commits anyway
            commit_all(members)
        return stop

    if not train_epoch(members, epoch, loader, teacher, after_step=after_step):
        return False
    records = [_close_epoch(member, epoch) for member in members]
    if task.ranks.any(commit_due(task, state))[0]:
        commit_all(members)
    for record in records:
        emit(record)
    _tell_of_images(task, emit)
    return True


def _close_epoch(member: Member, epoch: Epoch) -> events.EpochEvent:
    """Evaluate a student at an epoch's end and note what the epoch came to."""
    task, state = member
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
    return record


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
    if published_model(task, state) is state.kept or ends or coming is None:
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
