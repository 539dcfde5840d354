"""Subset and hold-out: which rows train, which measure v_i, and the fingerprint of both.

Place on the data's way: a Dataset enters, Prepared leaves. From here on a sample id is a row of
``Prepared.train``; soft labels are keyed by it, so the fingerprint travels with every block.
Draws depend on the seed alone, through generators of their own.

    N images   K classes
"""

from dataclasses import dataclass

import numpy as np
import torch
import xxhash

from raymd.data.augment import MIXUP_ALPHA, Augmentation, Pixels, choose_augmentation
from raymd.data.dataset import AnySplit, Dataset
from raymd.distillation.soft_labels import BlockLayout
from raymd.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """A data set cut for one run.

    Attributes:
        name, classes, mean, std, image_size: The data set's.
        augmentation: What training images undergo.
        train: What students fit; its rows are the sample ids.
        val: The held-out slice of the training part that v_i is measured on; None without one.
        test: Untouched.
        fingerprint: 32 hex digits; equal for runs whose soft labels may be exchanged.
    """

    name: str
    train: AnySplit
    val: AnySplit | None
    test: AnySplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    image_size: int
    fingerprint: str

    @property
    def pixels(self) -> Pixels:
        """How stored images become a network's."""
        return Pixels(self.mean, self.std, self.image_size, self.augmentation)

    @property
    def layout(self) -> BlockLayout:
        """How the training part is cut into soft-label blocks."""
        return BlockLayout(len(self.train), len(self.classes))


def prepare(
    dataset: Dataset,
    *,
    subset: int | None,
    val_fraction: float,
    seed: int,
    augment: tuple[str, ...] | None = None,
    mixup_alpha: float = MIXUP_ALPHA,
) -> Prepared:
    """Cut the training part to ``subset`` images, then hold out ``val_fraction`` of those.

    Args:
        dataset: As loaded.
        subset: How many training images to use; None for all.
        val_fraction: Share to hold out, 0 <= fraction < 1.
        seed: The run's.
        augment, mixup_alpha: For ``choose_augmentation``; None: the data set's own. No part of the
            fingerprint, since soft labels of clean images do not depend on them.

    Raises:
        UserError: augmentations that do not go together, more images wanted than there are, or
            too few for the hold-out.
    """
    train, val = dataset.train, None
    if subset is not None:
        train = train.rows(subset_ids(train.labels, size=subset, seed=seed))
    if val_fraction:
        train_ids, val_ids = holdout_ids(train.labels, fraction=val_fraction, seed=seed)
        train, val = train.rows(train_ids), train.rows(val_ids)
    settings = (dataset.classes, subset, val_fraction, seed, dataset.image_size)
    return Prepared(
        name=dataset.name,
        train=train,
        val=val,
        test=dataset.test,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
        augmentation=choose_augmentation(
            augment,
            default=dataset.augmentation,
            side=dataset.crop_side,
            is_grey=dataset.is_grey,
            mixup_alpha=mixup_alpha,
        ),
        image_size=dataset.image_size,
        fingerprint=fingerprint(train, val, settings=settings),
    )


def subset_ids(labels_N: torch.Tensor, *, size: int, seed: int) -> torch.Tensor:
    """``size`` ids out of N with the classes' shares kept; int64, sorted.

    Raises:
        UserError: ``size`` is not in 1..N.
    """
    if not 1 <= size <= len(labels_N):
        raise UserError(f"subset {size}: the training part allows 1 to {len(labels_N)} (--subset)")
    return stratified_ids(labels_N, size=size, seed=seed)


def holdout_ids(
    labels_N: torch.Tensor, *, fraction: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Split N ids into (train_ids, val_ids) with the classes' shares kept; int64, both sorted.

    Args:
        labels_N: int64 [N].
        fraction: Share of the second part, 0 <= fraction < 1; it gets round(fraction * N) ids
            also where no class has enough images for one of its own.
        seed: The run's.

    Raises:
        UserError: the fraction is out of range, or N is so small that a part would be empty.
    """
    num_samples = len(labels_N)
    if not 0 <= fraction < 1:
        raise UserError(f"val_fraction {fraction}: allowed is 0 <= fraction < 1 (--val_fraction)")
    size = round(fraction * num_samples)
    if fraction and not 0 < size < num_samples:
        raise UserError(
            f"val_fraction {fraction} of {num_samples} training images is {size}, which leaves "
            f"{'none to train on' if size else 'nothing to hold out'}; change --val_fraction (0: "
            f"no hold-out) or raise --subset"
        )
    val_ids = stratified_ids(labels_N, size=size, seed=seed)
    is_train = torch.ones(num_samples, dtype=torch.bool).index_fill_(0, val_ids, False)
    return is_train.nonzero().flatten(), val_ids


def stratified_ids(labels_N: torch.Tensor, *, size: int, seed: int) -> torch.Tensor:
    """``size`` ids drawn so that each class has its share, rounded by largest remainder.

    Args:
        labels_N: int64 [N].
        size: 0..N.
        seed: Decides the rows and the ties among equal remainders.

    Returns:
        int64 [size], sorted.
    """
    labels = labels_N.numpy()
    # With the sizes in the seed, subset and hold-out of one run draw independently.
    rng = np.random.default_rng((seed, len(labels), size))
    counts_K = np.bincount(labels)
    quotas_K = _largest_remainder(counts_K, size=size, rng=rng)
    shuffled_N = rng.permutation(len(labels))
    by_class_N = shuffled_N[np.argsort(labels[shuffled_N], kind="stable")]
    starts_K = np.cumsum(counts_K) - counts_K
    rank_N = np.arange(len(labels)) - np.repeat(starts_K, counts_K)
    taken = by_class_N[rank_N < np.repeat(quotas_K, counts_K)]
    return torch.from_numpy(np.sort(taken).astype(np.int64))


def _largest_remainder(counts_K: np.ndarray, *, size: int, rng: np.random.Generator) -> np.ndarray:
    total = counts_K.sum()
    quotas_K, remainders_K = np.divmod(counts_K * size, total)  # whole numbers: ties are exact
    by_remainder = np.lexsort((rng.random(len(counts_K)), -remainders_K))
    quotas_K[by_remainder[: size - quotas_K.sum()]] += 1
    return quotas_K


def fingerprint(train: AnySplit, val: AnySplit | None, *, settings: tuple[object, ...]) -> str:
    """xxh3-128 of the training and held-out images and labels, and of the settings' repr.

    The test part stays out: predictions for other test data still fit the same soft labels.
    """
    digest = xxhash.xxh3_128(repr(settings).encode())
    for split in (train, val):
        if split is None:
            digest.update(b"none")
            continue
        split.add_to(digest)
    return digest.hexdigest()
