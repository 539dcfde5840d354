"""Predictions in eval mode on clean images: held-out accuracy, test accuracy, the ensemble.

N samples   K classes
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raymd.data.dataset import Split
from raymd.data.loader import clean_batches, view_batches
from raymd.distillation.losses import soft_labels
from raymd.training.student import StudentTask

EVAL_BATCH = 256  # fixed: on some processors the batch size decides a sum's last bit


@torch.inference_mode()
def predict(
    task: StudentTask,
    model: nn.Module,
    split: Split,
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
    model.eval()
    common: dict[str, Any] = {
        "pixels": task.data.pixels,
        "batch_size": EVAL_BATCH,
        "device": task.device,
        "start": start,
        "stop": stop,
    }
    if view is None:
        batches = clean_batches(split, **common)
    else:
        batches = view_batches(split, view=view, seed=task.settings.seed, **common)
    return torch.cat([soft_labels(task.logits(model, images), t=t).cpu() for images, _ in batches])


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


def count_correct(task: StudentTask, model: nn.Module, split: Split) -> int:
    """How many of a split's images the model gets right; the student's workers share the work."""
    num_batches = -(-len(split) // EVAL_BATCH)
    correct = 0
    for batch in task.ranks.mine(range(num_batches)):
        start, stop = batch * EVAL_BATCH, min((batch + 1) * EVAL_BATCH, len(split))
        probs_NK = predict(task, model, split, start=start, stop=stop)
        correct += num_correct(probs_NK, split.labels[start:stop])
    return task.ranks.sum(correct)


def num_correct(probs_NK: Tensor, labels_N: Tensor) -> int:
    """How many rows have their highest probability at the label."""
    return int((probs_NK.argmax(dim=-1) == labels_N.cpu()).sum())


def ensemble(probs_SNK: list[np.ndarray], weights: list[float]) -> np.ndarray:
    """The students' weighted mean prediction (Eq. 5), float32 [N, K]."""
    mixed = np.zeros_like(probs_SNK[0], dtype=np.float32)
    for probs_NK, weight in zip(probs_SNK, weights, strict=True):
        mixed += np.float32(weight) * probs_NK
    return mixed
