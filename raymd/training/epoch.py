"""One epoch of steps, of one student or of several that are trained together."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from raymd.data.loader import Batch, EpochLoader
from raymd.distillation.schedule import Epoch, Position
from raymd.errors import NonFiniteLossError
from raymd.training.mutual import mutual_step
from raymd.training.step import taught, train_step
from raymd.training.student import Member, StudentState, StudentTask, Sums, set_lr
from raymd.training.teachers import BatchTeacher
from raymd.view import events

# Reading a loss makes a GPU wait; on a CPU it costs nothing.
STEPS_BETWEEN_CHECKS = {"cpu": 1}
DEFAULT_STEPS_BETWEEN_CHECKS = 50


def take_step(
    members: Sequence[Member], epoch: Epoch, batch: Batch, teacher: BatchTeacher | None
) -> list[Tensor]:
    """One step of each of those that are trained together; what ``train_step`` gives, of each."""
    first = members[0].task
    if epoch.phase == "distillation" and first.method.is_cohort:
        return mutual_step(members, epoch, batch)
    taken = []
    for task, state in members:
        teacher_BK = taught_B = None
        if teacher is not None:
            teacher_BK = teacher.rows(batch)
            taught_B = taught(task, epoch, batch, teacher_BK)
        task.seed_step(state.position)
        taken.append(train_step(task, state, epoch, batch, teacher_BK, taught_B=taught_B))
    return taken


def train_epoch(
    members: Sequence[Member],
    epoch: Epoch,
    loader: EpochLoader,
    teacher: BatchTeacher | None,
    *,
    after_step: Callable[[], bool],
) -> bool:
    """Train from the members' position to the epoch's end.

    Args:
        members: Those that are trained together, all at one position; mostly one student.
        epoch: The epoch of that position.
        loader: Their batches.
        teacher: Theirs in a distillation epoch.
        after_step: Called after every step with the states brought up to date; may commit them.
            True ends training here. On several workers it is called at the same steps of each.

    Returns:
        Whether the epoch was finished.

    Raises:
        NonFiniteLossError: a loss is not a number, on this worker or another.
    """
    first = members[0]
    pending: list[list[Tensor]] = [[] for _ in members]
    check_every = _check_every(first.task)
    for _, state in members:
        state.model.train()
    started = time.perf_counter()
    crops = None if teacher is None else teacher.crops
    for batch in loader.batches(epoch.index, start_step=first.state.position.step, view=crops):
        for task, state in members:
            set_lr(task, state, epoch, steps=loader.steps)
        for values, value in zip(pending, take_step(members, epoch, batch, teacher), strict=True):
            values.append(value)
        for _, state in members:
            state.sums.rows += len(batch.labels)
            state.position = Position(epoch.index, batch.step + 1)
            state.steps_since_commit += 1
        last = batch.step + 1 == loader.steps
        if last or len(pending[0]) >= check_every:
            seconds = time.perf_counter() - started
            for (task, state), values in zip(members, pending, strict=True):
                _add(task, state, values)
                state.sums.seconds += seconds
            if not last and after_step():
                return False
            started = time.perf_counter()
    return True


def _check_every(task: StudentTask) -> int:
    """Steps between looks at the losses."""
    check_every = STEPS_BETWEEN_CHECKS.get(task.device.type, DEFAULT_STEPS_BETWEEN_CHECKS)
    return min(check_every, task.checkpoint_every.steps or check_every)


def _add(task: StudentTask, state: StudentState, pending: list[Tensor]) -> None:
    """Move measured values into the state's sums; a loss that is no number ends the run."""
    values_SM = torch.stack(pending).cpu()
    finite_S = values_SM[:, 0].isfinite()
    (diverged,) = task.ranks.any(not bool(finite_S.all()))
    if diverged:
        first = int(finite_S.long().argmin())  # 0 where it was another worker's
        raise NonFiniteLossError(_diverged(task, state, state.position.step - len(pending) + first))
    loss, task_loss, kd_loss, correct = values_SM.sum(dim=0).tolist()
    sums = state.sums
    sums.loss += loss
    sums.task_loss += task_loss
    sums.kd_loss += kd_loss
    sums.correct += int(correct)
    pending.clear()


def _diverged(task: StudentTask, state: StudentState, step: int) -> str:
    return (
        f"{task.student.id} diverged: the loss is not a number at epoch "
        f"{state.position.epoch + 1}, step {step + 1}. Try a smaller learning rate "
        f"(--lr, now {task.student.lr:g}), --precision fp32 (now {task.student.precision}), "
        f"--grad_clip 1, or a higher temperature (--t, now {task.settings.t:g})"
    )


def epoch_record(
    task: StudentTask, epoch: Epoch, sums: Sums, *, lr: float, val_accuracy: float | None
) -> events.EpochEvent:
    """What an epoch came to."""
    rows = max(1, sums.rows)
    distils = epoch.phase == "distillation"
    return events.epoch(
        student=task.student.id,
        epoch=epoch.index,
        epochs=task.settings.epochs,
        cycle=epoch.cycle,
        phase=epoch.phase,
        r=epoch.r,
        lr=lr,
        alpha=epoch.alpha,
        beta=epoch.beta,
        loss=sums.loss / rows,
        task_loss=sums.task_loss / rows,
        kd_loss=sums.kd_loss / rows if distils else None,
        train_accuracy=sums.correct / rows,
        val_accuracy=val_accuracy,
        images_per_s=sums.rows / max(sums.seconds, 1e-9),
        seconds=sums.seconds,
    )
