"""Losses of one student: cross entropy with the labels, KL from the teacher (Eq. 1-4, 9, 10).

Logits and the teacher's rows enter; two losses and their weighted sum leave. All of it is
float32 (or float64, where that is what came in), whatever precision the network runs in.

    B batch   K classes
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from raymd.distillation.top_k import TeacherBatch, TopKBatch, all_classes

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


def kl_rows(teacher_BK: TeacherBatch, log_probs_BK: Tensor) -> Tensor:
    """KL(teacher || student) of each sample, summed over classes (Eq. 10), [B].

    Args:
        teacher_BK: The teacher's probabilities, all or a few of each row; rows sum to 1.
            ``0 * log 0`` counts as 0. No gradient reaches them.
        log_probs_BK: The student's log-probabilities at the same temperature.

    Returns:
        Never negative but for rounding. The minus sign of the paper's Eq. 9 is a typo.
    """
    if isinstance(teacher_BK, TopKBatch):
        return _kl_top_k(teacher_BK, log_probs_BK)
    teacher_BK = _at_least_float32(teacher_BK).detach()
    return (torch.xlogy(teacher_BK, teacher_BK) - teacher_BK * log_probs_BK).sum(dim=-1)


def _kl_top_k(teacher: TopKBatch, log_probs_BK: Tensor) -> Tensor:
    """The same sum, over all classes as if they had the base, and over what entries add to it."""
    base_B, excess_BE = teacher.base, teacher.excess
    probs_BE = base_B[:, None] + excess_BE
    base_term_B = torch.xlogy(base_B, base_B)
    entries_B = (torch.xlogy(probs_BE, probs_BE) - base_term_B[:, None]).sum(dim=-1)
    own_B = teacher.num_classes * base_term_B + entries_B
    log_probs_BE = log_probs_BK.gather(1, teacher.classes)
    return own_B - base_B * log_probs_BK.sum(dim=-1) - (excess_BE * log_probs_BE).sum(dim=-1)


def kl_divergence(teacher_BK: TeacherBatch, log_probs_BK: Tensor) -> Tensor:
    """``kl_rows`` averaged over the batch, a scalar."""
    return kl_rows(teacher_BK, log_probs_BK).mean()


def kd_factor(*, t: float, kl_scale: KLScale) -> float:
    """What multiplies KL: t² keeps its gradient's size over t; ``none`` is Eq. 9's letter."""
    return t * t if kl_scale == "t2" else 1.0


def mix_rows(rows_BK: TeacherBatch, partners_BK: TeacherBatch, *, share: float) -> Tensor:
    """Soft labels of mixed images: those of both images, with the images' own weights, [B, K]."""
    return share * all_classes(rows_BK) + (1.0 - share) * all_classes(partners_BK)


def student_loss(
    logits_BK: Tensor,
    labels_B: Tensor,
    *,
    teacher_BK: TeacherBatch | None = None,
    alpha: float = 1.0,
    beta: float = 0.0,
    t: float = 1.0,
    kl_scale: KLScale = "t2",
    label_smoothing: float = 0.0,
    mixed_labels_B: Tensor | None = None,
    share: float = 1.0,
    taught_B: Tensor | None = None,
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
        taught_B: bool, which samples the teacher teaches; the others keep their full task loss and
            have no KL. None: all.

    Returns:
        ``Losses`` of scalars, meaned over the batch; ``kd_loss`` includes the scale, not beta.
    """
    logits_BK = _at_least_float32(logits_BK)

    def cross_entropy(labels_B: Tensor) -> Tensor:
        return F.cross_entropy(
            logits_BK, labels_B, label_smoothing=label_smoothing, reduction="none"
        )

    task_B = cross_entropy(labels_B)
    if mixed_labels_B is not None:
        task_B = share * task_B + (1.0 - share) * cross_entropy(mixed_labels_B)
    task_loss = task_B.mean()
    if teacher_BK is None:
        return Losses(task_loss, task_loss.detach(), torch.zeros_like(task_loss.detach()))
    kl_B = kd_factor(t=t, kl_scale=kl_scale) * kl_rows(teacher_BK, soft_log_probs(logits_BK, t=t))
    alpha_B: float | Tensor = alpha
    if taught_B is not None:
        kl_B = kl_B * taught_B
        alpha_B = torch.where(taught_B, alpha, 1.0)
    kd_loss = kl_B.mean()
    loss = (alpha_B * task_B).mean() + beta * kd_loss
    return Losses(loss, task_loss.detach(), kd_loss.detach())


def hits(teacher_BK: TeacherBatch, labels_B: Tensor) -> Tensor:
    """Samples whose label is the teacher's top class, bool [B]."""
    if isinstance(teacher_BK, TopKBatch):
        return teacher_BK.argmax() == labels_B
    return teacher_BK.argmax(dim=-1) == labels_B


def peer_loss(
    logits_BK: Tensor,
    labels_B: Tensor,
    *,
    peers_SBK: Sequence[Tensor],
    alpha: float = 1.0,
    beta: float = 1.0,
    t: float = 1.0,
    kl_scale: KLScale = "t2",
    **task: Any,
) -> Losses:
    """Deep mutual learning's loss of one student (Zhang et al. 2018, Eq. 7).

    ``alpha * cross entropy + beta * mean over peers of KL(peer || student)``: the mean of the KLs,
    which is not the KL from the mean of the peers.

    Args:
        logits_BK, labels_B, alpha, beta, t, kl_scale: As in ``student_loss``.
        peers_SBK: Each peer's probabilities at temperature t; no gradient reaches them.
        task: ``label_smoothing``, ``mixed_labels_B``, ``share``, as in ``student_loss``.
    """
    alone = student_loss(logits_BK, labels_B, **task)
    log_probs_BK = soft_log_probs(logits_BK, t=t)
    kl = torch.stack([kl_divergence(peer_BK, log_probs_BK) for peer_BK in peers_SBK]).mean()
    kd_loss = kd_factor(t=t, kl_scale=kl_scale) * kl
    return Losses(alpha * alone.loss + beta * kd_loss, alone.task_loss, kd_loss.detach())
