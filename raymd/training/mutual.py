"""One step of deep mutual learning: students on one batch, each taught by the others as they are.

Zhang et al., "Deep Mutual Learning", CVPR 2018. Peers' predictions are of training mode, as there:
their own batch statistics and dropout; predicting for a peer leaves no trace in a network.

    B batch   K classes   S students
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from raymd.data.loader import Batch
from raymd.distillation.losses import peer_loss, soft_labels
from raymd.distillation.schedule import Epoch
from raymd.training.step import forward, measured, task_options, update
from raymd.training.student import Member


def mutual_step(members: Sequence[Member], epoch: Epoch, batch: Batch) -> list[Tensor]:
    """Take one step of each student, in their order.

    ``sequential`` (Algorithm 1): a student that was updated predicts anew before the next one
    learns from it. ``simultaneous``: all learn from what was predicted before any update.

    Args:
        members: Two students at least, at one position.
        epoch: With alpha and beta.
        batch: The images that all of them see.

    Returns:
        Of each student what ``step.train_step`` gives.
    """
    settings = members[0].task.settings
    t = settings.temperature
    logits_SBK, probs_SBK = [], []
    for task, state in members:
        task.seed_step(state.position)
        logits_BK = forward(task, state, batch)
        logits_SBK.append(logits_BK)
        probs_SBK.append(soft_labels(logits_BK.detach(), t=t))
    values = []
    for i, (task, state) in enumerate(members):
        losses = peer_loss(
            logits_SBK[i],
            batch.labels,
            peers_SBK=[probs for j, probs in enumerate(probs_SBK) if j != i],
            alpha=epoch.alpha,
            beta=epoch.beta,
            t=t,
            kl_scale=settings.kl_scale,
            **task_options(task, batch),
        )
        update(task, state, batch, losses.loss)
        values.append(measured(losses, logits_SBK[i], batch))
        if settings.dml_update == "sequential" and i + 1 < len(members):
            probs_SBK[i] = _predict(members[i], batch, t=t)
    return values


@torch.no_grad()
def _predict(member: Member, batch: Batch, *, t: float) -> Tensor:
    """What a student says of a batch in training mode, [B, K]."""
    task, state = member
    task.seed_step(state.position)
    with _untouched(state.model):
        return soft_labels(task.logits(state.model, batch.images), t=t)


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Leave the model's buffers (BatchNorm's running statistics) as they are."""
    before = [buffer.clone() for buffer in model.buffers()]
    yield
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
