"""Boxes of encoded images: the pixels that torchvision would give, at any scale of decoding."""

import errno
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import resized_crop

from raymd.data import jpeg
from raymd.data.decode import UnreadableImageError, read_header
from raymd.data.jpeg import decode_box, open_picture
from tests.data.photographs import jpeg as encode
from tests.data.photographs import photograph


def theirs(content: bytes, box: tuple[int, int, int, int], side: int) -> np.ndarray:
    """As torchvision's ImageFolder and RandomResizedCrop make it, by Pillow."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(resized_crop(image, *box, [side, side]), np.float32)


# the box allows 1/1, 1/2, 1/4 and 1/8
@pytest.mark.parametrize(
    ("box", "side", "scale"),
    [((3, 5, 200, 260), 112, 1), ((11, 14, 300, 400), 112, 2), ((0, 9, 370, 480), 64, 4),
     ((8, 16, 360, 480), 32, 8)],
)  # fmt: skip
def test_pixels_are_torchvisions_whatever_the_scale(box, side, scale, monkeypatch):
    scales = []
    decode = jpeg._decode_scaled
    monkeypatch.setattr(
        jpeg,
        "_decode_scaled",
        lambda p, k, channels: scales.append(k) or decode(p, k, channels=channels),
    )
    differences = []
    for seed in range(8):
        content = encode(photograph(seed, (500, 375)))
        made = decode_box(open_picture(content), box, side=side, channels=3)
        assert made.shape == (side, side, 3)
        differences.append(made - theirs(content, box, side))
    assert set(scales) == {scale}
    differences = np.stack(differences)
    assert abs(differences.mean()) < 0.3  # of 255
    assert np.abs(differences).mean() < (0.6 if scale == 1 else 2.5)
    assert abs(differences.mean(axis=(0, 1, 2))).max() < 0.5  # of each channel


def test_a_box_is_never_enlarged_because_of_the_scale(monkeypatch):
    seen = []
    resized = jpeg._resized
    monkeypatch.setattr(
        jpeg, "_resized", lambda box, side: seen.append(box.shape) or resized(box, side)
    )
    picture = open_picture(encode(photograph(0, (801, 603))))
    for length in range(16, 600, 7):
        decode_box(picture, (1, 2, length, length + 1), side=64, channels=3)
        height, width, _ = seen[-1]
        assert min(height, width) >= min(64, length)


def test_what_is_larger_than_its_box_is_not_seen():
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[:, :100], pixels[:, 100:200], pixels[:, 200:] = 40, 120, 220
    picture = open_picture(encode(Image.fromarray(pixels), quality=95))
    for side in (100, 40, 20, 12):
        made = decode_box(picture, (20, 108, 84, 84), side=side, channels=3)
        assert np.abs(made.astype(int) - 120).max() <= 6, side


def test_each_image_has_its_own_pixels_though_threads_keep_their_memory():
    picture, other = (open_picture(encode(photograph(seed, (100, 80)))) for seed in (1, 2))
    for box, side in (((0, 0, 80, 80), 80), ((0, 0, 70, 70), 30)):
        first = decode_box(picture, box, side=side, channels=3)
        before = first.copy()
        decode_box(other, box, side=side, channels=3)
        assert np.array_equal(first, before)


def turned(**options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    return encode(photograph(3, (90, 60)), exif=exif, **options)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_grey_and_cmyk_jpeg_become_colour(mode):
    content = encode(photograph(4, (90, 60)).convert(mode))
    picture = open_picture(content)
    assert (picture.height, picture.width, picture.is_plain) == (60, 90, mode != "CMYK")
    made = decode_box(picture, (0, 0, 60, 60), side=60, channels=3)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))[:, :60]
    assert np.abs(made.astype(int) - expected).max() <= 2


def test_images_are_turned_upright_and_other_formats_read():
    picture = open_picture(turned())
    assert (picture.height, picture.width, picture.is_plain) == (90, 60, False)
    upright = photograph(3, (90, 60)).transpose(Image.Transpose.ROTATE_270)
    made = decode_box(picture, (0, 0, 60, 60), side=60, channels=3)
    assert np.abs(made.astype(int) - np.asarray(upright)[:60, :60]).mean() < 6
    stream = io.BytesIO()
    photograph(3, (90, 60)).save(stream, "PNG")
    made = decode_box(open_picture(stream.getvalue()), (0, 0, 60, 60), side=60, channels=3)
    assert np.array_equal(made, np.asarray(photograph(3, (90, 60)))[:, :60])


def test_exif_that_turns_nothing_leaves_an_image_to_the_fast_decoder():
    exif = Image.Exif()
    exif[0x0112] = 1
    assert open_picture(encode(photograph(3, (90, 60)), exif=exif)).is_plain


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no image bytes"), (b"", "0 bytes"), (b"text", "no image that Pillow can read"),
     (b"\xff\xd8\xff", "no image that Pillow can read")],
)  # fmt: skip
def test_what_is_no_image_is_told(content, reason, tmp_path):
    with pytest.raises(UnreadableImageError, match=reason):
        open_picture(content)
    with pytest.raises(UnreadableImageError, match=r"no file .*gone.jpg"):
        open_picture(tmp_path / "gone.jpg")


def test_a_truncated_image_is_damaged():
    picture = open_picture(encode(photograph(5))[:900])
    with pytest.raises(UnreadableImageError, match="damaged"):
        decode_box(picture, (0, 0, 60, 60), side=30, channels=3)


def with_exif(entry: bytes, value: bytes = b"") -> bytes:
    """A JPEG file whose only EXIF entry is this one (12 bytes), its value behind it."""
    tiff = b"II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0" + value
    segment = b"Exif\0\0" + tiff
    content = encode(photograph(3, (90, 60)))
    return b"\xff\xd8\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + content[2:]


ORIENTATION = b"\x12\x01"


@pytest.mark.parametrize(
    "content",
    [with_exif(ORIENTATION + b"\x02\0\x04\0\0\0abc\0"),  # text
     with_exif(ORIENTATION + b"\x0b\0\x01\0\0\0\0\0\xc0\x7f"),  # not a number
     with_exif(ORIENTATION + b"\x05\0\x01\0\0\0\x1a\0\0\0", b"\0" * 8)],  # 0/0
    ids=["text", "nan", "0/0"],
)  # fmt: skip
def test_an_orientation_that_is_no_number_is_damage(content):
    for read in (open_picture, read_header):
        with pytest.raises(UnreadableImageError, match="the image is damaged"):
            read(content)


def test_what_simplejpeg_does_not_know_is_left_to_pillow(monkeypatch):
    def unknown(*_, **__):
        raise KeyError(6)

    content = encode(photograph(3, (90, 60)))
    picture = open_picture(content)
    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg_header", unknown)
    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", unknown)
    assert open_picture(content) == picture._replace(is_plain=False)
    assert decode_box(picture, (0, 0, 60, 60), side=30, channels=3).shape == (30, 30, 3)


def test_what_the_system_says_of_a_file_is_damage(tmp_path, monkeypatch):
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "file.jpg").write_bytes(b"x")
    for name in ("loop.jpg", "folder.jpg", "file.jpg/below.jpg"):
        for read in (open_picture, read_header):
            with pytest.raises(UnreadableImageError, match=r"no file|cannot be opened"):
                read(tmp_path / name)

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UnreadableImageError, match=r"file.jpg cannot be opened \(Input/output"):
        open_picture(tmp_path / "file.jpg")
