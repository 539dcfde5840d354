"""Crop, flip and normalise against slicing by hand; the hash against a scalar splitmix64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from raymd.data.augment import Augmentation, augment, normalise
from raymd.data.crops import crop_offsets, flip_mask
from raymd.data.draws import position_key, sample_hash, stream_of

MASK = (1 << 64) - 1


def images(batch=16, channels=3, height=8, width=10, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def hashes(count: int, *, epoch: int = 0) -> torch.Tensor:
    return sample_hash(torch.arange(count), seed=0, stream=1, epoch=epoch)


def splitmix64(value: int, key: int) -> int:
    z = (value * 0x9E3779B97F4A7C15 + key) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return (z ^ (z >> 31)) & (MASK >> 1)


def test_hash_is_splitmix64_on_every_id():
    ids = torch.tensor([0, 1, 2, 12345, 2**40])
    key = position_key("sample", seed=7, stream=11, epoch=3)
    expected = [splitmix64(i, key) for i in ids.tolist()]
    assert sample_hash(ids, seed=7, stream=11, epoch=3).tolist() == expected


def test_hash_depends_on_each_part_of_the_position():
    position = {"seed": 1, "stream": 2, "epoch": 3}
    draws = [sample_hash(torch.arange(100), **position)]
    draws += [
        sample_hash(torch.arange(100), **{**position, name: position[name] + 1})
        for name in position
    ]
    assert len(set(torch.cat(draws).tolist())) == 400


def test_streams_are_fixed_63_bit_numbers():
    # A literal: runs are resumed by other processes, whose hash has to be this one.
    assert stream_of("resnet8") == 5853427237171843861
    assert all(0 <= stream_of(f"resnet8-{i}") < 2**63 for i in range(100))


@pytest.mark.parametrize("bit", range(63))
def test_each_bit_of_the_hash_is_fair(bit):
    ones = ((hashes(20_000) >> bit) & 1).double().mean()
    assert abs(float(ones) - 0.5) < 5 * 0.5 / 20_000**0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("augmentation", [Augmentation(4, True), Augmentation(1), Augmentation(2)])
def test_each_sample_is_what_slicing_by_hand_gives(channels, memory_format, augmentation):
    batch = images(batch=40, channels=channels).to(memory_format=memory_format)
    hash_B, pad = hashes(40), augmentation.pad
    made = augment(batch, hash_B=hash_B, augmentation=augmentation)
    top_B, left_B = crop_offsets(hash_B, pad=pad)
    flipped_B = flip_mask(hash_B) if augmentation.flip else torch.zeros(40, dtype=torch.bool)
    for n, (top, left) in enumerate(zip(top_B.tolist(), left_B.tolist(), strict=True)):
        crop = F.pad(batch[n], (pad,) * 4)[:, top : top + 8, left : left + 10]
        assert torch.equal(made[n], crop.flip(2) if flipped_B[n] else crop)
    assert made.dtype == torch.uint8
    assert made.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(flip=True)])
def test_without_padding_there_is_no_crop(augmentation):
    batch, hash_B = images(), hashes(16)
    made = augment(batch, hash_B=hash_B, augmentation=augmentation)
    for n, mirrored in enumerate((flip_mask(hash_B) & augmentation.flip).tolist()):
        assert torch.equal(made[n], batch[n].flip(2) if mirrored else batch[n])


def test_offsets_are_uniform_and_flips_about_half():
    count, positions = 40_500, 9
    hash_B = hashes(count)
    top_B, left_B = crop_offsets(hash_B, pad=4)
    seen = torch.bincount(
        (top_B * positions + left_B) * 2 + flip_mask(hash_B), minlength=2 * positions**2
    )
    expected = count / (2 * positions**2)
    chi_square = float(((seen - expected) ** 2 / expected).sum())
    freedom = 2 * positions**2 - 1
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5


def test_pixels_do_not_depend_on_the_rest_of_the_batch():
    batch, recipe = images(batch=32), Augmentation(3, True)
    together = augment(batch, hash_B=hashes(32), augmentation=recipe)
    ids = torch.tensor([30, 2, 17])
    hash_B = sample_hash(ids, seed=0, stream=1, epoch=0)
    assert torch.equal(augment(batch[ids], hash_B=hash_B, augmentation=recipe), together[ids])


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise_matches_the_formula(channels):
    mean, std = (0.49, 0.48, 0.44)[:channels], (0.2, 0.19, 0.21)[:channels]
    batch = images(channels=channels)
    made = normalise(batch, mean=mean, std=std)
    scaled = np.moveaxis(batch.numpy() / 255, 1, 3)
    expected = np.moveaxis((scaled - np.array(mean)) / np.array(std), 3, 1)
    assert np.allclose(made.numpy(), expected, atol=1e-6)
    assert made.dtype == torch.float32
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_normalise_leaves_its_input_and_its_last_result_alone():
    batch = images().to(memory_format=torch.channels_last)
    before = batch.clone()
    first = normalise(batch, mean=(0.5,) * 3, std=(0.5,) * 3)
    kept = first.clone()
    normalise(images(seed=1), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert torch.equal(first, kept)
    assert torch.equal(batch, before)


def test_normalise_first_used_in_inference_mode_serves_training_too():
    mean, std = (0.125, 0.25, 0.375), (0.5, 0.25, 0.125)
    with torch.inference_mode():
        normalise(images(height=7), mean=mean, std=std)
    weight = torch.ones(1, 3, 1, 1, requires_grad=True)
    F.conv2d(normalise(images(height=7), mean=mean, std=std), weight).sum().backward()
    assert weight.grad is not None
