"""parquet: and arrow: what is read, what is refused, and in which words."""

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
from raymd.data.augment import Augmentation, augmentation_for
from raymd.data.columns import CHUNK_ROWS
from raymd.data.dataset import CIFAR_MEAN
from raymd.data.images import IMAGENET_STD
from raymd.data.splits import prepare
from raymd.data.tables import read_source
from raymd.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def png(pixels: np.ndarray, mode: str | None = None, kind: str = "PNG") -> bytes:
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, kind)
    return stream.getvalue()


def random_pixels(rows: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, *shape), np.uint8)


def write(path: Path, encoded: list, labels, *, names: list | None = None) -> None:
    images = [{"bytes": data, "path": "x"} if isinstance(data, bytes) else data for data in encoded]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": labels})
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
        (65, True, Augmentation(resized_crop=True, flip=True)),
    ],
)
def test_augmentation_follows_the_size(side, is_grey, expected):
    assert augmentation_for(side=side, is_grey=is_grey) == expected


def test_class_names_come_from_the_hub_metadata(tmp_path):
    images = [png(p) for p in random_pixels(2, 8, 8)]
    write_both(tmp_path, images, names=["cat", "dog", "owl"])
    assert load(tmp_path).classes == ("cat", "dog", "owl")
    assert load(tmp_path).notes == ("1 class (owl) without images",)
    write_both(tmp_path, images, names=["cat"])
    with pytest.raises(DataError, match="labels go from 0 to 1, but the files' metadata name 1"):
        load(tmp_path)


def test_corrupt_image_is_named_by_file_and_row(tmp_path):
    images = [png(p) for p in random_pixels(12, 16, 16, 3)]
    for damaged in (b"nonsense", images[7][:-200]):
        write_both(tmp_path, images, [*images[:7], damaged, *images[8:]])
        with pytest.raises(DataError, match=r"test\.parquet row 7: "):
            load(tmp_path)


@pytest.mark.parametrize("missing", [{"bytes": None, "path": None}, None])
def test_neither_bytes_nor_path_is_refused(tmp_path, missing):
    write_both(tmp_path, [png(random_pixels(1, 8, 8)[0]), missing])
    with pytest.raises(
        DataError, match=r"2 of 4 .*train\.parquet row 1: no image bytes and no path"
    ):
        load(tmp_path)


def test_all_damaged_images_are_counted_and_five_named(tmp_path):
    images = [png(p) for p in random_pixels(12, 16, 16, 3)]
    write_both(tmp_path, [*images[:3], *(b"x", b"") * 3, images[3]], images)
    with pytest.raises(DataError) as e:
        load(tmp_path)
    message = str(e.value)
    assert "6 of 22 images cannot be read" in message
    assert "train.parquet row 3: no image that Pillow can read" in message
    assert "train.parquet row 4: the image is empty (0 bytes)" in message
    assert "row 7" in message
    assert "row 8" not in message
    assert "and 1 more" in message


def test_paths_are_relative_to_the_folder(tmp_path):
    pixels = random_pixels(4, 8, 8, 3)
    (tmp_path / "images").mkdir()
    for row, image in enumerate(pixels):
        (tmp_path / "images" / f"{row} ä.png").write_bytes(png(image))
    paths = [f"images/{row} ä.png" for row in range(4)]
    write_both(tmp_path, [{"bytes": None, "path": path} for path in paths])
    pq.write_table(pa.table({"image": paths, "label": [0, 1] * 2}), tmp_path / "test.parquet")
    data = load(tmp_path)
    for part in (data.train, data.test):
        assert torch.equal(part.images, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    (tmp_path / paths[2]).unlink()
    with pytest.raises(DataError, match=r"row 2: no file .*2 ä\.png"):
        load(tmp_path)


@pytest.mark.parametrize("column", ["image", "img"])
@pytest.mark.parametrize("label", ["label", "labels", "fine_label"])
def test_columns_may_have_other_names_and_hold_plain_bytes(tmp_path, column, label):
    images = [png(p) for p in random_pixels(4, 8, 8)]
    table = pa.table({column: images, label: [0, 1, 0, 1], "coarse_label": [7] * 4})
    for part in ("train", "test"):
        pq.write_table(table, tmp_path / f"{part}.parquet")
    assert load(tmp_path).train.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "classes", "dense", "note"),
    [
        (["b", "a"], ("a", "b"), [1, 0], None),
        (pa.array(["b", "a"]).dictionary_encode(), ("a", "b"), [1, 0], None),
        (
            pa.array([5, 3]).dictionary_encode(),
            ("3", "5"),
            [1, 0],
            "3 to 5 with gaps became 0 to 1",
        ),
        (pa.array([True, False]), ("0", "1"), [1, 0], None),
        (pa.array([1, 0], pa.uint8()), ("0", "1"), [1, 0], None),
        ([10**9, 2], ("2", "1000000000"), [1, 0], "2 to 1000000000 with gaps became 0 to 1"),
        ([1, 2], ("1", "2"), [0, 1], "labels 1 to 2 became 0 to 1"),
    ],
)
def test_labels_of_any_kind_become_dense(tmp_path, labels, classes, dense, note):
    for part in ("train", "test"):
        write(tmp_path / f"{part}.parquet", [png(p) for p in random_pixels(2, 8, 8)], labels)
    data = load(tmp_path)
    assert data.classes == classes
    assert data.train.labels.tolist() == data.test.labels.tolist() == dense
    assert (note in data.notes[0]) if note else not data.notes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0], "column label is double, but integers or texts"),
        ([0, None], "row 1: the label is missing"),
        ([0, -1], "row 1: label -1, allowed are 0 and above"),
        ([4, 4], "class '4' is the only one; two are needed"),
    ],
)
def test_labels_that_are_no_class_are_refused(tmp_path, labels, message):
    for part in ("train", "test"):
        write(tmp_path / f"{part}.parquet", [png(p) for p in random_pixels(2, 8, 8)], labels)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("labels", "names", "unseen"),
    [([0, 4], None, "4"), ([0, 2], ["cat", "dog", "owl"], "owl")],
)
def test_a_class_in_the_test_part_alone_is_refused_by_name(tmp_path, labels, names, unseen):
    images = [png(p) for p in random_pixels(2, 8, 8)]
    write(tmp_path / "train.parquet", images, [0, 1], names=names)
    write(tmp_path / "test.parquet", images, labels, names=names)
    with pytest.raises(
        DataError, match=rf"1 class \({unseen}\) in the test part but not in the tr"
    ):
        load(tmp_path)


def test_texts_in_one_part_and_numbers_in_the_other_are_refused(tmp_path):
    images = [png(p) for p in random_pixels(2, 8, 8)]
    write(tmp_path / "train.parquet", images, [0, 1])
    write(tmp_path / "test.parquet", images, ["0", "1"])
    with pytest.raises(DataError, match="of one part are numbers, of the other part texts"):
        load(tmp_path)


def test_missing_files_and_columns_tell_what_is_there(tmp_path):
    with pytest.raises(DataError, match=r"folder .*gone does not exist; parquet:DIR \(--dataset\)"):
        load(tmp_path / "gone")
    with pytest.raises(DataError, match=r"no training part in .*train\.parquet.* has: nothing"):
        load(tmp_path)
    (tmp_path / "other.csv").touch()
    with pytest.raises(DataError, match=r"which has: other\.csv"):
        load(tmp_path)
    pq.write_table(pa.table({"jpeg": [1], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"no column image \(or img, .*it has: jpeg, label"):
        load(tmp_path)
    pq.write_table(pa.table({"image": [[1, 2]], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=r"column image is list<.*, but struct<bytes, path>, binary"
    ):
        load(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"text")
    with pytest.raises(DataError, match="not a readable parquet file"):
        load(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    write(tmp_path / "train.parquet", [], pa.array([], pa.int64()))
    with pytest.raises(DataError, match="has no rows"):
        load(tmp_path)


def shard_files(folder: Path, names: list[str], *, rows: int = 6) -> np.ndarray:
    """Files of images of one grey each, counted through all of them."""
    pixels = np.arange(rows * len(names), dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        images = [png(p) for p in pixels[number * rows : (number + 1) * rows]]
        write(path, images, [0, 1] * (rows // 2))
    return pixels[:, None]


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test.parquet"],
        ["train-00000-of-00002-0123456789abcdef.parquet", "train-00001-of-00002.parquet",
         "validation-00000-of-00001.parquet"],
        ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
         "data/val.parquet"],
        ["train/0000.parquet", "train/0001.parquet", "test/0000.parquet"],
        ["Train_0.PARQUET", "Train_1.PARQUET", "Testing.parquet"],
    ],
)  # fmt: skip
def test_shards_are_read_in_order_wherever_the_hub_puts_them(tmp_path, names):
    pixels = torch.from_numpy(shard_files(tmp_path, names))
    data = load(tmp_path)
    assert torch.equal(data.train.images, pixels[:12])
    assert torch.equal(data.test.images, pixels[12:])


def test_a_missing_shard_is_named(tmp_path):
    shard_files(tmp_path, ["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"])
    with pytest.raises(DataError, match="train has 2 of 3 shards; missing: 00001"):
        load(tmp_path)


def test_a_broken_row_is_counted_in_its_own_shard(tmp_path):
    shard_files(tmp_path, ["train-00000-of-00002.parquet", "test.parquet"])
    images = [png(p) for p in random_pixels(6, 8, 8)]
    write(tmp_path / "train-00001-of-00002.parquet", [*images[:4], b"x", images[5]], [0, 1] * 3)
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet row 4: "):
        load(tmp_path)


def test_test_comes_before_validation_which_is_announced(tmp_path):
    pixels = shard_files(tmp_path, ["train.parquet", "validation.parquet", "test.parquet"])
    data = load(tmp_path)
    assert torch.equal(data.test.images, torch.from_numpy(pixels[12:]))
    assert data.notes[0].startswith("the validation part is left out")
    (tmp_path / "test.parquet").unlink()
    data = load(tmp_path)
    assert torch.equal(data.test.images, torch.from_numpy(pixels[6:12]))
    assert data.notes == ("no test part: the validation part is used as one",)


def test_without_a_test_part_a_fifth_is_held_out_whatever_the_seed(tmp_path):
    pixels = shard_files(tmp_path, ["train.parquet"], rows=50)
    one, other = load(tmp_path), load_dataset(f"parquet:{tmp_path}", seed=9)
    assert (len(one.train), len(one.test)) == (40, 10)
    assert one.test.labels.bincount().tolist() == [5, 5]
    assert torch.equal(one.test.images, other.test.images)
    greys = torch.cat([one.train.images, one.test.images])[:, 0, 0, 0]
    assert sorted(greys.tolist()) == pixels[:, 0, 0, 0].tolist()
    assert one.notes == ("no test part: 10 of 50 images are held out as one",)


def test_a_class_of_one_image_is_never_held_out(tmp_path):
    images = [png(p) for p in random_pixels(12, 8, 8)]
    write(tmp_path / "train.parquet", images, [*range(6), *[6] * 6])
    data = load(tmp_path)
    assert data.test.labels.tolist() == [6]
    write(tmp_path / "train.parquet", images, list(range(12)))
    with pytest.raises(DataError, match="12 images are too few to hold some out; add a test part"):
        load(tmp_path)


@pytest.mark.parametrize("subset", [7, 20])
def test_a_subset_is_the_one_that_prepare_would_take_and_no_more_is_decoded(tmp_path, subset):
    shard_files(tmp_path, ["train.parquet", "test.parquet"], rows=20)
    settings = {"subset": subset, "val_fraction": 0.0, "seed": 3}
    late = prepare(load(tmp_path), **settings)
    early = load_dataset(f"parquet:{tmp_path}", subset=subset, seed=3)
    assert len(early.train) == subset
    again = prepare(early, **settings)
    assert torch.equal(again.train.images, late.train.images)
    assert torch.equal(again.train.labels, late.train.labels)
    assert again.fingerprint == late.fingerprint


def to_arrow(file: Path, *, stream: bool = False) -> Path:
    """The same table as an Arrow file beside it, as ``save_to_disk`` or ``map`` writes it."""
    table, path = pq.read_table(file), file.with_suffix(".arrow")
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    return path


@pytest.mark.parametrize("stream", [False, True])
def test_arrow_files_and_streams_hold_the_same_as_parquet(tmp_path, stream):
    names = [f"train/data-0000{n}-of-00002.parquet" for n in range(2)]
    names.append("test/data-00000-of-00001.parquet")
    shard_files(tmp_path, names)
    for name in names:
        to_arrow(tmp_path / name, stream=stream)
    (tmp_path / "train" / "cache-0a1b.arrow").write_bytes(b"left behind by map")
    parquet, arrow = load(tmp_path), load_dataset(f"arrow:{tmp_path}")
    for part in ("train", "test"):
        assert torch.equal(getattr(arrow, part).images, getattr(parquet, part).images)
        assert torch.equal(getattr(arrow, part).labels, getattr(parquet, part).labels)


def test_one_saved_part_is_the_training_part(tmp_path):
    shard_files(tmp_path, ["data-00000-of-00001.parquet"], rows=10)
    to_arrow(tmp_path / "data-00000-of-00001.parquet", stream=True)
    assert len(load_dataset(f"arrow:{tmp_path}").test) == 2


def test_arrow_class_names_and_damage(tmp_path):
    write_both(tmp_path, [png(p) for p in random_pixels(4, 8, 8)], names=["cat", "dog"])
    for part in ("train", "test"):
        to_arrow(tmp_path / f"{part}.parquet")
    assert load_dataset(f"arrow:{tmp_path}").classes == ("cat", "dog")
    (tmp_path / "test.arrow").write_bytes(b"text")
    with pytest.raises(DataError, match=r"test\.arrow is not a readable arrow file"):
        load_dataset(f"arrow:{tmp_path}")


def test_real_cifar_test_part_is_read():
    file = SHARED / "cifar10" / "test.parquet"
    if not file.is_file():
        pytest.skip(f"no {file}")
    source = read_source(file.parent, [file])
    assert np.bincount(source.labels).tolist() == [1000] * 10
    encoded = [image for _, images in source.chunks() for image in images]
    assert len(encoded) == 10_000
    assert all(encoded)


def test_real_photographs_are_stored_as_squares(tmp_path):
    file = SHARED / "imagenet-sample" / "test.parquet"
    if not file.is_file():
        pytest.skip(f"no {file}")
    labels = [row % 2 for row in range(200)]
    table = pq.read_table(file).set_column(1, "label", pa.array(labels))
    pq.write_table(table.slice(0, 40), tmp_path / "train.parquet")
    data = load(tmp_path)
    assert data.train.images.shape == (32, 3, 256, 256)
    assert data.image_size == 224
    assert data.augmentation == Augmentation(resized_crop=True, flip=True)
