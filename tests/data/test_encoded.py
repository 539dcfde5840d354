"""Images that stay encoded: order, crops, look-ahead, damage, and the way to the workers."""

import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from raymd.data import encoded, load_dataset
from raymd.data.augment import Augmentation
from raymd.data.crops import CROP_AREA, CROP_RATIO, crop_boxes
from raymd.data.damage import Damage
from raymd.data.draws import sample_hash, stream_of
from raymd.data.encoded import EncodedSplit
from raymd.data.loader import EpochLoader, clean_batches, id_slices, view_batches
from raymd.data.splits import Prepared, prepare
from raymd.errors import DataError
from raymd.execution.shipping import pack, shipment_bytes, unpack
from tests.data.photographs import fill_tree

SIDE = 32


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    fill_tree(folder / "train", images=20)
    fill_tree(folder / "val", images=3, first=500)
    return folder


def prepared(folder: Path, *, val_fraction=0.2, augment=None, **options) -> Prepared:
    data = load_dataset("imagenet", data_dir=folder, image_size=SIDE, **options)
    return prepare(
        data, subset=options.get("subset"), val_fraction=val_fraction, seed=0, augment=augment
    )


def loader(data: Prepared, **changes) -> EpochLoader:
    options = {"batch_size": 8, "seed": 3, "stream": stream_of("a"), "device": "cpu"}
    return EpochLoader(data.train, pixels=data.pixels, **{**options, **changes})


def by_id(batches) -> dict[int, bytes]:
    return {
        number: image.numpy().tobytes()
        for batch in batches
        for number, image in zip(batch.sample_ids.tolist(), batch.images, strict=True)
    }


def test_a_tree_is_read_as_classes_and_nothing_is_decoded(tree, monkeypatch):
    monkeypatch.setattr(encoded, "open_picture", lambda _: pytest.fail("opened"))
    data = load_dataset("imagenet", data_dir=tree)
    assert (len(data.train), len(data.test), data.classes) == (40, 6, ("cat", "dog"))
    assert isinstance(data.train, EncodedSplit)
    assert data.train.labels.tolist() == [0] * 20 + [1] * 20
    assert (data.image_size, data.train.channels, data.train.stored_size) == (224, 3, (256, 256))
    assert data.augmentation == Augmentation(resized_crop=True, flip=True)
    assert data.train.place(21) == f"{tree}/train/dog/001.jpg"


def test_batches_are_a_function_of_position_alone(tree):
    data = prepared(tree)
    every = list(loader(data).batches(1))
    assert [batch.step for batch in every] == [0, 1, 2, 3]
    assert every[0].images.shape == (8, 3, SIDE, SIDE)
    assert every[0].images.is_contiguous(memory_format=torch.channels_last)
    late = list(loader(data).batches(1, start_step=2))
    for one, other in zip(every[2:], late, strict=True):
        assert torch.equal(one.images, other.images)
    assert by_id(loader(data).batches(2)) != by_id(every)
    parts = [by_id(loader(data, rank=rank, world_size=2).batches(1)) for rank in (0, 1)]
    assert parts[0] | parts[1] == by_id(every)


def test_pixels_do_not_depend_on_the_number_of_threads(tree):
    data = prepared(tree)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(by_id(loader(data).batches(0)))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_views_and_clean_images_are_those_of_the_loader_and_of_the_middle(tree):
    data = prepared(tree)
    options = {"pixels": data.pixels, "device": "cpu"}
    slices = id_slices(0, len(data.train), size=7)
    views = torch.cat([im for im, _ in view_batches(data.train, slices, view=2, seed=3, **options)])
    of_loader = by_id(loader(data).batches(5, view=2))
    assert [image.numpy().tobytes() for image in views] == [of_loader[n] for n in range(len(views))]
    clean = torch.cat([images for images, _ in clean_batches(data.train, slices, **options)])
    plain = prepared(tree, augment=("none",))
    assert by_id(loader(plain).batches(0)) == {
        number: image.numpy().tobytes() for number, image in enumerate(clean)
    }


def test_mixup_takes_partners_of_other_ranks(tree):
    data = prepared(tree, augment=("crop-flip", "mixup"))
    whole = next(loader(data).batches(0))
    parts = [next(loader(data, rank=rank, world_size=2).batches(0)) for rank in (0, 1)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)


def test_boxes_of_oblong_images_are_torchvisions():
    hash_B = sample_hash(torch.arange(20_000), seed=0, stream=1, epoch=0)
    for width, height in ((500, 375), (300, 900), (1000, 60)):
        boxes_B4 = crop_boxes(hash_B, height=height, width=width).double()
        assert (boxes_B4[:, 0] + boxes_B4[:, 2]).max() <= height
        assert (boxes_B4[:, 1] + boxes_B4[:, 3]).max() <= width
        assert boxes_B4.min() >= 0
        torch.manual_seed(0)
        image = torch.zeros(1, height, width)
        theirs = torch.tensor(
            [RandomResizedCrop.get_params(image, CROP_AREA, CROP_RATIO) for _ in range(8000)]
        ).double()
        limits = torch.tensor([height, width, height, width])
        assert (boxes_B4.mean(0) - theirs.mean(0)).abs().div(limits).max() < 0.012
        assert (boxes_B4.std(0) - theirs.std(0)).abs().div(limits).max() < 0.012


def test_each_size_of_a_batch_has_the_boxes_it_would_have_alone():
    hash_B = sample_hash(torch.arange(3), seed=0, stream=1, epoch=0)
    sizes = torch.tensor([[375, 500], [90, 400], [64, 64]])
    together = crop_boxes(hash_B, height=sizes[:, 0], width=sizes[:, 1])
    for n, (height, width) in enumerate(sizes.tolist()):
        assert torch.equal(
            crop_boxes(hash_B[n : n + 1], height=height, width=width)[0], together[n]
        )


# -- look-ahead -----------------------------------------------------------------------------


def decode_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("raymd-decode")]


def test_a_few_requests_are_decoded_ahead_and_none_after_the_epoch_is_left(tree, monkeypatch):
    opened = []
    open_picture = encoded.open_picture
    monkeypatch.setattr(
        encoded, "open_picture", lambda source: opened.append(source) or open_picture(source)
    )
    batches = loader(prepared(tree), batch_size=2).batches(0)
    next(batches)
    time.sleep(0.3)
    ahead = encoded.REQUESTS_AHEAD
    assert len(opened) == 2 * (1 + ahead)
    batches.close()
    assert decode_threads() == []
    time.sleep(0.1)
    assert len(opened) == 2 * (1 + ahead)


def test_an_error_in_a_thread_reaches_who_wants_the_batch(tree, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("no memory")

    monkeypatch.setattr(encoded, "decode_box", fail)
    with pytest.raises(MemoryError, match="no memory"):
        list(loader(prepared(tree)).batches(0))
    assert decode_threads() == []


# -- on the way to the workers ----------------------------------------------------------------


def test_splits_arrive_as_they_left_and_take_little(tree):
    data = prepared(tree)
    arrived = unpack(pickle.loads(pickle.dumps(pack(data))))
    assert by_id(loader(arrived).batches(0)) == by_id(loader(data).batches(0))
    assert arrived.val.labels.tolist() == data.val.labels.tolist()
    assert shipment_bytes(data) < 46 * 100
    assert data.val.manifest is data.train.manifest  # and so it is sent, and counted, once
    splits = (data.train, data.val, data.test)
    twice = data.train.manifest.num_bytes
    assert shipment_bytes(data) == sum(split.num_bytes for split in splits) - twice
    assert data.train.device_bytes == 0


def test_fingerprints_tell_other_files_other_labels_and_other_cuts(tree, tmp_path):
    first = prepared(tree).fingerprint
    assert prepared(tree).fingerprint == first
    assert prepared(tree, val_fraction=0.1).fingerprint != first
    fill_tree(tmp_path / "train", images=20)
    fill_tree(tmp_path / "val", images=3, first=500)
    assert prepared(tmp_path).fingerprint == first  # wherever it lies
    (tmp_path / "train/cat/000.jpg").rename(tmp_path / "train/dog/x.jpg")
    moved = prepared(tmp_path).fingerprint
    assert moved != first
    file = tmp_path / "train/dog/x.jpg"
    file.write_bytes(file.read_bytes() + b"\0")
    assert prepared(tmp_path).fingerprint not in (first, moved)


def test_a_subset_is_what_prepare_would_keep(tree):
    cut = prepared(tree, subset=12)
    whole = prepare(
        load_dataset("imagenet", data_dir=tree, image_size=SIDE),
        subset=12,
        val_fraction=0.2,
        seed=0,
    )
    assert cut.fingerprint == whole.fingerprint


# -- damage -----------------------------------------------------------------------------------


def damaged_tree(folder: Path, *, damaged: int, images: int) -> Path:
    fill_tree(folder / "train", images=images)
    fill_tree(folder / "val", images=1, first=500)
    for number in range(damaged):
        file = folder / "train" / "cat" / f"{number:03d}.jpg"
        file.write_bytes(file.read_bytes()[: 700 if number % 2 else 3])
    return folder


def test_a_damaged_image_is_shown_flat_counted_and_told_of_once(tmp_path):
    data = prepared(damaged_tree(tmp_path, damaged=2, images=100), val_fraction=0)
    for batch in loader(data).batches(0):
        for number, image in zip(batch.sample_ids.tolist(), batch.images, strict=True):
            assert (float(image.std()) < 0.02) == (number in (0, 1))  # normalised: the mean is 0
    (note,) = data.train.notes()
    assert note.startswith(f"2 images cannot be read, and flat ones stand in for them: {tmp_path}/")
    assert "000.jpg: no image that Pillow can read" in note
    assert "001.jpg: the image is damaged" in note
    list(loader(data).batches(1))
    assert data.train.notes() == []
    assert data.train.notes(again=True) == [note]


def test_too_much_damage_is_refused_with_names(tmp_path):
    data = prepared(damaged_tree(tmp_path, damaged=20, images=60), val_fraction=0)
    with pytest.raises(DataError, match=r"2 of 120 images .* allowed are 1: .*\.jpg.*raymd pack"):
        list(loader(data).batches(0))


def test_damage_that_lies_together_and_is_met_first_is_judged_by_the_whole_split(tmp_path):
    data = prepared(damaged_tree(tmp_path, damaged=6, images=300), val_fraction=0)
    slices = id_slices(0, len(data.train), size=50)
    list(clean_batches(data.train, slices, pixels=data.pixels, device="cpu"))
    assert data.train.notes()[0].startswith("6 images cannot be read")


@pytest.mark.parametrize(("images", "allowed"), [(1, 0), (2, 1), (199, 1), (200, 2), (2900, 29)])
def test_one_in_a_hundred_is_allowed_and_one_of_few_but_never_all(images, allowed):
    damage = Damage(images)
    for number in range(allowed):
        damage.add(str(number), "x")
        damage.add(str(number), "x")  # an image counts once
    with pytest.raises(DataError, match=rf"{allowed + 1} of {images:,} images .* are {allowed}: "):
        damage.add("one more", "x")


# -- what needs more memory than there is ---------------------------------------------------


def test_large_images_that_would_not_fit_are_left_encoded(tmp_path, monkeypatch):
    fill_tree(tmp_path, images=10)
    small = load_dataset(f"folder:{tmp_path}", image_size=70)
    assert small.train.images.shape == (16, 3, 80, 80)
    monkeypatch.setattr("raymd.data.geometry.available_bytes", lambda: 600_000)
    data = load_dataset(f"folder:{tmp_path}", image_size=70)
    assert isinstance(data.train, EncodedSplit)
    assert data.train.labels.tolist() == small.train.labels.tolist()
    assert data.test.labels.tolist() == small.test.labels.tolist()
    (note, _) = data.notes
    assert note.startswith("20 images stored as 80x80x3 need 0.0 GiB, allowed is 60%")
    assert note.endswith("they are decoded batch by batch, in colour")
    again = replace(data, augmentation=Augmentation())
    made = prepare(again, subset=None, val_fraction=0, seed=0)
    assert next(loader(made).batches(0)).images.shape == (8, 3, 70, 70)
