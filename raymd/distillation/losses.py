"""Losses of one student: cross entropy with the labels, KL from the teacher (Eq. 1-4, 9, 10).

Logits and the teacher's rows enter; two losses and their weighted sum leave. All of it is
float32 (or float64, where that is what came in), whatever precision the network runs in.

    B batch   K classes
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KLScale = Literal["t2", "none"]


class Losses(NamedTuple):
    """The parts of one step's loss, each a scalar; the same keys go to events and history."""

    loss: Tensor
    task_loss: Tensor
    kd_loss: Tensor


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def soft_log_probs(logits_BK: Tensor, *, t: float) -> Tensor:
    """Logarithm of Eq. 4's softened probabilities, ``log softmax(logits / t)``, [B, K]."""
    return F.log_softmax(_at_least_float32(logits_BK) / t, dim=-1)


def soft_labels(logits_BK: Tensor, *, t: float) -> Tensor:
    """Softened class probabilities ``softmax(logits / t)`` (Eq. 4), [B, K], at least float32."""
    return soft_log_probs(logits_BK, t=t).exp()


def kl_divergence(teacher_BK: Tensor, log_probs_BK: Tensor) -> Tensor:
    """KL(teacher || student): summed over classes, averaged over the batch (Eq. 10).

    Args:
        teacher_BK: The teacher's probabilities; rows sum to 1. ``0 * log 0`` counts as 0.
        log_probs_BK: The student's log-probabilities at the same temperature.

    Returns:
        A scalar, never negative but for rounding. The minus sign of the paper's Eq. 9 is a typo.
    """
    teacher_BK = _at_least_float32(teacher_BK).detach()
    kl_B = (torch.xlogy(teacher_BK, teacher_BK) - teacher_BK * log_probs_BK).sum(dim=-1)
    return kl_B.mean()


def kd_factor(*, t: float, kl_scale: KLScale) -> float:
    """What multiplies KL: t² keeps its gradient's size over t; ``none`` is Eq. 9's letter."""
    return t * t if kl_scale == "t2" else 1.0


def mix_rows(rows_BK: Tensor, partners_BK: Tensor, *, share: float) -> Tensor:
    """Soft labels of mixed images: those of both images, with the images' own weights, [B, K]."""
    return share * rows_BK + (1.0 - share) * partners_BK


def student_loss(
    logits_BK: Tensor,
    labels_B: Tensor,
    *,
    teacher_BK: Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 0.0,
    t: float = 1.0,
    kl_scale: KLScale = "t2",
    label_smoothing: float = 0.0,
    mixed_labels_B: Tensor | None = None,
    share: float = 1.0,
) -> Losses:
    """``alpha * cross entropy + beta * KL`` (Eq. 9); without a teacher, Eq. 1's cross entropy.

    Args:
        logits_BK: The student's logits, of any floating dtype.
        labels_B: int64 classes.
        teacher_BK: The teacher's probabilities at temperature ``t``, or None in the
            independent phase. No gradient reaches them.
        alpha, beta: Eq. 11's weights (see schedule.py).
        t: Temperature of both sides of KL.
        kl_scale: ``t2`` multiplies KL by t², ``none`` does not.
        label_smoothing: Part of each label that is spread evenly over all classes.
        mixed_labels_B: Classes of the images that the batch's are mixed with (mixup), or None.
        share: Weight of ``labels_B`` beside them; ``teacher_BK`` is mixed already (mix_rows).

    Returns:
        ``Losses`` of scalars, meaned over the batch; ``kd_loss`` includes the scale, not beta.
    """
    logits_BK = _at_least_float32(logits_BK)
    task_loss = F.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)
    if mixed_labels_B is not None:
        other = F.cross_entropy(logits_BK, mixed_labels_B, label_smoothing=label_smoothing)
        task_loss = share * task_loss + (1.0 - share) * other
    if teacher_BK is None:
        return Losses(task_loss, task_loss.detach(), torch.zeros_like(task_loss.detach()))
    kl = kl_divergence(teacher_BK, soft_log_probs(logits_BK, t=t))
    kd_loss = kd_factor(t=t, kl_scale=kl_scale) * kl
    loss = alpha * task_loss + beta * kd_loss
    return Losses(loss, task_loss.detach(), kd_loss.detach())
