"""One image at a time: modes, depths, orientation, sizes."""

import io

import numpy as np
import pytest
from PIL import Image

from raymd.data.decode import UnreadableImageError, decode, read_header
from raymd.data.geometry import Geometry, choose_geometry
from raymd.environment import available_bytes

SAME = Geometry(6, 8, 8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def pixels(data: bytes, channels: int, geometry: Geometry = SAME) -> np.ndarray:
    return decode(data, geometry=geometry, channels=channels)


def test_sixteen_bit_grey_keeps_its_range():
    values = np.linspace(0, 65535, 48).round().astype(np.uint16).reshape(6, 8)
    data = encoded(Image.fromarray(values))
    assert read_header(data) == (8, 6, True)
    assert np.array_equal(pixels(data, 1)[..., 0], np.round(values / 257).astype(np.uint8))


def test_pixels_beyond_16_bits_are_refused():
    deep = Image.fromarray(np.full((6, 8), 70_000, np.int32))
    with pytest.raises(UnreadableImageError, match="grey values from 70000 to 70000"):
        pixels(encoded(deep, "TIFF"), 1)
    with pytest.raises(UnreadableImageError, match="floating-point"):
        read_header(encoded(Image.fromarray(np.zeros((6, 8), np.float32)), "TIFF"))


@pytest.mark.parametrize(("mode", "grey"), [("RGBA", False), ("LA", True)])
def test_transparent_parts_are_white(mode, grey):
    image = Image.new(mode, (8, 6), (9, 9, 9, 255)[-len(mode) :] if grey else (9, 9, 9, 255))
    image.putpixel((0, 0), (9, 0) if grey else (9, 9, 9, 0))
    data = encoded(image)
    assert read_header(data).is_grey is grey
    made = pixels(data, 1 if grey else 3)
    assert set(made[0, 0]) == {255}
    assert set(made[0, 1]) == {9}
    if grey:  # beside colour images
        assert set(pixels(data, 3)[0, 0]) == {255}


def test_a_transparent_palette_colour_is_white_and_others_are_themselves():
    image = Image.new("P", (8, 6), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    made = pixels(encoded(image, transparency=0), 3)
    assert made[0, 0].tolist() == [255, 255, 255]
    assert made[0, 1].tolist() == [10, 20, 30]


def test_one_bit_becomes_black_and_white():
    bits = noise(6, 8) > 127
    made = pixels(encoded(Image.fromarray(bits)), 1)[..., 0]
    assert np.array_equal(made, bits * np.uint8(255))


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (8, 6), (0, 255, 255, 0))
    red = pixels(encoded(image, "JPEG", quality=95), 3)[3, 3].tolist()
    assert red[0] > 240
    assert max(red[1:]) < 15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_are_turned_upright(kind):
    upright = np.zeros((6, 8, 3), np.uint8)
    upright[:, :4] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    data = encoded(lying, kind, exif=exif)
    assert read_header(data)[:2] == (8, 6)
    made = pixels(data, 3)
    assert made[:, 0].min() > 200
    assert made[:, -1].max() < 50


def test_photographs_lose_their_margins_and_no_more():
    wide = np.zeros((90, 150, 3), np.uint8)
    wide[:, 30:120] = noise(1, 1, 3) // 2 + 100  # the middle square
    made = pixels(encoded(Image.fromarray(wide)), 3, Geometry(40, 40, 35, keeps_ratio=True))
    assert made.shape == (40, 40, 3)
    assert (made[:, 2:-2] == wide[0, 60]).all()  # the filter looks a little over the edge
    assert np.abs(made.astype(int) - wide[0, 60]).max() < 40


def test_a_large_jpeg_decoded_at_a_fraction_looks_the_same():
    ramp = np.linspace(0, 255, 1024).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (768, 1))] * 3, axis=2))
    geometry = Geometry(64, 64, 56, keeps_ratio=True)
    fast = pixels(encoded(image, "JPEG", quality=95), 3, geometry)
    slow = pixels(encoded(image), 3, geometry)
    assert np.abs(fast.astype(int) - slow).max() <= 3
    assert geometry.draft_size((1024, 768)) == (86, 64)


@pytest.mark.parametrize(
    ("sizes", "image_size", "expected"),
    [
        ([(32, 32)], None, Geometry(32, 32, 32)),
        ([(28, 20)], None, Geometry(20, 28, 28)),
        ([(28, 20)], 32, Geometry(32, 32, 32)),
        ([(32, 32)], 224, Geometry(32, 32, 224)),
        ([(32, 32)], 16, Geometry(16, 16, 16)),
        ([(30, 20), (25, 40)], None, Geometry(25, 25, 25)),
        ([(30, 20), (30, 20), (900, 800)], None, Geometry(64, 64, 64)),
        ([(65, 65)], None, Geometry(256, 256, 224, True)),
        ([(500, 375), (60, 60), (375, 500)], None, Geometry(256, 256, 224, True)),
        ([(500, 375), (60, 60)], 64, Geometry(64, 64, 64)),
        ([(500, 375)], 96, Geometry(110, 110, 96, True)),
        ([(30, 20), (25, 40)], 128, Geometry(146, 146, 128, True)),
    ],
)
def test_sizes_decide_what_is_stored_and_seen(sizes, image_size, expected):
    geometry, notes = choose_geometry(np.array(sizes), image_size=image_size)
    assert geometry == expected
    is_as_it_was = len(sizes) == 1 and image_size is None and max(sizes[0]) <= 64
    assert bool(notes) is not is_as_it_was


def test_memory_is_measured_in_bytes():
    assert 2**27 < available_bytes() < 2**50
