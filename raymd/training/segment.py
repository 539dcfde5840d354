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
from raymd.distillation.soft_labels import TeacherRows, decode_block
from raymd.exchange.folder import Exchange
from raymd.training.checkpoint import commit_checkpoint, restore, weights_of
from raymd.training.evaluate import num_correct, predict
from raymd.training.finish import finish
from raymd.training.publish import publish
from raymd.training.step import epoch_record, train_epoch
from raymd.training.student import Best, Emit, StudentState, StudentTask, Sums, set_lr
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
        StorageError: committed files are damaged.
    """
    schedule = task.schedule
    state = restore(task, start=start)
    emit(_started(task, state))
    loader = task.loader()
    teachers = _Teachers(task, exchange, stopping, emit)
    while True:
        barrier = schedule.barrier_at(state.position)
        if barrier is not None:
            commit_checkpoint(task, state)
            publish(task, state, barrier, exchange=exchange, emit=emit)
        if state.position >= stop or stopping.is_set():
            break
        epoch = schedule.epochs[state.position.epoch]
        teacher = teachers.for_epoch(epoch)
        if stopping.is_set() or not _run_epoch(task, state, epoch, loader, teacher, emit, stopping):
            break
    commit_checkpoint(task, state)
    epoch_index, step = state.position
    if state.position < stop:
        emit(events.stopped(student=task.student.id, epoch=epoch_index, step=step))
    elif state.position == schedule.end:
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
    lr = set_lr(task, state, epoch)

    def after_step() -> bool:
        if _commit_due(task, state):
            commit_checkpoint(task, state)
        return stopping.is_set()

    if not train_epoch(task, state, epoch, loader, teacher, after_step=after_step):
        return False
    val_accuracy = _evaluate(task, state, epoch)
    record = epoch_record(task, epoch, state.sums, lr=lr, val_accuracy=val_accuracy)
    train_accuracy = record["train_accuracy"]
    state.accuracy = train_accuracy if val_accuracy is None else val_accuracy
    state.history.append(record)
    state.position = Position(epoch.index + 1)
    state.sums = Sums()
    if _commit_due(task, state):
        commit_checkpoint(task, state)
    emit(record)
    return True


def _commit_due(task: StudentTask, state: StudentState) -> bool:
    """Whether a checkpoint is due. Its time may depend on the clock: its content does not."""
    if task.checkpoint_every_steps is not None:
        return state.steps_since_commit >= task.checkpoint_every_steps
    return time.monotonic() - state.committed_at >= task.checkpoint_every_s


def _evaluate(task: StudentTask, state: StudentState, epoch: Epoch) -> float | None:
    """Held-out accuracy at the epoch's end, and the best weights by it."""
    if task.data.val is None:
        return None
    labels_N = task.data.val.labels
    correct = num_correct(predict(task, state.model, task.data.val), labels_N)
    if state.best is None or correct > state.best.correct:
        file = f"{task.folder}/checkpoints/best-{epoch.index:05d}.safetensors"
        state.best = Best(epoch.index, correct, file, weights_of(state.model))
    return correct / len(labels_N)


def _started(task: StudentTask, state: StudentState) -> events.StartedEvent:
    return events.started(
        student=task.student.id,
        epoch=state.position.epoch,
        step=state.position.step,
        parameters=sum(p.numel() for p in state.model.parameters()),
        device=str(task.device),
        threads=torch.get_num_threads(),
    )


class _Teachers:
    """The teacher of the cycle under way; the one before is dropped when the next is there."""

    def __init__(
        self, task: StudentTask, exchange: Exchange, stopping: threading.Event, emit: Emit
    ) -> None:
        self.task = task
        self.exchange = exchange
        self.stopping = stopping
        self.emit = emit
        self._cycle: int | None = None
        self._rows: TeacherRows | None = None

    def for_epoch(self, epoch: Epoch) -> TeacherRows | None:
        """The epoch's teacher, waited for if need be; None if it has none or is told to stop."""
        if epoch.phase == "independent":
            return None
        if self._cycle != epoch.cycle:
            self._cycle, self._rows = None, None
            self._rows = self._fetch(epoch.cycle)
            self._cycle = epoch.cycle if self._rows is not None else None
        return self._rows

    def _fetch(self, cycle: int) -> TeacherRows | None:
        task, started = self.task, time.perf_counter()
        name = task.method.teacher_of(task.student.id)
        teacher = self.exchange.teacher(
            cycle, name, num_blocks=task.layout.num_blocks, stop=self.stopping
        )
        if teacher is None:
            return None
        blocks = [decode_block(block)[1] for block in teacher.blocks]
        self.emit(
            events.taught(
                student=task.student.id,
                cycle=cycle,
                teacher=name,
                weights=dict(teacher.weights),
                waited_s=time.perf_counter() - started,
            )
        )
        return TeacherRows(blocks, layout=task.layout)
