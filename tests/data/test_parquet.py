"""Images of one's own: what is read, what is refused, and in which words."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from raymd.data import load_dataset
from raymd.data.augment import Augmentation
from raymd.data.dataset import CIFAR_MEAN
from raymd.data.parquet import CHUNK_ROWS, IMAGENET_STD, augmentation_for
from raymd.errors import DataError

CIFAR = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10"


def png(pixels: np.ndarray, mode: str | None = None, kind: str = "PNG") -> bytes:
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, kind)
    return stream.getvalue()


def random_pixels(rows: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, *shape), np.uint8)


def write(path: Path, encoded: list, labels: list, *, names: list | None = None) -> None:
    images = [data if isinstance(data, dict) else {"bytes": data, "path": "x"} for data in encoded]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": pa.array(labels)})
    if names:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=5)


def write_both(folder: Path, train: list, test: list | None = None, **options) -> None:
    for part, encoded in (("train", train), ("test", test or train)):
        labels = [row % 2 for row in range(len(encoded))]
        write(folder / f"{part}.parquet", encoded, labels, **options)


def load(folder: Path):
    return load_dataset(f"parquet:{folder}")


def test_rgb_images_come_back_pixel_by_pixel(tmp_path):
    train, test = random_pixels(12, 16, 18, 3), random_pixels(3, 16, 18, 3, seed=1)
    write_both(tmp_path, [png(p) for p in train], [png(p) for p in test])
    data = load(tmp_path)
    assert torch.equal(data.train.images, torch.from_numpy(train).permute(0, 3, 1, 2))
    assert torch.equal(data.test.images, torch.from_numpy(test).permute(0, 3, 1, 2))
    assert data.train.labels.tolist() == [0, 1] * 6
    assert data.classes == ("0", "1")
    assert data.std == IMAGENET_STD
    assert data.augmentation == Augmentation(pad=2, flip=True)


def test_grey_images_stay_grey_and_are_measured(tmp_path):
    pixels = random_pixels(9, 8, 8)
    write_both(tmp_path, [png(p) for p in pixels])
    data = load(tmp_path)
    assert data.train.images.shape == (9, 1, 8, 8)
    assert data.mean == pytest.approx([np.mean(pixels / 255)])
    assert data.std == pytest.approx([np.std(pixels / 255)])
    assert data.augmentation == Augmentation(pad=1, flip=False)


def test_flat_grey_images_do_not_divide_by_zero(tmp_path):
    write_both(tmp_path, [png(np.full((8, 8), 7, np.uint8))] * 2)
    assert load(tmp_path).std == (1 / 255,)


def test_one_colour_image_makes_all_of_them_rgb(tmp_path):
    grey, colour = random_pixels(CHUNK_ROWS + 1, 8, 8), random_pixels(1, 8, 8, 3)
    write_both(tmp_path, [png(p) for p in grey] + [png(colour[0])], [png(grey[0])])
    data = load(tmp_path)
    for images in (data.train.images[0], data.train.images[CHUNK_ROWS], data.test.images[0]):
        assert torch.equal(images[0], images[2])
    assert torch.equal(data.train.images[0, 1], torch.from_numpy(grey[0]))
    assert torch.equal(data.train.images[-1], torch.from_numpy(colour[0]).permute(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3)])
def test_other_modes_become_grey_or_rgb(tmp_path, mode, channels):
    write_both(tmp_path, [png(p, mode) for p in random_pixels(2, 8, 8, 3)])
    assert load(tmp_path).train.images.shape == (2, channels, 8, 8)


def test_cifar_sized_images_get_its_statistics(tmp_path):
    write_both(tmp_path, [png(p, kind="JPEG") for p in random_pixels(2, 32, 32, 3)])
    data = load(tmp_path)
    assert data.mean == CIFAR_MEAN
    assert data.augmentation == Augmentation(pad=4, flip=True)


@pytest.mark.parametrize(
    ("side", "is_grey", "expected"),
    [
        (8, True, Augmentation(1)),
        (28, True, Augmentation(2)),
        (16, False, Augmentation(2, True)),
        (32, True, Augmentation(4, True)),
        (64, False, Augmentation(4, True)),
    ],
)
def test_augmentation_follows_the_size(side, is_grey, expected):
    assert augmentation_for(side=side, is_grey=is_grey) == expected


def test_class_names_come_from_the_hub_metadata(tmp_path):
    images = [png(p) for p in random_pixels(2, 8, 8)]
    write_both(tmp_path, images, names=["cat", "dog", "owl"])
    assert load(tmp_path).classes == ("cat", "dog", "owl")
    write_both(tmp_path, images, names=["cat"])
    with pytest.raises(DataError, match="labels go up to 1, but the files' metadata name 1"):
        load(tmp_path)


def test_classes_seen_in_the_test_part_alone_count_too(tmp_path):
    image = png(random_pixels(1, 8, 8)[0])
    write(tmp_path / "train.parquet", [image], [0])
    write(tmp_path / "test.parquet", [image], [4])
    assert load(tmp_path).classes == ("0", "1", "2", "3", "4")


def test_corrupt_image_is_named_by_file_and_row(tmp_path):
    images = [png(p) for p in random_pixels(12, 16, 16, 3)]
    for damaged in (b"nonsense", images[7][:-200]):
        write_both(tmp_path, images, [*images[:7], damaged, *images[8:]])
        with pytest.raises(DataError, match=r"test\.parquet row 7: "):
            load(tmp_path)


@pytest.mark.parametrize("missing", [{"bytes": None, "path": "a.png"}, None])
def test_a_path_without_bytes_is_refused(tmp_path, missing):
    image = png(random_pixels(1, 8, 8)[0])
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {"image": pa.array([{"bytes": image}, missing], kind), "label": pa.array([0, 1])}
    )
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="row 1: no image bytes"):
        load(tmp_path)


def test_sizes_that_differ_are_refused(tmp_path):
    small, large = png(random_pixels(1, 8, 9, 3)[0]), png(random_pixels(1, 8, 10, 3)[0])
    write_both(tmp_path, [small, small, large])
    with pytest.raises(DataError, match=r"row 2 has 10x8 pixels, row 0 has 9x8.*one size"):
        load(tmp_path)
    write_both(tmp_path, [small, small], [large])
    with pytest.raises(DataError, match=r"test\.parquet has 10x8 pixels, .*train\.parquet has 9x8"):
        load(tmp_path)


def test_large_and_deep_images_are_refused(tmp_path):
    write_both(tmp_path, [png(random_pixels(1, 20, 65, 3)[0])])
    with pytest.raises(DataError, match=r"65x20 pixels, .* up to 64x64; .*later release"):
        load(tmp_path)
    write_both(tmp_path, [png(np.zeros((8, 8), np.uint16))])
    with pytest.raises(DataError, match="8 bits a channel"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], "column label is string, but integers"),
        ([0.0, 1.0], "column label is double"),
        ([0, None], "row 1: the label is missing"),
        ([0, -1], "row 1: label -1, allowed are 0 to 99999"),
        ([10**9, 0], "row 0: label 1000000000"),
    ],
)
def test_labels_that_are_no_class_are_refused(tmp_path, labels, message):
    write(tmp_path / "train.parquet", [png(p) for p in random_pixels(2, 8, 8)], labels)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_missing_files_and_columns_tell_what_is_there(tmp_path):
    with pytest.raises(DataError, match=r"no file .*train\.parquet; .* which has: nothing"):
        load(tmp_path)
    (tmp_path / "other.csv").touch()
    with pytest.raises(DataError, match=r"which has: other\.csv"):
        load(tmp_path)
    pq.write_table(pa.table({"img": [1], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no column image; it has: img, label"):
        load(tmp_path)
    pq.write_table(pa.table({"image": [b"1"], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="column image is binary, but struct"):
        load(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"text")
    with pytest.raises(DataError, match="not a readable parquet file"):
        load(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([], kind), "label": pa.array([], pa.int64())})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="has no rows"):
        load(tmp_path)


def test_real_cifar_test_part_is_read():
    if not (CIFAR / "test.parquet").is_file():
        pytest.skip(f"no {CIFAR}")
    from raymd.data.parquet import _read_part

    part = _read_part(CIFAR / "test.parquet")
    assert part.pixels.shape == (10_000, 32, 32, 3)
    assert np.bincount(part.labels).tolist() == [1000] * 10
    measured = part.pixels.mean(axis=(0, 1, 2)) / 255
    assert measured == pytest.approx(np.array(CIFAR_MEAN), abs=0.01)
