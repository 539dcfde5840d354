"""The registry, digits, and MNIST through a fake torchvision."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision

from raymd.data import datasets, load_dataset, names, register_dataset
from raymd.data.augment import Augmentation
from raymd.data.dataset import Dataset, Split
from raymd.errors import DataError, UserError


def two_grey_images() -> Split:
    return Split.from_arrays(np.zeros((2, 4, 4), np.uint8), np.array([0, 1]))


def tiny(**changes) -> Dataset:
    parts = {"train": two_grey_images(), "test": two_grey_images()}
    settings = {"classes": ("a", "b"), "mean": (0.5,), "std": (0.5,)}
    return Dataset("tiny", **{**parts, **settings, **changes})


@pytest.fixture
def empty_registry(monkeypatch):
    monkeypatch.setattr(datasets, "_LOADERS", dict(datasets._LOADERS))
    monkeypatch.setattr(names, "_ARGUMENTS", dict(names._ARGUMENTS))


def test_importing_the_package_and_checking_names_loads_no_torch():
    code = (
        "import sys, raymd.data, raymd.data.names as n; n.check_dataset('parquet:/x');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_listed_name_has_a_loader():
    assert set(names._ARGUMENTS) == set(datasets._LOADERS)


def test_names_are_listed_as_the_flag_takes_them():
    listed = "arrow:DIR cifar10 cifar100 digits fashion_mnist folder:DIR imagenet mnist parquet:DIR"
    known = names.known_datasets()
    assert known == sorted(known)
    assert set(listed.split()) <= set(known)  # other tests may have registered theirs


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar1", r"unknown data set 'cifar1' \(--dataset\): did you mean .*cifar10"),
        ("parquet", r"lacks its argument: --dataset parquet:DIR"),
        ("parquet:", r"lacks its argument"),
        ("digits:8", r"takes no argument, got '8'"),
    ],
)
def test_wrong_specs_are_refused_with_the_remedy(spec, message):
    for check in (names.check_dataset, load_dataset):
        with pytest.raises(UserError, match=message):
            check(spec)


def test_argument_may_hold_colons():
    assert names.check_dataset("parquet:C:/x") == ("parquet", "C:/x")


@pytest.mark.usefixtures("empty_registry")
def test_one_decorated_function_registers_a_dataset(tmp_path):
    seen = []

    @register_dataset("mine", argument="PART")
    def load(*, data_dir, argument, image_size):
        seen.append((data_dir, argument, image_size))
        return tiny()

    assert load_dataset("mine:left", data_dir=str(tmp_path)).classes == ("a", "b")
    assert load_dataset("mine:left", image_size=6).image_size == 6
    assert seen == [(tmp_path, "left", None), (None, "left", 6)]
    assert "mine:PART" in names.known_datasets()


@pytest.mark.usefixtures("empty_registry")
def test_a_taken_name_is_refused_and_a_reloaded_loader_is_not():
    def load(*, data_dir, argument, image_size):
        return tiny()

    with pytest.raises(
        UserError, match=r"already registered by raymd\.data\.datasets\.load_digits"
    ):
        register_dataset("digits")(load)
    register_dataset("mine")(load)
    register_dataset("mine")(load)
    with pytest.raises(UserError, match="without ':'"):
        register_dataset("a:b")(load)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a",)}, "train labels run from 0 to 1, but 1 classes"),
        ({"mean": (0.5, 0.5)}, "but 1 positive values"),
        ({"std": (0.0,)}, "but 1 positive values"),
        (
            {"test": Split.from_arrays(np.zeros((1, 5, 4), np.uint8), np.array([0]))},
            r"differ in shape: \[\(1, 4, 4\), \(1, 5, 4\)\]",
        ),
        (
            {"test": Split.from_arrays(np.zeros((0, 4, 4), np.uint8), np.array([]))},
            "the test part has no images",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        tiny(**changes)


@pytest.mark.usefixtures("empty_registry")
def test_a_loader_that_cuts_is_told_the_subset():
    seen = []

    @register_dataset("mine", cuts=True)
    def load(*, data_dir, argument, image_size, subset, seed):
        seen.append((subset, seed))
        return tiny()

    load_dataset("mine", subset=1, seed=7)
    assert seen == [(1, 7)]
    load_dataset("digits", subset=10)  # one that does not cut is not told


def test_larger_networks_see_the_stored_images_scaled_up():
    digits = load_dataset("digits", image_size=32)
    assert digits.image_size == digits.pixels.image_size == 32
    assert digits.train.images.shape == (1437, 1, 8, 8)
    assert digits.notes == ("images of 8x8 pixels are shown as 32x32",)
    assert load_dataset("digits", image_size=8).notes == ()


def test_smaller_networks_get_images_resized_once():
    small = load_dataset("digits", image_size=4)
    assert small.train.images.shape == (1437, 1, 4, 4)
    assert small.train.images.is_contiguous(memory_format=torch.channels_last)
    before, after = load_dataset("digits").train.images, small.train.images
    assert float(after.double().mean()) == pytest.approx(float(before.double().mean()), rel=0.05)


@pytest.mark.parametrize("size", [3, 1025])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(
        UserError, match=rf"image_size {size}: allowed are 4 to 1024 .*--image_size"
    ):
        load_dataset("digits", image_size=size)


def test_images_that_are_not_square_are_seen_as_they_are_or_resized_to_squares():
    wide = Split.from_arrays(np.zeros((2, 4, 6), np.uint8), np.array([0, 1]))
    assert tiny(train=wide, test=wide).image_size == 6
    with pytest.raises(DataError, match="stored as 6x4 pixels cannot be seen as 8 a side"):
        tiny(train=wide, test=wide, image_size=8)
    with pytest.raises(DataError, match="resized_crop takes squares, not 6x4"):
        tiny(train=wide, test=wide, augmentation=Augmentation(resized_crop=True))
    long = Split.from_arrays(np.zeros((2, 90, 70), np.uint8), np.array([0, 1]))
    assert tiny(train=long, test=long).crop_side == 64
    square = datasets.at_size(tiny(train=wide, test=wide), image_size=8)
    assert square.train.images.shape == (2, 1, 8, 8)


def test_split_checks_dtypes_and_lengths():
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(DataError, match="uint8"):
        Split(images.float(), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DataError, match=r"int64 \[N\]"):
        Split(images, torch.zeros(3, dtype=torch.int64))


def test_rows_keep_order_pixels_and_memory_format():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    split = Split.from_arrays(pixels, np.arange(5)).rows(torch.tensor([3, 0]))
    assert split.labels.tolist() == [3, 0]
    assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), pixels[[3, 0]])
    assert split.images.is_contiguous(memory_format=torch.channels_last)


def test_digits_have_a_fixed_stratified_split_and_true_statistics():
    digits = load_dataset("digits")
    assert digits.train.images.shape == (1437, 1, 8, 8)
    assert digits.test.images.shape == (360, 1, 8, 8)
    assert digits.test.labels.bincount().sub(36).abs().max() <= 1
    assert int(digits.train.images.max()) == 255
    scaled = digits.train.images.double() / 255
    assert digits.mean[0] == pytest.approx(float(scaled.mean()), abs=5e-5)
    assert digits.std[0] == pytest.approx(float(scaled.std(correction=0)), abs=5e-5)
    assert digits.augmentation == Augmentation(pad=0, flip=False)
    assert torch.equal(load_dataset("digits").test.images, digits.test.images)


class FakeMnist:
    """torchvision's MNIST, which has tensors where CIFAR has arrays."""

    classes = ("0 - zero", "1 - one")

    def __init__(self, root, *, train, download):
        self.data = torch.full((4 if train else 2, 28, 28), 9 * train, dtype=torch.uint8)
        self.targets = torch.tensor([0, 1] * (2 if train else 1))


@pytest.mark.parametrize(
    ("name", "reader", "flip"), [("mnist", "MNIST", False), ("fashion_mnist", "FashionMNIST", True)]
)
def test_mnist_is_shifted_by_two_pixels(monkeypatch, tmp_path, name, reader, flip):
    monkeypatch.setattr(torchvision.datasets, reader, FakeMnist)
    data = load_dataset(name, data_dir=tmp_path)
    assert (data.name, data.classes) == (name, ("0 - zero", "1 - one"))
    assert data.train.images.shape == (4, 1, 28, 28)
    assert int(data.train.images[3, 0, 0, 0]) == 9
    assert data.test.labels.tolist() == [0, 1]
    assert data.augmentation == Augmentation(pad=2, flip=flip)


def test_folder_without_its_kind_is_answered_with_the_kinds(tmp_path):
    with pytest.raises(UserError, match=f"folder:{tmp_path} for images"):
        names.check_dataset(str(tmp_path))
