"""A box of an encoded image -> uint8 pixels of the size that networks see, as fast as one core can.

Place on the data's way: encoded.py calls it from a pool of threads, for every image of every
epoch. Plain JPEG files are decoded by libjpeg-turbo at 1/2, 1/4 or 1/8 of their size, as far as the
box keeps as many pixels as are wanted. Whatever else Pillow knows (other formats, CMYK, EXIF turns,
files that libjpeg-turbo warns of) goes through decode.py.

    H height   W width   C channels   S side that the network sees
"""

import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F

from raymd.data.decode import (
    Encoded,
    UnreadableImageError,
    decode_upright,
    file_errors_named,
    is_turned,
    read_header,
)

JPEG_START = b"\xff\xd8"
EXIF, EXIF_WITHIN = b"Exif\0\0", 65536
OBJECTIONS = (KeyError, ValueError)  # what simplejpeg raises; KeyError: an unknown subsampling
PLAIN = {"YCbCr", "RGB", "Gray"}
SCALES = (8, 4, 2)  # libjpeg-turbo has fast code for these alone

Box = tuple[int, int, int, int]  # top, left, height, width


class _Memory(threading.local):
    """A thread's own pixels."""

    def __init__(self) -> None:
        self.pixels = np.empty(0, dtype=np.uint8)


_memory = _Memory()


class Picture(NamedTuple):
    """An image's bytes, its upright size in pixels, and whether libjpeg-turbo can decode it."""

    content: bytes
    height: int
    width: int
    is_plain: bool


def open_picture(encoded: Encoded) -> Picture:
    """The image, read but not decoded.

    Raises:
        UnreadableImageError: no file, no bytes, or no image.
    """
    content = _content(encoded)
    if content.startswith(JPEG_START):
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        except OBJECTIONS:
            pass  # Pillow may be able to, or says why not
        else:
            if colours in PLAIN and not _is_turned(content):
                return Picture(content, int(height), int(width), is_plain=True)
    header = read_header(content)
    return Picture(content, header.height, header.width, is_plain=False)


def decode_box(picture: Picture, box: Box, *, side: int, channels: int) -> np.ndarray:
    """A box of the image, resized to S x S with antialias: uint8 [S, S, C].

    Raises:
        UnreadableImageError: damaged.
    """
    top, left, height, width = box
    scale = next((k for k in SCALES if min(height, width) // k >= side), 1)
    pixels_HWC = _decode_scaled(picture, scale, channels=channels) if picture.is_plain else None
    if pixels_HWC is None:
        pixels_HWC = decode_upright(picture.content, channels=channels)
    else:
        top, left, height, width = top // scale, left // scale, height // scale, width // scale
    return _resized(pixels_HWC[top : top + height, left : left + width], side)


def _content(encoded: Encoded) -> bytes:
    if encoded is None:
        raise UnreadableImageError("no image bytes and no path")
    if isinstance(encoded, Path):
        with file_errors_named(encoded):
            content = encoded.read_bytes()
    else:
        content = encoded
    if not content:
        raise UnreadableImageError("the image is empty (0 bytes)")
    return content


def _is_turned(content: bytes) -> bool:
    return content.find(EXIF, 0, EXIF_WITHIN) >= 0 and is_turned(content)


def _decode_scaled(picture: Picture, scale: int, *, channels: int) -> np.ndarray | None:
    """The image at 1/scale of its size; None if libjpeg-turbo objects to anything.

    It lies in memory of this thread that the next image will take: fresh memory for each would be
    a quarter of the time.
    """
    height, width = -(-picture.height // scale), -(-picture.width // scale)
    needed = height * width * channels
    if len(_memory.pixels) < needed:
        _memory.pixels = np.empty(needed, dtype=np.uint8)
    try:
        return simplejpeg.decode_jpeg(
            picture.content,
            colorspace="GRAY" if channels == 1 else "RGB",
            min_height=height,  # it takes the least of its sizes that is no smaller
            min_width=width,
            buffer=_memory.pixels,
        )
    except OBJECTIONS:
        return None


def _resized(box_HWC: np.ndarray, side: int) -> np.ndarray:
    if box_HWC.shape[:2] == (side, side):
        return box_HWC.copy()
    # torch's uint8 kernel takes a third of Pillow's time, and one thread; the batch dimension comes
    # first, or it takes the image for a planar one and makes a planar one of it
    box_1CHW = torch.from_numpy(box_HWC)[None].permute(0, 3, 1, 2)
    made_1CHW = F.interpolate(box_1CHW, size=(side, side), mode="bilinear", antialias=True)
    return made_1CHW[0].permute(1, 2, 0).numpy()
