"""RandAugment (Cubuk et al. 2020) on whole batches: two operations a sample, from its own hash.

Place on the data's way: augment.py calls it, after crop and flip. The operations and strengths are
those of ``torchvision.transforms.RandAugment(num_ops=2, magnitude=9)``; here each operation runs
once for all samples that drew it, and nothing is drawn from a global generator.

    B batch   C channels   H height   W width
"""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
from torchvision.transforms.v2 import functional as v2

from raymd.data.draws import field, rehash

NUM_OPS = 2
STRENGTH = 9 / 30  # magnitude 9 of torchvision's bins 0..30
# Unlike any number that crops.py gives to rehash.
FIRST_NUMBER = 1000

Operation = Callable[[torch.Tensor, float], torch.Tensor]


def _shear_x(images: torch.Tensor, sign: float) -> torch.Tensor:
    return _shear(images, [math.degrees(math.atan(sign * 0.3 * STRENGTH)), 0.0])


def _shear_y(images: torch.Tensor, sign: float) -> torch.Tensor:
    return _shear(images, [0.0, math.degrees(math.atan(sign * 0.3 * STRENGTH))])


def _shear(images: torch.Tensor, degrees: list[float]) -> torch.Tensor:
    return v2.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0, 0])


def _translate_x(images: torch.Tensor, sign: float) -> torch.Tensor:
    return _translate(images, [int(sign * 150 / 331 * images.shape[-1] * STRENGTH), 0])


def _translate_y(images: torch.Tensor, sign: float) -> torch.Tensor:
    return _translate(images, [0, int(sign * 150 / 331 * images.shape[-2] * STRENGTH)])


def _translate(images: torch.Tensor, pixels: list[int]) -> torch.Tensor:
    return v2.affine(images, angle=0.0, translate=pixels, scale=1.0, shear=[0.0, 0.0])


# In torchvision's order. The second value of a pair: whether the strength has a random sign.
OPERATIONS: tuple[tuple[Operation, bool], ...] = (
    (lambda images, _: images, False),
    (_shear_x, True),
    (_shear_y, True),
    (_translate_x, True),
    (_translate_y, True),
    (lambda images, sign: v2.rotate(images, sign * 30 * STRENGTH), True),
    (lambda images, sign: v2.adjust_brightness(images, 1 + sign * 0.9 * STRENGTH), True),
    (lambda images, sign: v2.adjust_saturation(images, 1 + sign * 0.9 * STRENGTH), True),
    (lambda images, sign: v2.adjust_contrast(images, 1 + sign * 0.9 * STRENGTH), True),
    (lambda images, sign: v2.adjust_sharpness(images, 1 + sign * 0.9 * STRENGTH), True),
    (lambda images, _: v2.posterize(images, 8 - round(4 * STRENGTH)), False),
    (lambda images, _: v2.solarize(images, 255 * (1 - STRENGTH)), False),
    (lambda images, _: v2.autocontrast(images), False),
    (lambda images, _: v2.equalize(images), False),
)


def rand_augment(images_BCHW: torch.Tensor, *, hash_B: torch.Tensor) -> torch.Tensor:
    """Two random operations on each image.

    Args:
        images_BCHW: uint8, of 1 or 3 channels.
        hash_B: int64 [B] of ``sample_hash``.

    Returns:
        uint8 [B, C, H, W] in channels_last; a sample's pixels depend on its hash alone.
    """
    made = images_BCHW.clone(memory_format=torch.channels_last)
    for layer in range(NUM_OPS):
        for (index, sign), rows in _groups(hash_B, layer=layer).items():
            operation, _ = OPERATIONS[index]
            rows_b = torch.tensor(rows, device=made.device)
            made[rows_b] = operation(made[rows_b], sign)
    return made


def _groups(hash_B: torch.Tensor, *, layer: int) -> dict[tuple[int, float], list[int]]:
    """The rows that drew the same operation (its index and sign) in one of the layers."""
    layer_B = rehash(hash_B, FIRST_NUMBER + layer)
    index_B = (field(layer_B, 0) % len(OPERATIONS)).tolist()
    negative_B = (field(layer_B, 1) & 1).tolist()
    groups: dict[tuple[int, float], list[int]] = defaultdict(list)
    for row, (index, negative) in enumerate(zip(index_B, negative_B, strict=True)):
        has_sign = OPERATIONS[index][1]
        groups[index, -1.0 if has_sign and negative else 1.0].append(row)
    return groups
