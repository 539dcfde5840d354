"""One epoch of steps: batch, logits, loss, backward, step.

B batch   K classes
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from raymd.data.loader import Batch, EpochLoader
from raymd.distillation.losses import Losses, mix_rows, student_loss
from raymd.distillation.schedule import Epoch, Position
from raymd.distillation.soft_labels import TeacherRows
from raymd.errors import NonFiniteLossError
from raymd.training.student import StudentState, StudentTask, Sums, set_lr
from raymd.view import events

# Reading a loss makes a GPU wait; on a CPU it costs nothing.
STEPS_BETWEEN_CHECKS = {"cpu": 1}
DEFAULT_STEPS_BETWEEN_CHECKS = 50


def train_step(
    task: StudentTask, state: StudentState, epoch: Epoch, batch: Batch, teacher_BK: Tensor | None
) -> Tensor:
    """Take one step.

    Returns:
        float64 [4] on the device: loss, task_loss and kd_loss times the batch's rows, and the
        number of rows whose label the network hit.
    """
    state.optimizer.zero_grad(set_to_none=True)
    with task.autocast():
        logits_BK = state.network(task.inputs(batch.images))
    mixed = batch.mixed
    losses = student_loss(
        logits_BK,
        batch.labels,
        teacher_BK=teacher_BK,
        alpha=epoch.alpha,
        beta=epoch.beta,
        t=task.settings.t,
        kl_scale=task.settings.kl_scale,
        label_smoothing=task.student.label_smoothing,
        mixed_labels_B=mixed.labels if mixed is not None else None,
        share=mixed.share if mixed is not None else 1.0,
    )
    # The mean over the global batch, whatever part of it this worker has (1 with one worker).
    share = len(batch.labels) * task.ranks.world_size / batch.global_rows
    torch.autograd.backward(state.scaler.scale(losses.loss * share))
    if task.student.grad_clip:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), task.student.grad_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.averaged is not None:
        state.averaged.update_parameters(state.model)
    return _measured(losses, logits_BK, batch)


def _measured(losses: Losses, logits_BK: Tensor, batch: Batch) -> Tensor:
    rows = len(batch.labels)
    labels_B = batch.labels
    if batch.mixed is not None and batch.mixed.share < 0.5:
        labels_B = batch.mixed.labels  # what is most to be seen in a mixed image
    correct = (logits_BK.detach().argmax(dim=-1) == labels_B).sum()
    means = torch.stack([losses.loss.detach(), losses.task_loss, losses.kd_loss]).double()
    return torch.cat([means * rows, correct.double().unsqueeze(0)])


def teacher_rows(task: StudentTask, teacher: TeacherRows, batch: Batch) -> Tensor:
    """The teacher's soft labels of a batch, [B, K] on the device, mixed as its images are."""
    rows_BK = teacher.rows(batch.sample_ids.cpu())
    if batch.mixed is not None:
        partners_BK = teacher.rows(batch.mixed.sample_ids.cpu())
        rows_BK = mix_rows(rows_BK, partners_BK, share=batch.mixed.share)
    return rows_BK.to(task.device, non_blocking=True)


def train_epoch(
    task: StudentTask,
    state: StudentState,
    epoch: Epoch,
    loader: EpochLoader,
    teacher: TeacherRows | None,
    *,
    after_step: Callable[[], bool],
) -> bool:
    """Train from the state's position to the epoch's end.

    Args:
        task, state: The student.
        epoch: The epoch of the state's position.
        loader: The run's loader.
        teacher: The cycle's teacher in a distillation epoch.
        after_step: Called after every step with the state brought up to date; may commit it.
            True ends training here. On several workers it is called at the same steps of each.

    Returns:
        Whether the epoch was finished.

    Raises:
        NonFiniteLossError: the loss is not a number, on this worker or another.
    """
    state.model.train()
    pending: list[Tensor] = []
    check_every = STEPS_BETWEEN_CHECKS.get(task.device.type, DEFAULT_STEPS_BETWEEN_CHECKS)
    check_every = min(check_every, task.checkpoint_every.steps or check_every)
    started = time.perf_counter()
    for batch in loader.batches(epoch.index, start_step=state.position.step):
        set_lr(task, state, epoch, steps=loader.steps)
        teacher_BK = teacher_rows(task, teacher, batch) if teacher is not None else None
        task.seed_step(state.position)
        pending.append(train_step(task, state, epoch, batch, teacher_BK))
        state.sums.rows += len(batch.labels)
        state.position = Position(epoch.index, batch.step + 1)
        state.steps_since_commit += 1
        last = batch.step + 1 == loader.steps
        if last or len(pending) >= check_every:
            _add(task, state, pending)
            state.sums.seconds += time.perf_counter() - started
            if not last and after_step():
                return False
            started = time.perf_counter()
    return True


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
