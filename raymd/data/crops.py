"""Crops and flips of whole batches of uint8 images, each sample's from its own hash.

Place on the data's way: augment.py calls them, in the order crop, flip.

    B batch   C channels   H height   W width   S side of a crop   A attempts

All works on channels_last memory, where a row of a crop is one run of W * C bytes: cropping is
then one ``index_select`` that copies B * H such runs (0.04 ms for 128 CIFAR images on one CPU
thread, against 0.35 to 0.6 ms for gathering or indexing single pixels).
"""

import math

import torch
import torch.nn.functional as F

from raymd.data.draws import field, fraction, rehash

CROP_AREA = (0.08, 1.0)  # share of the image, as for ImageNet since Szegedy et al. (2015)
CROP_RATIO = (3 / 4, 4 / 3)  # width / height
CROP_ATTEMPTS = 10


def crop_offsets(hash_B: torch.Tensor, *, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Top and left of each crop in the padded image; int64 [B], uniform on 0..2*pad."""
    positions = 2 * pad + 1
    return field(hash_B, 0) % positions, field(hash_B, 1) % positions


def flip_mask(hash_B: torch.Tensor) -> torch.Tensor:
    """Which samples are mirrored; bool [B]."""
    return field(hash_B, 2) & 1 == 1


def padded_crop(images_BHWC: torch.Tensor, hash_B: torch.Tensor, *, pad: int) -> torch.Tensor:
    """A crop of the image's own size, from the image with ``pad`` zero pixels on each side."""
    top_B, left_B = crop_offsets(hash_B, pad=pad)
    batch, height, width, channels = images_BHWC.shape
    padded = F.pad(images_BHWC, (0, 0, pad, pad, pad, pad)).contiguous()
    _, padded_height, padded_width, _ = padded.shape
    # windows[i] are the W pixels from pixel i on: overlapping views, copied only where chosen.
    num_windows = batch * padded_height * padded_width - width + 1
    windows = padded.as_strided((num_windows, width * channels), (channels, 1))
    device = images_BHWC.device
    first_row_B = torch.arange(0, batch * padded_height, padded_height, device=device) + top_B
    start_B = first_row_B * padded_width + left_B
    down_H = torch.arange(0, height * padded_width, padded_width, device=device)
    starts = (start_B[:, None] + down_H).view(-1)
    return windows.index_select(0, starts).view(batch, height, width, channels)


def flip(images_BHWC: torch.Tensor, hash_B: torch.Tensor) -> torch.Tensor:
    """Mirror the samples of ``flip_mask`` left to right."""
    # Choosing whole images among both versions beats torch.where (0.5 ms) on the CPU, and unlike
    # picking out the flipped rows it does not make a GPU wait for a count.
    batch = len(images_BHWC)
    both = torch.cat((images_BHWC, images_BHWC.flip(2)))
    chosen_B = torch.arange(batch, device=both.device) + batch * flip_mask(hash_B)
    return both.index_select(0, chosen_B)


def centre_crop(images_BHWC: torch.Tensor, *, side: int) -> torch.Tensor:
    """The middle [B, S, S, C]; a view."""
    top, left = ((length - side) // 2 for length in images_BHWC.shape[1:3])
    return images_BHWC[:, top : top + side, left : left + side]


def crop_boxes(
    hash_B: torch.Tensor, *, height: int | torch.Tensor, width: int | torch.Tensor
) -> torch.Tensor:
    """Random-resized-crop's boxes: CROP_AREA of the image at CROP_RATIO.

    As torchvision draws them: of ten attempts the first that fits, else the middle, as much of it
    as has an allowed ratio (of a square, all).

    Args:
        hash_B: int64 [B] of ``sample_hash``.
        height, width: Of the images in pixels; of all, or int64 [B] of each.

    Returns:
        int64 [B, 4]: top, left, height and width.
    """
    height_B, width_B = (torch.as_tensor(x, device=hash_B.device) for x in (height, width))
    attempts_A = torch.arange(1, CROP_ATTEMPTS + 1, device=hash_B.device)
    hash_BA = rehash(hash_B[:, None], attempts_A)
    low, high = CROP_AREA
    area_BA = (height_B * width_B)[..., None] * (low + (high - low) * fraction(hash_BA, 0))
    low, high = map(math.log, CROP_RATIO)
    ratio_BA = torch.exp(low + (high - low) * fraction(hash_BA, 1))
    wide_BA = torch.sqrt(area_BA * ratio_BA).round().long().clamp_(min=1)
    high_BA = torch.sqrt(area_BA / ratio_BA).round().long().clamp_(min=1)
    fits_BA = (wide_BA <= width_B[..., None]) & (high_BA <= height_B[..., None])
    first_B1 = fits_BA.int().argmax(dim=1, keepdim=True)
    fits_B = fits_BA.any(dim=1)
    place_B = rehash(hash_B, 0)
    box_h, box_w, middle_top, middle_left = _middle_box(height_B, width_B)
    box_h = torch.where(fits_B, high_BA.gather(1, first_B1)[:, 0], box_h)
    box_w = torch.where(fits_B, wide_BA.gather(1, first_B1)[:, 0], box_w)
    top_B = torch.where(fits_B, field(place_B, 0) % (height_B - box_h + 1), middle_top)
    left_B = torch.where(fits_B, field(place_B, 1) % (width_B - box_w + 1), middle_left)
    return torch.stack((top_B, left_B, box_h, box_w), dim=1)


def _middle_box(height_B: torch.Tensor, width_B: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Height, width, top and left of as much of the middle as has an allowed ratio."""
    low, high = CROP_RATIO
    box_h = torch.minimum(height_B, (width_B / low).round().long())
    box_w = torch.minimum(width_B, (height_B * high).round().long())
    return box_h, box_w, (height_B - box_h) // 2, (width_B - box_w) // 2


def middle_boxes(height_B: torch.Tensor, width_B: torch.Tensor, *, share: float) -> torch.Tensor:
    """The middle squares of images, of a share of their short sides; int64 [B, 4] as above."""
    side_B = (torch.minimum(height_B, width_B) * share).round().long().clamp_(min=1)
    return torch.stack(((height_B - side_B) // 2, (width_B - side_B) // 2, side_B, side_B), dim=1)


def resized_crop(images_BHWC: torch.Tensor, boxes_B4: torch.Tensor, *, side: int) -> torch.Tensor:
    """The boxes of ``crop_boxes``, each resized to S x S; bilinear, uint8 [B, S, S, C].

    On a CPU image by image with torch's antialiased uint8 kernel (0.1 ms for 256 -> 224 pixels on
    one thread, against 1.3 ms for a batched ``grid_sample``); elsewhere as one batch.
    """
    if images_BHWC.device.type == "cpu":
        return _crop_one_by_one(images_BHWC, boxes_B4, side=side)
    return _crop_as_batch(images_BHWC, boxes_B4, side=side)


def _crop_one_by_one(
    images_BHWC: torch.Tensor, boxes_B4: torch.Tensor, *, side: int
) -> torch.Tensor:
    made = images_BHWC.new_empty((len(images_BHWC), side, side, images_BHWC.shape[3]))
    for n, (top, left, height, width) in enumerate(boxes_B4.tolist()):
        box_1CHW = images_BHWC[n : n + 1, top : top + height, left : left + width].permute(
            0, 3, 1, 2
        )
        resized = F.interpolate(box_1CHW, size=(side, side), mode="bilinear", antialias=True)
        made[n] = resized[0].permute(1, 2, 0)
    return made


def _crop_as_batch(images_BHWC: torch.Tensor, boxes_B4: torch.Tensor, *, side: int) -> torch.Tensor:
    # Without antialias: stored images are 256/224 of the side at most, so little is shrunk.
    top_B, left_B, height_B, width_B = boxes_B4.to(torch.float32).unbind(1)
    rows_BS = _sample_points(top_B, height_B, side=side, length=images_BHWC.shape[1])
    columns_BS = _sample_points(left_B, width_B, side=side, length=images_BHWC.shape[2])
    shape = (len(images_BHWC), side, side)
    grid = torch.stack(
        (columns_BS[:, None, :].expand(shape), rows_BS[:, :, None].expand(shape)), dim=-1
    )
    images_BCHW = images_BHWC.permute(0, 3, 1, 2).to(torch.float32)
    made = F.grid_sample(
        images_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return made.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _sample_points(
    start_B: torch.Tensor, length_B: torch.Tensor, *, side: int, length: int
) -> torch.Tensor:
    """Where S pixels of a box lie along one axis, in grid_sample's -1..1."""
    middles_S = torch.arange(side, device=start_B.device) + 0.5
    pixels_BS = start_B[:, None] + middles_S * (length_B / side)[:, None] - 0.5
    end_B = start_B + length_B - 1
    pixels_BS = torch.minimum(torch.maximum(pixels_BS, start_B[:, None]), end_B[:, None])
    return (2 * pixels_BS + 1) / length - 1
