"""Stored uint8 images become what a network sees: cropped, flipped, normalised, of its size.

Place on the data's way: the loader's uint8 images enter, float32 images for the network leave.
The pixels of a sample depend on (seed, stream, epoch or view, sample id) and on nothing else: not
on its batch, on its rank, nor on what was drawn before, so a resumed run repeats them exactly.

    B batch   C channels   H height   W width   S side that the network sees
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F

from raymd.data import crops
from raymd.data.names import check_augment
from raymd.errors import UserError

SMALL_SIDE = 64  # above this side, images are stored larger than they are seen
MIXUP_ALPHA = 0.2


@dataclass(frozen=True)
class Augmentation:
    """What training images undergo.

    Attributes:
        pad: Zero pixels added on each side before a crop of the image's own size; 0: no crop.
        flip: Whether every second image, by chance, is mirrored left to right.
        resized_crop: Whether a random box is resized to the network's side, as for ImageNet.
        randaugment: Whether two random operations follow (randaugment.py).
        mixup_alpha: Beta distribution of mixup's share; 0: no mixup. The loader mixes.
    """

    pad: int = 0
    flip: bool = False
    resized_crop: bool = False
    randaugment: bool = False
    mixup_alpha: float = 0.0


@dataclass(frozen=True)
class Pixels:
    """How a split's images become a network's.

    Attributes:
        mean, std: Of each channel, for pixels scaled to 0..1.
        image_size: The side S that networks see. Larger stored squares are cropped to it (at
            random, or the middle), smaller ones are resized at the end; images that are not
            square stay as they are.
        augmentation: What training images undergo.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    augmentation: Augmentation = Augmentation()


def augmentation_for(*, side: int, is_grey: bool) -> Augmentation:
    """The usual crop and flip for images of a side.

    ImageNet's above 64 pixels and CIFAR's from 32 on; below, smaller shifts (grey: 1 at 8 pixels,
    2 at 28). Small grey images are digits or letters as a rule, which a flip turns into others.
    """
    if side > SMALL_SIDE:
        return Augmentation(resized_crop=True, flip=True)
    if side >= 32:
        return Augmentation(pad=4, flip=True)
    return Augmentation(pad=max(1, side // (14 if is_grey else 8)), flip=not is_grey)


def choose_augmentation(
    names: tuple[str, ...] | None,
    *,
    default: Augmentation,
    side: int,
    is_grey: bool,
    mixup_alpha: float = MIXUP_ALPHA,
) -> Augmentation:
    """The augmentation that ``--augment`` names.

    Args:
        names: Of ``names.AUGMENTATIONS``, in any order; None: the data set's own.
        default: The data set's own.
        side, is_grey: Of its images as stored; they decide the crop of "crop-flip" where the data
            set has none of its own.
        mixup_alpha: Used with "mixup" alone.

    Raises:
        UserError: an unknown name, "none" with others, a name twice, or an alpha not above 0.
    """
    if names is None:
        return default
    check_augment(names)
    chosen = Augmentation(randaugment="randaugment" in names)
    if "crop-flip" in names:
        has_crop = default.pad or default.flip or default.resized_crop
        usual = default if has_crop else augmentation_for(side=side, is_grey=is_grey)
        chosen = replace(usual, randaugment=chosen.randaugment, mixup_alpha=0.0)
    if "mixup" in names:
        if not mixup_alpha > 0:
            raise UserError(f"mixup_alpha {mixup_alpha:g}: mixup takes one above 0 (--mixup_alpha)")
        chosen = replace(chosen, mixup_alpha=mixup_alpha)
    return chosen


def training_images(
    images_BCHW: torch.Tensor, *, hash_B: torch.Tensor, pixels: Pixels
) -> torch.Tensor:
    """Augmented and normalised: float32 [B, C, S, S] in channels_last of stored uint8 images."""
    made = augment(
        images_BCHW,
        hash_B=hash_B,
        augmentation=pixels.augmentation,
        image_size=pixels.image_size,
    )
    return _finish(made, pixels)


def clean_images(images_BCHW: torch.Tensor, *, pixels: Pixels) -> torch.Tensor:
    """The middle, normalised: float32 [B, C, S, S] in channels_last of stored uint8 images."""
    images_BHWC = images_BCHW.permute(0, 2, 3, 1)
    if _is_larger(images_BCHW, pixels.image_size):
        images_BHWC = crops.centre_crop(images_BHWC, side=pixels.image_size)
    return _finish(images_BHWC.permute(0, 3, 1, 2), pixels)


def augment(
    images_BCHW: torch.Tensor,
    *,
    hash_B: torch.Tensor,
    augmentation: Augmentation,
    image_size: int | None = None,
) -> torch.Tensor:
    """Random crop, random flip, RandAugment; each as the augmentation says.

    Args:
        images_BCHW: uint8, best in channels_last.
        hash_B: int64 [B] of ``sample_hash``, on the images' device.
        augmentation: What to do.
        image_size: The network's side; None: the stored one.

    Returns:
        uint8 in channels_last: [B, C, S, S] of larger squares, else of the images' own size; the
        images themselves if there is nothing to do.
    """
    images_BHWC = images_BCHW.permute(0, 2, 3, 1)
    side = image_size or images_BCHW.shape[-1]
    if augmentation.resized_crop:
        height, width = images_BCHW.shape[2:]
        boxes_B4 = crops.crop_boxes(hash_B, height=height, width=width)
        images_BHWC = crops.resized_crop(images_BHWC, boxes_B4, side=side)
    elif _is_larger(images_BCHW, side):
        images_BHWC = crops.centre_crop(images_BHWC, side=side)
    if augmentation.pad:
        images_BHWC = crops.padded_crop(images_BHWC, hash_B, pad=augmentation.pad)
    if augmentation.flip:
        images_BHWC = crops.flip(images_BHWC, hash_B)
    made = images_BHWC.permute(0, 3, 1, 2)
    if augmentation.randaugment:
        from raymd.data.randaugment import rand_augment  # torchvision: two seconds

        made = rand_augment(made, hash_B=hash_B)
    return made


def _is_larger(images_BCHW: torch.Tensor, side: int) -> bool:
    height, width = images_BCHW.shape[2:]
    return height == width and width > side


def _finish(images_BCHW: torch.Tensor, pixels: Pixels) -> torch.Tensor:
    made = normalise(images_BCHW, mean=pixels.mean, std=pixels.std)
    height, width = made.shape[2:]
    if height != width or width == pixels.image_size:
        return made
    # Last, in float: it costs no memory in the split and rounds nothing.
    size = (pixels.image_size, pixels.image_size)
    made = F.interpolate(made, size=size, mode="bilinear", align_corners=False)
    return made.contiguous(memory_format=torch.channels_last)


def normalise(
    images_BCHW: torch.Tensor, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """``(pixel / 255 - mean) / std`` for each channel.

    Args:
        images_BCHW: uint8, best in channels_last.
        mean, std: One value a channel, for pixels scaled to 0..1.

    Returns:
        float32 [B, C, H, W] in channels_last.
    """
    height, width = images_BCHW.shape[2:]
    scale_HWC, shift_HWC = _affine(mean, std, height, width, images_BCHW.device)
    scaled_BHWC = images_BCHW.permute(0, 2, 3, 1).to(torch.float32)
    return scaled_BHWC.contiguous().mul_(scale_HWC).add_(shift_HWC).permute(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], height: int, width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    # Whole images of factors: broadcasting over a last dimension of 3 is seven times slower.
    with torch.inference_mode(mode=False):
        mean_C = torch.tensor(mean, dtype=torch.float64)
        std_C = torch.tensor(std, dtype=torch.float64)
        factors = (1 / (255 * std_C), -mean_C / std_C)
        scale, shift = (
            factor.to(device, torch.float32).repeat(height, width, 1) for factor in factors
        )
    return scale, shift
