"""Subset, hold-out and fingerprint."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from raymd.data.augment import Augmentation, Pixels
from raymd.data.dataset import Dataset, Split
from raymd.data.splits import holdout_ids, prepare, stratified_ids, subset_ids
from raymd.errors import UserError

LABELS = torch.from_numpy(np.repeat(np.arange(4), [50, 30, 15, 5]))


def toy(num_train: int = 100) -> Dataset:
    rng = np.random.default_rng(0)

    def split(rows):
        pixels = rng.integers(0, 256, (rows, 4, 4, 3), np.uint8)
        return Split.from_arrays(pixels, rng.permutation(np.arange(rows) % 4))

    statistics = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "augmentation": Augmentation(pad=1)}
    return Dataset("toy", split(num_train), split(20), ("a", "b", "c", "d"), **statistics)


def test_classes_keep_their_share_by_largest_remainder():
    ids = stratified_ids(LABELS, size=10, seed=0)
    counts = LABELS[ids].bincount(minlength=4).tolist()
    assert counts[:2] == [5, 3]
    assert counts[2:] in ([2, 0], [1, 1])  # remainders of one half each: a seeded tie


def test_ties_and_rows_are_seeded():
    draws = [stratified_ids(LABELS, size=10, seed=seed) for seed in range(20)]
    assert torch.equal(draws[3], stratified_ids(LABELS, size=10, seed=3))
    assert {int((LABELS[ids] == 3).sum()) for ids in draws} == {0, 1}
    assert len({tuple(ids.tolist()) for ids in draws}) == 20


@pytest.mark.parametrize("size", [0, 1, 37, 99, 100])
def test_any_size_gives_sorted_distinct_ids(size):
    ids = stratified_ids(LABELS, size=size, seed=1)
    assert ids.dtype == torch.int64
    assert ids.tolist() == sorted(set(ids.tolist()))
    assert len(ids) == size


def test_no_global_generator_is_touched():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    prepare(toy(), subset=50, val_fraction=0.1, seed=0)
    assert (torch.rand(1), np.random.rand()) == expected


def test_holdout_partitions_the_ids():
    train_ids, val_ids = holdout_ids(LABELS, fraction=0.2, seed=0)
    assert sorted(train_ids.tolist() + val_ids.tolist()) == list(range(100))
    assert LABELS[val_ids].bincount().tolist() == [10, 6, 3, 1]
    assert train_ids.tolist() == sorted(train_ids.tolist())


def test_one_image_a_class_still_gives_a_slice():
    train_ids, val_ids = holdout_ids(torch.arange(100), fraction=0.1, seed=0)
    assert (len(train_ids), len(val_ids)) == (90, 10)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(UserError, match=r"0 <= fraction < 1 \(--val_fraction\)"):
        holdout_ids(LABELS, fraction=fraction, seed=0)


@pytest.mark.parametrize(
    ("fraction", "rows", "what"), [(0.1, 3, "nothing to hold out"), (0.9, 3, "none to train on")]
)
def test_too_few_images_to_hold_out_name_the_settings(fraction, rows, what):
    with pytest.raises(UserError, match=rf"{what}; change --val_fraction .*--subset"):
        holdout_ids(LABELS[:rows], fraction=fraction, seed=0)


@pytest.mark.parametrize("size", [0, -1, 101])
def test_subset_limits_are_told(size):
    with pytest.raises(UserError, match=rf"subset {size}: .* 1 to 100 \(--subset\)"):
        subset_ids(LABELS, size=size, seed=0)


def test_subset_cuts_training_alone_and_comes_before_the_holdout():
    data = toy()
    prepared = prepare(data, subset=40, val_fraction=0.25, seed=3)
    assert (len(prepared.train), len(prepared.val), len(prepared.test)) == (30, 10, 20)
    ids = subset_ids(data.train.labels, size=40, seed=3)
    train_ids, val_ids = holdout_ids(data.train.labels[ids], fraction=0.25, seed=3)
    assert torch.equal(prepared.train.images, data.train.images[ids[train_ids]])
    assert torch.equal(prepared.val.labels, data.train.labels[ids[val_ids]])
    assert (prepared.name, prepared.classes) == (data.name, data.classes)
    assert prepared.augmentation == data.augmentation


def test_a_run_may_choose_another_augmentation():
    prepared = prepare(
        toy(), subset=None, val_fraction=0, seed=0, augment=("crop-flip", "mixup"), mixup_alpha=0.1
    )
    assert prepared.augmentation == Augmentation(pad=1, mixup_alpha=0.1)
    assert prepared.pixels == Pixels((0.5,) * 3, (0.2,) * 3, 4, prepared.augmentation)
    with pytest.raises(UserError, match="'none' stands alone"):
        prepare(toy(), subset=None, val_fraction=0, seed=0, augment=("none", "mixup"))


def test_without_subset_and_holdout_the_training_part_is_not_copied():
    data = toy()
    prepared = prepare(data, subset=None, val_fraction=0, seed=0)
    assert prepared.train is data.train
    assert prepared.val is None


def changed(data: Dataset, part: str, *, pixel: bool) -> Dataset:
    split = getattr(data, part)
    images, labels = split.images.clone(), split.labels.clone()
    if pixel:
        images[7, 0, 0, 0] ^= 1
    else:
        labels[7] = (labels[7] + 1) % 4
    parts = {"train": data.train, "test": data.test, part: Split(images, labels)}
    return Dataset(data.name, *parts.values(), data.classes, data.mean, data.std)


def test_fingerprint_follows_what_is_trained_on_and_nothing_else():
    data = toy()
    settings = {"subset": None, "val_fraction": 0.1, "seed": 0}

    def mark(data=data, **changes):
        return prepare(data, **{**settings, **changes}).fingerprint

    renamed = Dataset("toy", data.train, data.test, tuple("efgh"), data.mean, data.std)
    different = [
        mark(),
        mark(subset=100),
        mark(subset=99),
        mark(val_fraction=0.2),
        mark(val_fraction=0),
        mark(seed=1),
        mark(changed(data, "train", pixel=True)),
        mark(changed(data, "train", pixel=False)),
        mark(renamed),
        mark(replace(data, image_size=8)),
    ]
    assert len(set(different)) == len(different)
    assert mark() == mark(changed(data, "test", pixel=True)) == different[0]
    assert mark() == mark(changed(data, "test", pixel=False))
    assert mark() == mark(augment=("none",))
    assert len(mark()) == 32


def test_fingerprint_does_not_depend_on_the_memory_format():
    data = toy()
    train = Split(data.train.images.contiguous(), data.train.labels)
    assert train.images.stride() != data.train.images.stride()
    other = Dataset("toy", train, data.test, data.classes, data.mean, data.std)
    marks = {prepare(d, subset=None, val_fraction=0, seed=0).fingerprint for d in (data, other)}
    assert len(marks) == 1


def test_prepared_survives_pickling():
    prepared = prepare(toy(), subset=None, val_fraction=0.1, seed=0)
    again = pickle.loads(pickle.dumps(prepared))
    assert torch.equal(again.train.images, prepared.train.images)
    assert again.fingerprint == prepared.fingerprint
