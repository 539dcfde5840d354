"""One step of one student: logits, loss, backward, step; mutual.py takes it of several at once.

B batch   K classes
"""

from typing import Any

import torch
from torch import Tensor

from raymd.data.draws import fraction, sample_hash, stream_of
from raymd.data.loader import Batch
from raymd.data.placing import placed
from raymd.distillation.losses import Losses, hits, student_loss
from raymd.distillation.schedule import Epoch
from raymd.distillation.top_k import TeacherBatch
from raymd.training.student import StudentState, StudentTask


def train_step(
    task: StudentTask,
    state: StudentState,
    epoch: Epoch,
    batch: Batch,
    teacher_BK: TeacherBatch | None,
    *,
    taught_B: Tensor | None = None,
) -> Tensor:
    """Take one step.

    Args:
        task, state: The student.
        epoch: Its place in the schedule, with the loss's weights.
        batch: The images.
        teacher_BK: The teacher's soft labels of them; None in an independent epoch.
        taught_B: Which of them it teaches (``taught``); None: all.

    Returns:
        float64 [4] on the device: loss, task_loss and kd_loss times the batch's rows, and the
        number of rows whose label the network hit.
    """
    logits_BK = forward(task, state, batch)
    losses = student_loss(
        logits_BK,
        batch.labels,
        teacher_BK=teacher_BK,
        alpha=epoch.alpha,
        beta=epoch.beta,
        t=task.settings.temperature,
        kl_scale=task.settings.kl_scale,
        taught_B=taught_B,
        **task_options(task, batch),
    )
    update(task, state, batch, losses.loss)
    return measured(losses, logits_BK, batch)


def task_options(task: StudentTask, batch: Batch) -> dict[str, Any]:
    """What the losses take beside logits, labels and teacher."""
    options: dict[str, Any] = {"label_smoothing": task.student.label_smoothing}
    if batch.mixed is not None:
        options |= {"mixed_labels_B": batch.mixed.labels, "share": batch.mixed.share}
    return options


def forward(task: StudentTask, state: StudentState, batch: Batch) -> Tensor:
    """The student's logits of a batch, [B, K], for a backward pass."""
    state.optimizer.zero_grad(set_to_none=True)
    with task.autocast():
        logits_BK: Tensor = state.network(task.inputs(batch.images))
    return logits_BK


def update(task: StudentTask, state: StudentState, batch: Batch, loss: Tensor) -> None:
    """Backward and step; ``loss`` is the mean over this worker's part of the batch."""
    # The mean over the global batch, whatever part of it this worker has (1 with one worker).
    share = len(batch.labels) * task.ranks.world_size / batch.global_rows
    torch.autograd.backward(state.scaler.scale(loss * share * task.settings.loss_scale))
    if task.student.grad_clip:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), task.student.grad_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.averaged is not None:
        state.averaged.update_parameters(state.model)


def taught(
    task: StudentTask, epoch: Epoch, batch: Batch, teacher_BK: TeacherBatch
) -> Tensor | None:
    """Which samples their teacher teaches, bool [B]; None: all.

    Not those that it gets wrong (``--correct_only``; of a mixed image, the part that is most to be
    seen), nor those left out of this cycle's labels (``--relabel_fraction``).
    """
    taught_B: Tensor | None = None
    if task.settings.relabel_fraction < 1.0:
        stream = stream_of(f"relabel/{task.student.id}")
        hash_B = sample_hash(
            batch.sample_ids, seed=task.settings.seed, stream=stream, epoch=epoch.cycle
        )
        taught_B = placed(fraction(hash_B, 0) < task.settings.relabel_fraction, task.device)
    if task.settings.correct_only:
        right_B = hits(teacher_BK, seen_labels(batch))
        taught_B = right_B if taught_B is None else taught_B & right_B
    return taught_B


def seen_labels(batch: Batch) -> Tensor:
    """Each image's label; of a mixed one, that of the part that is most to be seen."""
    if batch.mixed is not None and batch.mixed.share < 0.5:
        return batch.mixed.labels
    return batch.labels


def measured(losses: Losses, logits_BK: Tensor, batch: Batch) -> Tensor:
    """What ``train_step`` gives back."""
    rows = len(batch.labels)
    correct = hits(logits_BK.detach(), seen_labels(batch)).sum()
    means = torch.stack([losses.loss.detach(), losses.task_loss, losses.kd_loss]).double()
    return torch.cat([means * rows, correct.double().unsqueeze(0)])
