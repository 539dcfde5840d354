"""Order, batches, ranks, and the pixels that EpochLoader makes of them."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from raymd.data.augment import Augmentation, Pixels, augment, normalise
from raymd.data.dataset import Split
from raymd.data.draws import sample_hash
from raymd.data.loader import EpochLoader, clean_batches, id_slices, view_batches
from raymd.data.order import (
    check_ranks,
    epoch_permutation,
    global_batch,
    mixup_draw,
    num_steps,
    part_of_ranks,
)
from raymd.errors import UserError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
STATISTICS = {"mean": MEAN, "std": STD}
RECIPE = Augmentation(pad=2, flip=True)
PIXELS = Pixels(MEAN, STD, 8, RECIPE)


def toy(rows: int = 53) -> Split:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (rows, 6, 8, 3), np.uint8)
    return Split.from_arrays(pixels, rng.integers(0, 4, rows))


def loader(split: Split, **changes) -> EpochLoader:
    settings = {"batch_size": 10, "seed": 3, "stream": 7, "device": "cpu", "pixels": PIXELS}
    return EpochLoader(split, **{**settings, **changes})


@pytest.mark.parametrize(("rows", "batch_size"), [(53, 10), (10, 10), (11, 10), (1, 10), (129, 64)])
def test_batches_cover_the_epoch_in_nearly_equal_parts(rows, batch_size):
    order = torch.arange(rows)
    steps = num_steps(rows, batch_size)
    parts = [global_batch(order, step=step, steps=steps) for step in range(steps)]
    assert steps == int(np.ceil(rows / batch_size))
    assert [p.tolist() for p in parts] == [p.tolist() for p in torch.tensor_split(order, steps)]
    sizes = {len(part) for part in parts}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_ranks_share_a_batch_by_the_same_rule():
    parts = [list(range(10)[part_of_ranks(10, index=rank, parts=3)]) for rank in range(3)]
    assert parts == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_an_empty_rank_is_refused_before_training():
    with pytest.raises(UserError, match=r"2 rows for 3 workers.*--batch_size"):
        check_ranks(2, world_size=3)
    with pytest.raises(UserError, match="2 rows for 3 workers"):
        loader(toy(8), batch_size=3, world_size=3)  # steps of 3, 3 and 2
    assert len(list(loader(toy(9), batch_size=3, world_size=3).batches(0))) == 3


@pytest.mark.parametrize(("rows", "batch_size"), [(0, 4), (4, 0)])
def test_nothing_to_load_is_refused(rows, batch_size):
    with pytest.raises(UserError, match="--batch_size, --subset"):
        loader(toy(rows), batch_size=batch_size)


def test_order_is_a_function_of_seed_stream_and_epoch():
    position = {"seed": 1, "stream": 2**62, "epoch": 0}
    torch.manual_seed(0)
    first = epoch_permutation(50, **position)
    torch.manual_seed(1)
    assert torch.equal(first, epoch_permutation(50, **position))
    assert sorted(first.tolist()) == list(range(50))
    for name in position:
        other = epoch_permutation(50, **{**position, name: position[name] + 1})
        assert not torch.equal(first, other)


def test_an_epoch_shows_each_sample_once_with_its_label():
    split = toy()
    batches = list(loader(split).batches(4))
    ids = torch.cat([batch.sample_ids for batch in batches])
    assert torch.equal(ids, epoch_permutation(53, seed=3, stream=7, epoch=4))
    assert [batch.step for batch in batches] == list(range(6))
    assert [batch.global_rows for batch in batches] == [9, 9, 9, 9, 9, 8]
    for batch in batches:
        assert torch.equal(batch.labels, split.labels[batch.sample_ids])


def test_images_are_augmented_and_normalised_by_position():
    split = toy()
    for batch in loader(split).batches(4):
        ids = batch.sample_ids
        hash_B = sample_hash(ids, seed=3, stream=7, epoch=4)
        cropped = augment(split.images[ids], hash_B=hash_B, augmentation=RECIPE)
        assert torch.equal(batch.images, normalise(cropped, **STATISTICS))
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def pixels_by_id(batches) -> dict[int, bytes]:
    return {
        int(number): image.numpy().tobytes()
        for batch in batches
        for number, image in zip(batch.sample_ids, batch.images, strict=True)
    }


def test_pixels_depend_neither_on_batch_size_nor_on_ranks():
    split = toy()
    alone = pixels_by_id(loader(split).batches(2))
    assert len(set(alone.values())) == 53
    assert alone == pixels_by_id(loader(split, batch_size=25).batches(2))
    ranks = [list(loader(split, rank=rank, world_size=4).batches(2)) for rank in range(4)]
    assert alone == pixels_by_id(batch for batches in ranks for batch in batches)
    for parts in zip(*ranks, strict=True):
        assert {part.global_rows for part in parts} == {sum(len(part.labels) for part in parts)}
    assert alone != pixels_by_id(loader(split).batches(3))


def test_an_epoch_can_be_entered_at_any_step():
    made = loader(toy())
    whole, rest = list(made.batches(1)), list(made.batches(1, start_step=4))
    assert [batch.step for batch in rest] == [4, 5]
    for one, other in zip(whole[4:], rest, strict=True):
        assert torch.equal(one.images, other.images)
    assert not list(made.batches(1, start_step=made.steps))


def test_a_view_is_the_same_crop_in_every_epoch_for_every_student():
    split = toy()
    first = pixels_by_id(loader(split).batches(1, view=0))
    assert first == pixels_by_id(loader(split, stream=8).batches(5, view=0))
    assert first != pixels_by_id(loader(split).batches(1, view=1))
    shown = view_batches(
        split,
        id_slices(20, 40, size=9),
        view=0,
        pixels=PIXELS,
        seed=3,
        device="cpu",
    )
    published = {
        ids.start + row: image.numpy().tobytes()
        for images, ids in shown
        for row, image in enumerate(images)
    }
    assert published == {number: first[number] for number in range(20, 40)}


def test_a_view_does_not_change_the_order():
    made = loader(toy())
    orders = [
        torch.cat([batch.sample_ids for batch in made.batches(1, view=view)]) for view in (None, 3)
    ]
    assert torch.equal(*orders)


@pytest.mark.parametrize(("start", "stop"), [(0, None), (5, 31), (7, 7)])
def test_clean_batches_go_through_the_ids_in_order(start, stop):
    split = toy()
    end = 53 if stop is None else stop
    slices = id_slices(start, end, size=10)
    batches = list(clean_batches(split, slices, pixels=PIXELS, device="cpu"))
    seen = [number for _, ids in batches for number in range(ids.start, ids.stop)]
    assert seen == list(range(start, end))
    for images, ids in batches:
        assert torch.equal(images, normalise(split.images[ids], **STATISTICS))


def test_any_memory_format_gives_the_same_batches_and_channels_last_is_not_copied():
    split = toy()
    other = Split(split.images.contiguous(), split.labels)
    made = loader(split)
    assert made._feed.images_NHWC.data_ptr() == split.images.data_ptr()
    assert pixels_by_id(made.batches(0)) == pixels_by_id(loader(other).batches(0))


PLAIN = Pixels(MEAN, STD, 8, Augmentation(pad=2, flip=True, randaugment=True))
MIXUP = replace(PLAIN, augmentation=replace(PLAIN.augmentation, mixup_alpha=0.4))


def test_batches_of_photographs_are_of_the_networks_size():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 40, 40, 3), np.uint8)
    split = Split.from_arrays(pixels, np.arange(12))
    seen = Pixels(MEAN, STD, 35, Augmentation(resized_crop=True, flip=True))
    first = pixels_by_id(loader(split, pixels=seen).batches(1, view=0))
    settings = {"slices": id_slices(0, 12, size=5), "pixels": seen, "device": "cpu"}
    views = [images for images, _ in view_batches(split, view=0, seed=3, **settings)]
    assert torch.cat(views).shape == (12, 3, 35, 35)
    assert [image.numpy().tobytes() for image in torch.cat(views)] == [first[n] for n in range(12)]
    clean = torch.cat([images for images, _ in clean_batches(split, **settings)])
    assert torch.equal(clean, normalise(split.images[:, :, 2:37, 2:37], **STATISTICS))


def test_mixup_mixes_the_images_with_those_of_the_same_global_batch():
    split = toy()
    plain = loader(split, pixels=PLAIN)
    pixels = {
        int(number): image
        for batch in plain.batches(4)
        for number, image in zip(batch.sample_ids, batch.images, strict=True)
    }
    shares = set()
    for batch in loader(split, pixels=MIXUP).batches(4):
        mixed = batch.mixed
        assert sorted(mixed.sample_ids.tolist()) == sorted(batch.sample_ids.tolist())
        assert torch.equal(mixed.labels, split.labels[mixed.sample_ids])
        assert 0 <= mixed.share <= 1
        shares.add(mixed.share)
        for n, (own, partner) in enumerate(zip(batch.sample_ids, mixed.sample_ids, strict=True)):
            both = mixed.share * pixels[int(own)] + (1 - mixed.share) * pixels[int(partner)]
            assert torch.allclose(batch.images[n], both, atol=1e-5)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert len(shares) == 6
    assert all(batch.mixed is None for batch in plain.batches(4))


def test_ranks_see_the_mixed_images_of_one_worker():
    split = toy()
    alone = list(loader(split, pixels=MIXUP).batches(2))
    ranks = [
        list(loader(split, pixels=MIXUP, rank=rank, world_size=3).batches(2)) for rank in range(3)
    ]
    for whole, *parts in zip(alone, *ranks, strict=True):
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert {part.mixed.share for part in parts} == {whole.mixed.share}
        ids = torch.cat([part.mixed.sample_ids for part in parts])
        assert torch.equal(ids, whole.mixed.sample_ids)


def test_mixup_is_drawn_from_seed_stream_epoch_and_step():
    position = {"seed": 1, "stream": 2, "epoch": 3, "step": 4}
    partner_n, share = mixup_draw(20, alpha=0.2, **position)
    again_n, same = mixup_draw(20, alpha=0.2, **position)
    assert torch.equal(partner_n, again_n)
    assert share == same
    for name in position:
        other_n, other = mixup_draw(20, alpha=0.2, **{**position, name: position[name] + 1})
        assert other != share
        assert not torch.equal(other_n, partner_n)
    shares = [mixup_draw(2, alpha=0.2, **{**position, "step": n})[1] for n in range(2000)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.015)  # of the Beta


def test_a_large_split_stays_where_it_is(monkeypatch):
    monkeypatch.setattr("raymd.data.feed.MAX_DEVICE_BYTES", 10)
    split = toy()
    made = loader(split, device="meta")
    assert made._feed.images_NHWC.device.type == "cpu"
    monkeypatch.setattr("raymd.data.feed.MAX_DEVICE_BYTES", 10**9)
    assert loader(split, device="meta")._feed.images_NHWC.device.type == "meta"


def test_loader_survives_pickling():
    made = loader(toy())
    again = pickle.loads(pickle.dumps(made))
    assert pixels_by_id(again.batches(0)) == pixels_by_id(made.batches(0))
