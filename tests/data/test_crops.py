"""Random-resized-crop's boxes and pixels, and RandAugment, against torchvision."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.autoaugment import RandAugment, _apply_op

from raymd.data import randaugment
from raymd.data.augment import (
    Augmentation,
    Pixels,
    augment,
    choose_augmentation,
    clean_images,
    normalise,
    training_images,
)
from raymd.data.crops import CROP_AREA, CROP_RATIO, _crop_as_batch, crop_boxes, resized_crop
from raymd.data.draws import field, fraction, rehash, sample_hash
from raymd.errors import UserError

PHOTO = Augmentation(resized_crop=True, flip=True)


def images(batch=6, channels=3, side=40, seed=0) -> torch.Tensor:
    """Smooth images, as photographs are: noise would show the last pixel of a resampling."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((batch, channels, 5, 5), generator=generator) * 255
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 255)
    return smooth.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def hashes(count: int, *, epoch: int = 0) -> torch.Tensor:
    return sample_hash(torch.arange(count), seed=0, stream=1, epoch=epoch)


def test_fields_of_hashes_and_of_their_rehashes_are_uniform_and_unrelated():
    hash_B = hashes(20_000)
    draws = [fraction(hash_B, index) for index in range(3)]
    draws += [fraction(rehash(hash_B, number), 0) for number in (0, 1)]
    table = torch.stack(draws)
    assert table.mean(dim=1).sub(0.5).abs().max() < 0.01
    assert table.corrcoef().sub(torch.eye(5)).abs().max() < 0.03
    assert field(hash_B, 0).max() < 2**20


def test_boxes_have_imagenets_areas_and_ratios_and_lie_inside():
    side = 256
    top_B, left_B, height_B, width_B = crop_boxes(hashes(20_000), height=side, width=side).unbind(1)
    assert int((top_B + height_B).max()) <= side
    assert int((left_B + width_B).max()) <= side
    assert int(torch.stack([top_B, left_B]).min()) == 0
    ratio_B = width_B / height_B
    assert float(ratio_B.min()) > CROP_RATIO[0] * 0.97
    assert float(ratio_B.max()) < CROP_RATIO[1] * 1.03
    assert abs(float(ratio_B.log().mean())) < 0.01
    area_B = height_B * width_B / side**2
    assert float(area_B.min()) > 0.075
    # 0.54 would be the mean if boxes that do not fit were not drawn again
    torch.manual_seed(0)
    whole = torch.zeros(1, side, side)
    theirs = [RandomResizedCrop.get_params(whole, CROP_AREA, CROP_RATIO) for _ in range(5000)]
    area = sum(box[2] * box[3] for box in theirs) / 5000 / side**2
    assert float(area_B.mean()) == pytest.approx(area, abs=0.015)
    free = side - height_B > 20
    place = top_B[free] / (side - height_B[free])
    assert float(place.mean()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_crop_is_torchvisions_crop_and_resize(channels):
    batch, hash_B = images(channels=channels), hashes(6)
    boxes_B4 = crop_boxes(hash_B, height=40, width=40)
    made = resized_crop(batch.permute(0, 2, 3, 1), boxes_B4, side=35).permute(0, 3, 1, 2)
    for n, (top, left, height, width) in enumerate(boxes_B4.tolist()):
        box = batch[n : n + 1, :, top : top + height, left : left + width].float()
        expected = F.interpolate(box, size=(35, 35), mode="bilinear", antialias=True)
        assert (made[n] - expected[0]).abs().max() <= 1.5


def test_the_batched_crop_of_gpus_differs_by_the_missing_antialias_alone():
    batch = images(side=64).permute(0, 2, 3, 1)
    boxes_B4 = crop_boxes(hashes(6), height=64, width=64)
    one_by_one = resized_crop(batch, boxes_B4, side=56)
    assert (_crop_as_batch(batch, boxes_B4, side=56).float() - one_by_one).abs().max() <= 3


def test_a_larger_stored_image_is_seen_in_the_middle_or_at_random():
    batch = images()
    pixels = Pixels((0.5,) * 3, (0.25,) * 3, 35, PHOTO)
    clean = clean_images(batch, pixels=pixels)
    middle = normalise(batch[:, :, 2:37, 2:37], mean=pixels.mean, std=pixels.std)
    assert torch.equal(clean, middle)
    made = training_images(batch, hash_B=hashes(6), pixels=pixels)
    assert made.shape == clean.shape == (6, 3, 35, 35)
    for shown in (made, clean):
        assert shown.dtype == torch.float32
        assert shown.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(made, training_images(batch, hash_B=hashes(6, epoch=1), pixels=pixels))


def test_without_augmentation_training_sees_the_middle_too():
    pixels = Pixels((0.5,) * 3, (0.25,) * 3, 35)
    shown = training_images(images(), hash_B=hashes(6), pixels=pixels)
    assert torch.equal(shown, clean_images(images(), pixels=pixels))


def test_a_smaller_stored_image_is_scaled_up_last():
    batch = images(side=8)
    pixels = Pixels((0.5,) * 3, (0.25,) * 3, 16, Augmentation(pad=1, flip=True))
    made = training_images(batch, hash_B=hashes(6), pixels=pixels)
    small = augment(batch, hash_B=hashes(6), augmentation=pixels.augmentation)
    small = normalise(small, mean=pixels.mean, std=pixels.std)
    assert torch.equal(made, F.interpolate(small, size=(16, 16), mode="bilinear"))
    assert made.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", [PHOTO, Augmentation(randaugment=True),
                                          Augmentation(True, True, True, True)])  # fmt: skip
def test_pixels_do_not_depend_on_the_rest_of_the_batch(channels, augmentation):
    batch, hash_B = images(batch=40, channels=channels), hashes(40)
    settings = {"augmentation": augmentation, "image_size": 35}
    together = augment(batch, hash_B=hash_B, **settings)
    some = torch.tensor([30, 2, 17])
    assert torch.equal(augment(batch[some], hash_B=hash_B[some], **settings), together[some])
    alone = augment(batch[7:8], hash_B=hash_B[7:8], **settings)
    assert torch.equal(alone, together[7:8])


def torchvision_s(index: int, sign: float, batch: torch.Tensor) -> torch.Tensor:
    space = RandAugment()._augmentation_space(31, tuple(batch.shape[2:]))
    name = list(space)[index]
    strengths, signed = space[name]
    assert signed == randaugment.OPERATIONS[index][1]
    strength = float(strengths[9]) if strengths.ndim else 0.0
    nearest = RandAugment().interpolation
    return _apply_op(batch, name, sign * strength, interpolation=nearest, fill=None)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("index", range(14))
def test_each_operation_is_torchvisions(index, sign, channels):
    operation, signed = randaugment.OPERATIONS[index]
    batch = images(channels=channels).contiguous()
    sign = sign if signed else 1.0
    difference = operation(batch, sign).int() - torchvision_s(index, sign, batch)
    assert difference.abs().max() <= 1  # its v1, which rounds unlike v2


def test_randaugment_applies_two_operations_of_the_samples_own_hash():
    batch, hash_B = images(batch=50), hashes(50)
    made = randaugment.rand_augment(batch, hash_B=hash_B)
    drawn = set()
    for n in range(50):
        expected = batch[n : n + 1].contiguous()
        for layer in (0, 1):
            ((index, sign),) = randaugment._groups(hash_B[n : n + 1], layer=layer)
            expected = randaugment.OPERATIONS[index][0](expected, sign)
            drawn.add(index)
        assert torch.equal(made[n : n + 1], expected)
    assert drawn == set(range(14))


def test_randaugment_leaves_its_input_and_global_generators_alone():
    batch, before = images(), images()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    randaugment.rand_augment(batch, hash_B=hashes(6))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(batch, before)


CIFAR = Augmentation(pad=4, flip=True)


@pytest.mark.parametrize(
    ("names", "default", "side", "expected"),
    [
        (None, CIFAR, 32, CIFAR),
        (("none",), CIFAR, 32, Augmentation()),
        (("crop-flip",), CIFAR, 32, CIFAR),
        (("crop-flip",), Augmentation(), 8, Augmentation(pad=1)),
        (("crop-flip",), Augmentation(), 256, PHOTO),
        (("randaugment",), CIFAR, 32, Augmentation(randaugment=True)),
        (("mixup", "crop-flip"), CIFAR, 32, Augmentation(4, True, mixup_alpha=0.3)),
        (("crop-flip", "randaugment", "mixup"), PHOTO, 256,
         Augmentation(0, True, True, True, mixup_alpha=0.3)),
    ],
)  # fmt: skip
def test_names_choose_what_is_done(names, default, side, expected):
    settings = {"side": side, "is_grey": True, "mixup_alpha": 0.3}
    assert choose_augmentation(names, default=default, **settings) == expected


@pytest.mark.parametrize(
    ("names", "alpha", "message"),
    [
        (("none", "mixup"), 0.2, r"augment none,mixup: 'none' stands alone \(--augment\)"),
        (("mixup", "mixup"), 0.2, "names one twice"),
        (("mixup",), 0.0, r"mixup_alpha 0: mixup takes one above 0 \(--mixup_alpha\)"),
        (("mixup",), math.nan, "mixup_alpha nan"),
        (("crop",), 0.2, r"unknown augmentation 'crop' \(--augment\): did you mean crop-flip"),
        ((), 0.2, r"no augmentation named: --augment none\|crop-flip"),
    ],
)
def test_names_that_do_not_go_together_are_refused(names, alpha, message):
    with pytest.raises(UserError, match=message):
        choose_augmentation(names, default=CIFAR, side=32, is_grey=False, mixup_alpha=alpha)
