"""JPEG files as photographs are, made up: smooth shapes with some noise, of many sizes."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Colour patches that run into each other, with fine grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32)
    grain = rng.normal(0, 4, smooth.shape)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, *, quality: int = 90, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, **options)
    return stream.getvalue()


def fill_tree(folder: Path, *, classes=("cat", "dog"), images: int = 10, first: int = 0) -> None:
    """Class folders with photographs of different sizes."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            seed = first + 1000 * number + index
            size = (100 + 7 * (index % 5), 90 + 5 * (index % 3))
            (folder / name / f"{index:03d}.jpg").write_bytes(jpeg(photograph(seed, size)))
