"""Predictions in eval mode on clean images: held-out accuracy, test accuracy, the ensemble.

N samples   K classes
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raymd.data.dataset import AnySplit
from raymd.data.loader import clean_batches, id_slices, view_batches
from raymd.distillation.losses import soft_labels
from raymd.training.student import StudentTask

EVAL_BATCH = 256  # fixed: on some processors the batch size decides a sum's last bit


def predict(
    task: StudentTask,
    model: nn.Module,
    split: AnySplit,
    *,
    t: float = 1.0,
    start: int = 0,
    stop: int | None = None,
    view: int | None = None,
) -> Tensor:
    """Softened class probabilities (Eq. 4) of a split's images, float32 [N, K] on the CPU.

    Args:
        task: Whose device and precision to use.
        model: The network; put into eval mode, so BatchNorm's statistics are fixed.
        split: Images and labels.
        t: Temperature.
        start, stop: The range of ids wanted; all by default.
        view: Which crops to take; None: the clean images.
    """
    slices = id_slices(start, len(split) if stop is None else stop, size=EVAL_BATCH)
    return torch.cat([probs for probs, _ in _predicted(task, model, split, slices, t=t, view=view)])


@torch.inference_mode()
def _predicted(
    task: StudentTask,
    model: nn.Module,
    split: AnySplit,
    slices: list[slice],
    *,
    t: float = 1.0,
    view: int | None = None,
) -> Iterator[tuple[Tensor, slice]]:
    """Each batch's probabilities as in ``predict``, and the ids they are of."""
    model.eval()
    common: dict[str, Any] = {"pixels": task.data.pixels, "device": task.device}
    if view is None:
        batches = clean_batches(split, slices, **common)
    else:
        batches = view_batches(split, slices, view=view, seed=task.settings.seed, **common)
    for images_BCHW, ids in batches:
        yield soft_labels(task.logits(model, images_BCHW), t=t).cpu(), ids


def held_out_loss(task: StudentTask, model: nn.Module) -> float:
    """Mean cross entropy of the held-out images; every worker of the student computes all of it.

    Raises:
        ValueError: nothing is held out.
    """
    val = task.data.val
    if val is None:
        raise ValueError("no images are held out")
    probs_NK = predict(task, model, val).double()
    of_label_N = probs_NK.gather(1, val.labels.cpu().unsqueeze(1)).clamp_min(1e-12)
    return float(-of_label_N.log().mean())


def count_correct(task: StudentTask, model: nn.Module, split: AnySplit) -> int:
    """How many of a split's images the model gets right; the student's workers share the work."""
    mine = list(task.ranks.mine(id_slices(0, len(split), size=EVAL_BATCH)))
    predicted = _predicted(task, model, split, mine)
    return task.ranks.sum(sum(num_correct(probs, split.labels[ids]) for probs, ids in predicted))


def num_correct(probs_NK: Tensor, labels_N: Tensor) -> int:
    """How many rows have their highest probability at the label."""
    return int((probs_NK.argmax(dim=-1) == labels_N.cpu()).sum())


def ensemble(probs_SNK: list[np.ndarray], weights: list[float]) -> np.ndarray:
    """The students' weighted mean prediction (Eq. 5), float32 [N, K]."""
    mixed = np.zeros_like(probs_SNK[0], dtype=np.float32)
    for probs_NK, weight in zip(probs_SNK, weights, strict=True):
        mixed += np.float32(weight) * probs_NK
    return mixed
