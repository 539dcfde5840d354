"""One encoded image -> uint8 pixels: whatever mode, depth and orientation Pillow finds in it.

Place on the data's way: images.py calls it from a pool of threads, first ``read_header`` for every
image, then ``decode``.

    H height   W width   C channels
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from raymd.data.geometry import Geometry

Encoded = bytes | Path | None
ORIENTATION = 0x0112  # EXIF's tag
TURNED = range(5, 9)  # its values that swap width and height
DEEP_GREY = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
GREY_MODES = {"1", "L", "LA", "La", *DEEP_GREY}


class UnreadableImageError(Exception):
    """Why an image cannot be used; images.py adds which one it is."""


class Header(NamedTuple):
    """What an image's first bytes tell: upright size in pixels, and whether it is grey."""

    width: int
    height: int
    is_grey: bool


def read_header(encoded: Encoded) -> Header:
    """Size and colour of an image, without decoding it.

    Raises:
        UnreadableImageError: no image, or one of a kind that has no 8-bit form.
    """
    with _open(encoded) as image, _damage_named():
        width, height = image.size
        if _orientation(image) in TURNED:
            width, height = height, width
        return Header(width, height, image.mode in GREY_MODES)


def decode(encoded: Encoded, *, geometry: Geometry, channels: int) -> np.ndarray:
    """The upright image in the stored size: uint8 [H, W, C].

    Raises:
        UnreadableImageError: damaged.
    """
    with _open(encoded) as image, _damage_named():
        if image.format == "JPEG":
            # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which saves most of the time
            image.draft(None, geometry.draft_size(image.size))
        fitted = geometry.fit(as_mode(_upright(image), channels=channels))
        return np.asarray(fitted).reshape(*fitted.size[::-1], channels)


def decode_upright(encoded: Encoded, *, channels: int) -> np.ndarray:
    """The upright image in its own size: uint8 [H, W, C].

    Raises:
        UnreadableImageError: damaged.
    """
    with _open(encoded) as image, _damage_named():
        flat = as_mode(_upright(image), channels=channels)
        return np.array(flat).reshape(*flat.size[::-1], channels)


def is_turned(encoded: Encoded) -> bool:
    """Whether EXIF data say that the image is to be turned or mirrored.

    Raises:
        UnreadableImageError: damaged.
    """
    with _open(encoded) as image, _damage_named():
        return _orientation(image) > 1


def as_mode(image: Image.Image, *, channels: int) -> Image.Image:
    """The image as 8-bit grey (1 channel) or RGB (3), transparent parts on white.

    Raises:
        UnreadableImageError: pixels beyond 16 bits.
    """
    if image.mode in DEEP_GREY:
        image = _eight_bit(image)
    mode = "L" if channels == 1 else "RGB"
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = _on_white(image)
    return image if image.mode == mode else image.convert(mode)


def _open(encoded: Encoded) -> Image.Image:
    if encoded is None:
        raise UnreadableImageError("no image bytes and no path")
    if not (_file_size(encoded) if isinstance(encoded, Path) else encoded):
        raise UnreadableImageError("the image is empty (0 bytes)")
    source: Any = encoded if isinstance(encoded, Path) else io.BytesIO(encoded)
    try:
        image = Image.open(source)
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError("no image that Pillow can read") from error
    except Exception as error:  # Pillow's plugins raise many kinds
        raise UnreadableImageError(f"no image that Pillow can read ({error})") from error
    if image.mode == "F":
        image.close()
        raise UnreadableImageError("floating-point pixels; 8 or 16 bits a channel are needed")
    return image


def _file_size(file: Path) -> int:
    with file_errors_named(file):
        if not file.is_file():
            raise UnreadableImageError(f"no file {file}")
        return file.stat().st_size


@contextmanager
def file_errors_named(file: Path) -> Iterator[None]:
    """Turn what the system says of a file into UnreadableImageError."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableImageError(f"no file {file}") from error
    except OSError as error:
        raise UnreadableImageError(f"{file} cannot be opened ({error.strerror})") from error


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UnreadableImageError(f"the image is damaged ({error})") from error


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if _orientation(image) > 1 else image


def _orientation(image: Image.Image) -> int:
    # Asking a PNG for EXIF that it has not would decode the whole image.
    return int(image.getexif().get(ORIENTATION, 1)) if "exif" in image.info else 1


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        limits = f"{values.min()} to {values.max()}"
        raise UnreadableImageError(f"grey values from {limits}; 8 or 16 bits are needed")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    mode = "L" if image.mode in ("L", "LA", "La") else "RGB"
    with_alpha = image.convert("RGBA")
    ground = Image.new(mode, image.size, "white")
    ground.paste(with_alpha.convert(mode), mask=with_alpha.getchannel("A"))
    return ground
