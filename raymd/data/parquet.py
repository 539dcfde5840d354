"""``parquet:DIR``: images of your own from DIR/train.parquet and DIR/test.parquet.

Place on the data's way: a loader of datasets.py; a folder enters, a Dataset leaves. Columns as the
Hugging Face hub writes them: ``image`` {bytes, path} with PNG, JPEG or whatever Pillow reads, and
``label``, an integer. All images have one size of at most 64 pixels a side.

    N images   H height   W width   C channels, 1 if every image is grey, else 3
"""

import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from raymd.data.augment import Augmentation
from raymd.data.dataset import CIFAR_AUGMENTATION, CIFAR_MEAN, CIFAR_STD, Dataset, Split
from raymd.errors import DataError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_SIDE = 64
MAX_CLASSES = 100_000
CHUNK_ROWS = 1024
GREY_MODES = {"1", "L", "LA"}
DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


@dataclass(frozen=True)
class Part:
    """One file, decoded: uint8 [N, H, W, C], int64 [N], and the classes' names if it has them."""

    path: Path
    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


def read_folder(folder: Path) -> Dataset:
    """The data set of a folder with ``train.parquet`` and ``test.parquet``.

    Raises:
        DataError: a file or column is missing, an image cannot be decoded or is of another
            size (file and row, counted from 0, are named), or a label is none.
    """
    train, test = (_read_part(folder / f"{part}.parquet") for part in ("train", "test"))
    shapes = [part.pixels.shape[1:3] for part in (train, test)]
    if shapes[0] != shapes[1]:
        raise _mixed_sizes(f"{test.path} has", shapes[1], f"{train.path} has", shapes[0])
    is_grey = train.pixels.shape[3] == test.pixels.shape[3] == 1
    train_pixels, test_pixels = (
        part.pixels if is_grey else _as_rgb(part.pixels) for part in (train, test)
    )
    mean, std = _statistics(train_pixels)
    return Dataset(
        name=f"parquet:{folder}",
        train=Split.from_arrays(train_pixels, train.labels),
        test=Split.from_arrays(test_pixels, test.labels),
        classes=_class_names(train, test),
        mean=mean,
        std=std,
        augmentation=augmentation_for(side=min(shapes[0]), is_grey=is_grey),
    )


def augmentation_for(*, side: int, is_grey: bool) -> Augmentation:
    """CIFAR's recipe from 32 pixels on; below, smaller shifts (grey: 1 at 8 pixels, 2 at 28).

    Small grey images are digits or letters as a rule, which a flip would turn into others.
    """
    if side >= 32:
        return CIFAR_AUGMENTATION
    return Augmentation(pad=max(1, side // (14 if is_grey else 8)), flip=not is_grey)


def _read_part(path: Path) -> Part:
    table = _read_table(path)
    labels_N = _read_labels(table, path)
    images = pa.chunked_array(
        [chunk.field("bytes") for chunk in table.column("image").chunks], type=pa.large_binary()
    )
    pixels_NHWC = decode_images(images.to_pylist(), path=path)
    return Part(path, pixels_NHWC, labels_N, _hub_names(table.schema))


def _read_table(path: Path) -> pa.Table:
    if not path.is_file():
        there = sorted(entry.name for entry in path.parent.glob("*"))[:10]
        raise DataError(
            f"no file {path.absolute()}; parquet:DIR (--dataset) needs train.parquet and "
            f"test.parquet in DIR, which has: {', '.join(there) or 'nothing'}"
        )
    try:
        schema = pq.read_schema(path)
        missing = {"image", "label"} - set(schema.names)
        if missing:
            lack = f"no column {' and '.join(sorted(missing))}"
            raise DataError(f"{path}: {lack}; it has: {', '.join(schema.names)}")
        table = pq.read_table(path, columns=["image", "label"])
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a readable parquet file: {error}") from error
    if not table.num_rows:
        raise DataError(f"{path} has no rows")
    return _with_large_bytes(table, path)


def _with_large_bytes(table: pa.Table, path: Path) -> pa.Table:
    kind = table.schema.field("image").type
    fields = {field.name for field in kind} if pa.types.is_struct(kind) else set()
    if "bytes" not in fields:
        raise DataError(f"{path}: column image is {kind}, but struct<bytes, path> is needed")
    wide = pa.struct([pa.field("bytes", pa.large_binary())])
    chunks = [
        pa.StructArray.from_arrays(
            [chunk.field("bytes").cast(pa.large_binary())], fields=list(wide), mask=chunk.is_null()
        )
        for chunk in table.column("image").chunks
    ]
    return table.set_column(table.schema.names.index("image"), "image", pa.chunked_array(chunks))


def _read_labels(table: pa.Table, path: Path) -> np.ndarray:
    column = table.column("label")
    if not pa.types.is_integer(column.type):
        raise DataError(f"{path}: column label is {column.type}, but integers 0, 1, … are needed")
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{path} row {row}: the label is missing")
    labels_N: np.ndarray = column.to_numpy().astype(np.int64)
    wrong = np.flatnonzero((labels_N < 0) | (labels_N >= MAX_CLASSES))
    if len(wrong):
        got = f"label {labels_N[wrong[0]]}"
        raise DataError(f"{path} row {wrong[0]}: {got}, allowed are 0 to {MAX_CLASSES - 1}")
    return labels_N


def decode_images(encoded: Sequence[bytes | None], *, path: Path) -> np.ndarray:
    """Decode all images of a file in a pool of threads.

    Args:
        encoded: The files' bytes, N of them.
        path: Where they came from, for messages.

    Returns:
        uint8 [N, H, W, C]; C is 1 if every image is grey, else 3.

    Raises:
        DataError: an image is missing, broken, too large, of 16 bits, or unlike the first.
    """
    size = _open(encoded[0], f"{path} row 0").size
    if max(size) > MAX_SIDE:
        raise DataError(
            f"{path} row 0: {size[0]}x{size[1]} pixels, but parquet: takes images up to "
            f"{MAX_SIDE}x{MAX_SIDE}; training on larger ones comes with a later release, "
            f"so scale them down first (--dataset)"
        )
    starts = range(0, len(encoded), CHUNK_ROWS)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        chunks = list(pool.map(partial(_decode_chunk, encoded, path=path, size=size), starts))
    if any(chunk.shape[3] == 3 for chunk in chunks):
        chunks = [_as_rgb(chunk) for chunk in chunks]
    return np.concatenate(chunks)


def _decode_chunk(
    encoded: Sequence[bytes | None], start: int, *, path: Path, size: tuple[int, int]
) -> np.ndarray:
    rows = range(start, min(start + CHUNK_ROWS, len(encoded)))
    images = [_decode(encoded[row], where=f"{path} row {row}", size=size) for row in rows]
    if len({image.mode for image in images}) > 1:
        images = [image.convert("RGB") for image in images]
    return np.stack([np.asarray(image) for image in images]).reshape(len(rows), *size[::-1], -1)


def _decode(data: bytes | None, *, where: str, size: tuple[int, int]) -> Image.Image:
    image = _open(data, where)
    if image.size != size:
        raise _mixed_sizes(f"{where} has", image.size[::-1], "row 0 has", size[::-1])
    if image.mode in DEEP_MODES:
        raise DataError(f"{where}: mode {image.mode}, but 8 bits a channel are needed")
    try:
        image.load()
        mode = "L" if image.mode in GREY_MODES else "RGB"
        return image if image.mode == mode else image.convert(mode)
    except Exception as error:  # Pillow's decoders raise many kinds
        raise DataError(f"{where}: the image is damaged ({error})") from error


def _open(data: bytes | None, where: str) -> Image.Image:
    if data is None:
        raise DataError(f"{where}: no image bytes (a path alone is not enough)")
    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:  # Pillow's plugins raise many kinds
        raise DataError(f"{where}: no image that Pillow can read ({error})") from error


def _mixed_sizes(
    one: str, one_HW: tuple[int, ...], other: str, other_HW: tuple[int, ...]
) -> DataError:
    sizes = f"{one} {one_HW[1]}x{one_HW[0]} pixels, {other} {other_HW[1]}x{other_HW[0]}"
    return DataError(
        f"{sizes}; parquet: takes images of one size (mixed sizes come with a later release)"
    )


def _as_rgb(pixels_NHWC: np.ndarray) -> np.ndarray:
    return pixels_NHWC if pixels_NHWC.shape[3] == 3 else np.repeat(pixels_NHWC, 3, axis=3)


def _statistics(pixels_NHWC: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if pixels_NHWC.shape[3] == 3:
        is_cifar_size = pixels_NHWC.shape[1:3] == (32, 32)
        return (CIFAR_MEAN, CIFAR_STD) if is_cifar_size else (IMAGENET_MEAN, IMAGENET_STD)
    share = np.bincount(pixels_NHWC.reshape(-1), minlength=256) / pixels_NHWC.size
    values = np.arange(256) / 255
    mean = float(share @ values)
    std = float(np.sqrt(share @ (values - mean) ** 2))
    return (mean,), (max(std, 1 / 255),)  # images of one flat grey have no spread


def _class_names(train: Part, test: Part) -> tuple[str, ...]:
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    names = train.class_names or test.class_names
    if names and len(names) < num_classes:
        raise DataError(
            f"{train.path.parent}: labels go up to {num_classes - 1}, but the files' metadata name "
            f"{len(names)} classes only"
        )
    return names or tuple(str(label) for label in range(num_classes))


def _hub_names(schema: pa.Schema) -> tuple[str, ...]:
    """The class names that the Hugging Face library stores in a schema; () if there are none."""
    stored = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(stored).get("info", {}).get("features", {}) if stored else {}
    return tuple(features.get("label", {}).get("names") or ())
