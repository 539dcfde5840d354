"""images/s of training batches decoded by raymd against torchvision's ImageFolder and DataLoader.

    python -m tests.bench.imagenet --images 512 --size 500x375 --workers 2 --pairs 5
    python -m tests.bench.imagenet --images 128 --size 1600x1200 --workers 2 --pairs 5
    python -m tests.bench.imagenet --source parquet:DIR     # photographs, scaled to the size

Both sides read the same JPEG files (quality 90) from the page cache and make normalised float32
batches of 224x224: a random resized crop and a flip. The rival decodes in as many processes as
raymd has threads, which persist over its epochs. The first epoch of either is not counted.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from raymd.data.columns import read_column
from raymd.data.imagenet import load_imagenet
from raymd.data.images import IMAGENET_MEAN, IMAGENET_STD
from raymd.data.loader import EpochLoader
from raymd.data.shards import find_parts
from tests.bench.pairs import alternate, report

SIDE = 224
QUALITY = 90
CLASSES = 2


def photographs(source: str) -> Iterator[Image.Image]:
    """The images of ``parquet:DIR`` or ``arrow:DIR``."""
    suffix, _, folder = source.partition(":")
    parts, _ = find_parts(Path(folder), suffix=suffix)
    for file in parts["train"]:
        for column in read_column(file, "image"):
            for value in column.to_pylist():
                yield Image.open(io.BytesIO(value["bytes"])).convert("RGB")


def invented(size: tuple[int, int]) -> Iterator[Image.Image]:
    """Noise of all scales, in proportions that take about as many bytes as photographs."""
    rng = np.random.default_rng(0)
    while True:
        total = np.zeros((size[1], size[0], 3), np.float32)
        for scale in (2, 4, 8, 16, 32, 64, 128):
            shape = (size[1] // scale + 2, size[0] // scale + 2, 3)
            coarse = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
            fine = coarse.resize(size, Image.Resampling.BICUBIC)
            total += np.asarray(fine, np.float32) * scale**0.8
        total *= 255 / total.max()
        yield Image.fromarray(total.astype(np.uint8)).filter(ImageFilter.SMOOTH)


def write_files(folder: Path, images: Iterator[Image.Image], size: tuple[int, int], n: int) -> None:
    """``n`` JPEG files in class folders of ``train``, and two to test with."""
    for number in range(n + CLASSES):
        part = "train" if number < n else "val"
        place = folder / part / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        image = next(images).resize(size, Image.Resampling.BICUBIC)
        image.save(place / f"{number:06d}.jpg", quality=QUALITY)


class Ours:
    """raymd's loader, epoch after epoch."""

    def __init__(self, folder: Path, *, batch_size: int, workers: int) -> None:
        torch.set_num_threads(workers)
        data = load_imagenet(folder, image_size=SIDE)
        self.loader = EpochLoader(
            data.train, pixels=data.pixels, batch_size=batch_size, seed=0, stream=0, device="cpu"
        )
        self.epoch = 0

    def __call__(self) -> float:
        """images/s of an epoch."""
        self.epoch += 1
        return _rate(len(batch.labels) for batch in self.loader.batches(self.epoch))


class Torchvision:
    """The usual loader, as in PyTorch's ImageNet example."""

    def __init__(self, folder: Path, *, batch_size: int, workers: int) -> None:
        steps = [
            transforms.RandomResizedCrop(SIDE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
        self.loader = DataLoader(
            ImageFolder(str(folder / "train"), transforms.Compose(steps)), batch_size=batch_size,
            shuffle=True, num_workers=workers, persistent_workers=workers > 0,
        )  # fmt: skip

    def __call__(self) -> float:
        """images/s of an epoch."""
        return _rate(len(labels) for _, labels in self.loader)


def _rate(sizes: Iterator[int]) -> float:
    started = time.perf_counter()
    return sum(sizes) / (time.perf_counter() - started)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--size", default="500x375", help="WIDTHxHEIGHT of the files")
    parser.add_argument("--source", help="parquet:DIR or arrow:DIR (default: noise)")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="threads, and processes")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = photographs(args.source) if args.source else invented((width, height))
        write_files(folder, images, (width, height), args.images)
        files = list(folder.rglob("*.jpg"))
        kilobytes = sum(file.stat().st_size for file in files) / len(files) / 1000
        options = {"batch_size": args.batch_size, "workers": args.workers}
        sides = {"raymd": Ours(folder, **options), "torchvision": Torchvision(folder, **options)}
        alternate(sides, pairs=1)
        figures = alternate(sides, pairs=args.pairs)
    title = f"{args.images} JPEG files of {args.size} ({kilobytes:.0f} kB), {args.workers} workers"
    report(
        title, figures, unit="images/s", ratio=("raymd", "torchvision"),
        settings={k: str(v) for k, v in vars(args).items()} | {"kilobytes": round(kilobytes)},
        json_file=args.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
