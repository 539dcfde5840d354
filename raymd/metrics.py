"""Figures of classifiers that have predicted: pure functions of probabilities and labels.

Place on the data's way: its end; commands/evaluation.py brings the predictions of finished
students. numpy alone.

    N images   K classes   S students   B bins
"""

import math
from dataclasses import dataclass

import numpy as np

Z_95 = 1.96
NUM_BINS = 15


def top_k_correct(probs_NK: np.ndarray, labels_N: np.ndarray, *, k: int) -> np.ndarray:
    """Whether the label is among the k classes of highest probability; bool [N].

    Of equal probabilities the class of lower number counts as higher, as argmax has it.
    """
    order_NK = np.argsort(-probs_NK, axis=1, kind="stable")[:, :k]
    hits_N: np.ndarray = (order_NK == labels_N[:, None]).any(axis=1)
    return hits_N


def negative_log_likelihood(probs_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Mean of -ln p(label), in nats. A probability of 0 counts as the least float32."""
    label_probs_N = probs_NK[np.arange(len(labels_N)), labels_N].astype(np.float64)
    return float(-np.log(np.maximum(label_probs_N, np.finfo(np.float32).tiny)).mean())


@dataclass(frozen=True)
class Bin:
    """Images whose highest probability lies in (low, high].

    Attributes:
        count: How many; without any, the next two are None.
        confidence: Mean of their highest probabilities.
        accuracy: Part of them that is classified rightly.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy lie apart (Guo et al. 2017, arXiv:1706.04599).

    Attributes:
        ece: Expected calibration error, sum over bins of count/N · |accuracy - confidence|.
        bins: The reliability table.
    """

    ece: float
    bins: tuple[Bin, ...]


def calibration(
    probs_NK: np.ndarray, labels_N: np.ndarray, *, num_bins: int = NUM_BINS
) -> Calibration:
    """Calibration of the predicted class, in bins of equal width."""
    confidence_N = probs_NK.max(axis=1).astype(np.float64)
    hits_N = probs_NK.argmax(axis=1) == labels_N
    bin_N = np.clip(np.ceil(confidence_N * num_bins).astype(int) - 1, 0, num_bins - 1)
    bins, ece = [], 0.0
    for b in range(num_bins):
        inside_N = bin_N == b
        count = int(inside_N.sum())
        confidence = float(confidence_N[inside_N].mean()) if count else None
        accuracy = float(hits_N[inside_N].mean()) if count else None
        if accuracy is not None and confidence is not None:
            ece += count / len(labels_N) * abs(accuracy - confidence)
        bins.append(Bin(b / num_bins, (b + 1) / num_bins, count, confidence, accuracy))
    return Calibration(ece, tuple(bins))


def agreement(classes_SN: np.ndarray) -> np.ndarray:
    """Part of the images for which two students predict the same class; [S, S]."""
    same_SSN = classes_SN[:, None, :] == classes_SN[None, :, :]
    parts_SS: np.ndarray = same_SSN.mean(axis=2)
    return parts_SS


@dataclass(frozen=True)
class Difference:
    """How much more often one classifier is right than another, on the same images.

    Attributes:
        points: Difference of the accuracies in percentage points.
        interval_95: Of ``points``, (low, high).
    """

    points: float
    interval_95: tuple[float, float]


@dataclass(frozen=True)
class PairedDifference(Difference):
    """Of two classifiers.

    Attributes:
        gained, lost: Images that only the first, and only the second, classifies rightly.
    """

    gained: int
    lost: int


def paired_difference(hits_N: np.ndarray, other_hits_N: np.ndarray) -> PairedDifference:
    """The first classifier against the other.

    Only images that change tell them apart, as in McNemar's test; the interval is Bonett and
    Price's (2012, doi:10.3102/1076998611411915), Wald's with one image added to each kind of
    change, so that it keeps a width where nothing changes.

    Args:
        hits_N: bool [N], whether the first classifies an image rightly.
        other_hits_N: bool [N] of the other, for the same images.
    """
    n = len(hits_N)
    gained = int((hits_N & ~other_hits_N).sum())
    lost = int((~hits_N & other_hits_N).sum())
    p_gained, p_lost = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    centre = p_gained - p_lost
    half = Z_95 * math.sqrt((p_gained + p_lost - centre**2) / (n + 2))
    interval = (100 * max(-1.0, centre - half), 100 * min(1.0, centre + half))
    return PairedDifference(100 * (gained - lost) / n, interval, gained, lost)


def difference_to_mean(hits_N: np.ndarray, others_SN: np.ndarray) -> Difference:
    """A classifier against the mean accuracy of S others; normal interval of the paired mean.

    Args:
        hits_N: bool [N], whether it classifies an image rightly.
        others_SN: bool [S, N] of the others, for the same images.
    """
    gain_N = 100 * (hits_N.astype(np.float64) - others_SN.mean(axis=0))
    points = float(gain_N.mean())
    half = Z_95 * float(gain_N.std(ddof=1)) / math.sqrt(len(gain_N)) if len(gain_N) > 1 else 100.0
    return Difference(points, (max(-100.0, points - half), min(100.0, points + half)))


def class_accuracy(hits_N: np.ndarray, labels_N: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Accuracy on the images of each class; float [K], nan for a class without images."""
    total_K = np.bincount(labels_N, minlength=num_classes)
    correct_K = np.bincount(labels_N[hits_N], minlength=num_classes)
    accuracy_K: np.ndarray = np.full(num_classes, np.nan)
    np.divide(correct_K, total_K, out=accuracy_K, where=total_K > 0)
    return accuracy_K
