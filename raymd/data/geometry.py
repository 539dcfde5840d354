"""How large images are stored and seen, and whether they fit into memory.

Place on the data's way: images.py asks once it knows the sizes of all images, before decoding.
Up to 64 pixels a side, images are stored as networks see them. Above, they are stored as squares
of 256/224 of that side, so that crops of the side can be drawn from them batch by batch.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from raymd.data.augment import SMALL_SIDE
from raymd.environment import available_bytes
from raymd.errors import DataError

LARGE_SIDE = 224
STORED_PER_SEEN = 256 / 224
MEMORY_SHARE = 0.6


@dataclass(frozen=True)
class Geometry:
    """The size images are stored in, and the side that networks see.

    Attributes:
        height, width: Of stored images, in pixels.
        image_size: The side that networks see.
        keeps_ratio: Whether an image is cropped to its middle square before it is resized, or
            squeezed.
    """

    height: int
    width: int
    image_size: int
    keeps_ratio: bool = False

    def fit(self, image: Image.Image) -> Image.Image:
        """The image in the stored size, resized with antialias if it is of another."""
        size = (self.width, self.height)
        if image.size == size:
            return image
        width, height = image.size
        box = None
        if self.keeps_ratio:
            short = min(width, height)
            left, top = (width - short) / 2, (height - short) / 2
            box = (left, top, left + short, top + short)
        return image.resize(size, Image.Resampling.BILINEAR, box=box)

    def draft_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The least size (width, height) an image must be decoded in to be resized well."""
        scale = max(self.width / size[0], self.height / size[1])
        return (-int(-size[0] * scale // 1), -int(-size[1] * scale // 1))


def choose_geometry(
    sizes_N2: np.ndarray, *, image_size: int | None
) -> tuple[Geometry, tuple[str, ...]]:
    """What images of these sizes are stored and seen as.

    Args:
        sizes_N2: int [N, 2], width and height of each image.
        image_size: The side that networks see; None: the images' own up to 64 pixels if all are
            of one size; else 224 if their median short side is above 64, or else the largest
            short side, 64 at most.

    Returns:
        The geometry, and notes of what was chosen.
    """
    (width, height), (high_width, high_height) = sizes_N2.min(0).tolist(), sizes_N2.max(0).tolist()
    is_one_size = (width, height) == (high_width, high_height)
    if is_one_size and max(width, height) <= SMALL_SIDE:
        if image_size is None:
            return Geometry(height, width, width), ()
        if width == height <= image_size:
            return Geometry(height, width, image_size), _scaled_up(width, image_size)
    span = f"{width}x{height}"
    if not is_one_size:
        span = f"{width}x{height} to {high_width}x{high_height}"
    return _squares(sizes_N2.min(axis=1), span=span, image_size=image_size)


def _squares(
    short_N: np.ndarray, *, span: str, image_size: int | None
) -> tuple[Geometry, tuple[str, ...]]:
    side = image_size
    if side is None:
        is_large = float(np.median(short_N)) > SMALL_SIDE
        side = LARGE_SIDE if is_large else min(SMALL_SIDE, int(short_N.max()))
    if side <= SMALL_SIDE:
        note = f"images of {span} pixels are resized to {side}x{side} (--image_size)"
        return Geometry(side, side, side), (note,)
    stored = round(side * STORED_PER_SEEN)
    note = (
        f"images of {span} pixels: the middle square is stored as {stored}x{stored}, and networks "
        f"see {side}x{side} of it (--image_size)"
    )
    return Geometry(stored, stored, side, keeps_ratio=True), (note,)


def _scaled_up(side: int, image_size: int) -> tuple[str, ...]:
    if side == image_size:
        return ()
    return (f"images of {side}x{side} pixels are shown as {image_size}x{image_size}",)


def fits_memory(num_images: int, geometry: Geometry, *, channels: int) -> bool:
    """Whether decoded images take no more than MEMORY_SHARE of the memory that is free."""
    needed = num_images * geometry.height * geometry.width * channels
    return needed <= MEMORY_SHARE * available_bytes()


def too_large(num_images: int, geometry: Geometry, *, channels: int) -> str:
    """What images would need, beside what is allowed."""
    needed = num_images * geometry.height * geometry.width * channels
    return (
        f"{num_images:,} images stored as {geometry.width}x{geometry.height}x{channels} "
        f"need {needed / 2**30:.1f} GiB, allowed is {MEMORY_SHARE:.0%} of the "
        f"{available_bytes() / 2**30:.1f} GiB available"
    )


def check_memory(num_images: int, geometry: Geometry, *, channels: int, name: str) -> None:
    """Refuse what does not fit.

    Raises:
        DataError: with the numbers and the flags.
    """
    if not fits_memory(num_images, geometry, channels=channels):
        raise DataError(
            f"{name}: {too_large(num_images, geometry, channels=channels)}; take smaller images "
            f"(--image_size, now {geometry.image_size}) or fewer (--subset)"
        )
