"""imagenet: layouts, ids, class names, and what is refused; the sample, where it is there."""

import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymd.data import load_dataset
from raymd.data.decode import UnreadableImageError
from raymd.data.encoded import EncodedSplit
from raymd.data.imagenet import class_names
from raymd.data.loader import EpochLoader
from raymd.data.splits import prepare
from raymd.errors import DataError, UserError
from tests.data.photographs import fill_tree, jpeg, photograph

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "imagenet-sample"


def table(rows, *, ids=None, kind="struct") -> pa.Table:
    contents = [jpeg(photograph(row, (40, 30 + row % 5))) for row in rows]
    images = pa.array(contents)
    if kind == "struct":
        images = pa.array([{"bytes": content, "path": "x.jpg"} for content in contents])
    columns = {"image": images, "label": [row % 2 for row in rows]}
    return pa.table(columns | ({} if ids is None else {"id": ids}))


def write(file: Path, made: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(made, file, row_group_size=3)
        return
    with pa.ipc.new_file(str(file), made.schema) as writer:
        writer.write_table(made, max_chunksize=4)


def load(folder: Path):
    return load_dataset("imagenet", data_dir=folder, image_size=16)


def contents(split: EncodedSplit) -> list[bytes]:
    return [split.picture(row).content for row in range(len(split))]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("kind", ["struct", "bytes"])
@pytest.mark.parametrize("base", [".", "data"])
def test_tables_are_read_row_by_row_over_shards(tmp_path, suffix, kind, base):
    for number, rows in enumerate([range(10), range(10, 17)]):
        write(tmp_path / base / f"train-{number:05d}-of-00002.{suffix}", table(rows, kind=kind))
    write(tmp_path / base / f"validation.{suffix}", table(range(30, 34), kind=kind))
    data = load(tmp_path)
    assert contents(data.train) == [jpeg(photograph(n, (40, 30 + n % 5))) for n in range(17)]
    assert data.train.labels.tolist() == [row % 2 for row in range(17)]
    assert len(data.test) == 4
    assert data.train.place(11).endswith(f"train-00001-of-00002.{suffix} row 1")
    assert "the validation part is used as one" in data.notes[0]


def test_streams_of_arrow_are_mapped_as_files_are(tmp_path):
    for part in ("train", "test"):  # as the Hugging Face library's save_to_disk writes them
        made = table(range(9))
        (tmp_path / part).mkdir()
        with pa.ipc.new_stream(
            str(tmp_path / part / "data-00000-of-00001.arrow"), made.schema
        ) as w:
            w.write_table(made, max_chunksize=4)
    assert contents(load(tmp_path).train) == [
        jpeg(photograph(n, (40, 30 + n % 5))) for n in range(9)
    ]


@pytest.mark.parametrize(
    ("ids", "order"),
    [(["b", "a", "d", "c"], [1, 0, 3, 2]), ([10, 9, 100, 1], [3, 1, 0, 2])],
)
def test_samples_count_in_the_order_of_their_ids(tmp_path, ids, order):
    write(tmp_path / "train.arrow", table(range(4), ids=ids))
    write(tmp_path / "test.arrow", table(range(4)))
    data = load(tmp_path)
    assert data.train.where.tolist() == order
    assert data.train.labels.tolist() == [row % 2 for row in order]


@pytest.mark.parametrize(
    ("ids", "message"),
    [(None, r"00001-of-00002.arrow: no column id, which train-00000-of-00002.arrow has"),
     ([[1], [2]], r"00001-of-00002.arrow: column id is list<.*>, which cannot be made texts"),
     ([b"\xff", b"\xfe"], r"00001-of-00002.arrow: column id is binary, which cannot")],
)  # fmt: skip
def test_ids_of_one_shard_that_cannot_be_used_are_named(tmp_path, ids, message):
    write(tmp_path / "train-00000-of-00002.arrow", table(range(2), ids=["a", "b"]))
    write(tmp_path / "train-00001-of-00002.arrow", table(range(2), ids=ids))
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_ids_of_any_type_that_has_texts_are_taken(tmp_path):
    write(tmp_path / "train-00000-of-00002.arrow", table(range(2), ids=["c", "b"]))
    kind = pa.dictionary(pa.int32(), pa.string())
    write(tmp_path / "train-00001-of-00002.arrow", table([2], ids=pa.array(["a"], kind)))
    write(tmp_path / "test.arrow", table(range(2)))
    assert load(tmp_path).train.manifest.ids.to_pylist() == ["c", "b", "a"]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("ids", [None, ["a", "b", "c"]])
def test_an_empty_shard_among_others_is_read(tmp_path, suffix, ids):
    made = table(range(3), ids=ids)
    for number, (start, length) in enumerate([(0, 2), (2, 0), (2, 1)]):
        write(tmp_path / f"train-{number:05d}-of-00003.{suffix}", made.slice(start, length))
    write(tmp_path / f"test.{suffix}", table(range(2)))
    assert (
        contents(load(tmp_path).train) == made["image"].combine_chunks().field("bytes").to_pylist()
    )


def test_ids_that_stand_twice_are_named(tmp_path):
    write(tmp_path / "train.arrow", table(range(4), ids=["a", "b", "c", "a"]))
    write(tmp_path / "test.arrow", table(range(4)))
    with pytest.raises(DataError, match=r"train.arrow row 3: id 'a' is that of .* row 0 too"):
        load(tmp_path)


def test_rows_without_an_id_are_counted(tmp_path):
    write(tmp_path / "train.arrow", table(range(4), ids=["a", None, "c", None]))
    write(tmp_path / "test.arrow", table(range(4)))
    with pytest.raises(DataError, match="2 rows have no id"):
        load(tmp_path)


def test_parquet_beyond_memory_is_sent_to_pack(tmp_path, monkeypatch):
    write(tmp_path / "train.parquet", table(range(8)))
    write(tmp_path / "test.parquet", table(range(4)))
    monkeypatch.setattr("raymd.data.manifest.available_bytes", lambda: 2000)
    with pytest.raises(DataError, match=rf"50% of the .*raymd pack parquet:{tmp_path} OUT"):
        load(tmp_path)


def test_paths_in_tables_are_read_from_their_files(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(jpeg(photograph(ord(name[0]))))
    columns = {"image": ["b.jpg", "a.jpg"], "label": [0, 1]}
    for part in ("train", "test"):
        write(tmp_path / f"{part}.arrow", pa.table(columns))
    data = load(tmp_path)
    assert contents(data.train) == [(tmp_path / name).read_bytes() for name in ("b.jpg", "a.jpg")]


def test_a_file_that_is_gone_is_a_damaged_image(tmp_path):
    fill_tree(tmp_path / "train", images=3)
    fill_tree(tmp_path / "val", images=1)
    data = prepare(load(tmp_path), subset=None, val_fraction=0, seed=0)
    (tmp_path / "train/cat/001.jpg").unlink()
    loader = EpochLoader(
        data.train, pixels=data.pixels, batch_size=6, seed=0, stream=0, device="cpu"
    )
    assert len(next(loader.batches(0)).labels) == 6
    assert "no file" in data.train.notes()[0]


def test_a_link_that_leads_nowhere_is_a_damaged_image(tmp_path):
    fill_tree(tmp_path / "train", images=3)
    fill_tree(tmp_path / "val", images=1)
    (tmp_path / "train/cat/gone.jpg").symlink_to(tmp_path / "gone.jpg")
    split = load(tmp_path).train
    row = split.manifest.ids.to_pylist().index("cat/gone.jpg")
    assert split.manifest.sizes[row] == 0
    with pytest.raises(UnreadableImageError, match=r"no file .*gone.jpg"):
        split.picture(row)


def test_a_file_name_that_is_not_utf8_is_named(tmp_path):
    fill_tree(tmp_path / "train", images=3)
    fill_tree(tmp_path / "val", images=1)
    (tmp_path / "train/cat" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    with pytest.raises(DataError, match=r"train: the file name 'cat/caf\\udce9.jpg' is not UTF-8"):
        load(tmp_path)


def test_workers_that_stand_in_another_folder_find_the_images(tmp_path, monkeypatch):
    fill_tree(tmp_path / "tree/train", images=3)
    fill_tree(tmp_path / "tree/val", images=1)
    for part in ("train", "test"):
        write(tmp_path / "arrow" / f"{part}.arrow", table(range(4)))
    monkeypatch.chdir(tmp_path)
    sent = [pickle.dumps(load(Path(name)).train.shipped()) for name in ("tree", "arrow")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for split in (pickle.loads(made)() for made in sent):
        assert len(split.picture(0).content) > 100
        assert split.place(0).startswith(str(tmp_path))


@pytest.mark.parametrize("stray", ["metadata.parquet", "train/metadata.parquet"])
def test_a_table_beside_class_folders_does_not_hide_them(tmp_path, stray):
    fill_tree(tmp_path / "train", images=3)
    fill_tree(tmp_path / "val", images=1)
    write(tmp_path / stray, table(range(9)))
    assert load(tmp_path).classes == ("cat", "dog")
    write(tmp_path / "data/train.parquet", table(range(9)))  # called after the part
    write(tmp_path / "data/val.parquet", table(range(9)))
    assert load(tmp_path).classes == ("0", "1")


def test_the_thousand_classes_have_their_names_and_others_keep_theirs():
    named = class_names(tuple(f"n{1440764 + number:08d}" for number in range(1000)))
    assert (named[0], named[999], len(set(named))) == ("tench", "toilet tissue", 1000)
    for others in (tuple(map(str, range(1000))), (*(f"n{n:08d}" for n in range(999)), "zebra")):
        assert class_names(others) == others
    assert class_names(("n01440764", "n01443537")) == ("n01440764", "n01443537")


@pytest.mark.parametrize(
    ("folder", "error", "message"),
    [(None, UserError, "--data_dir DIR"), ("gone", DataError, "gone does not exist; --data_dir"),
     (".", DataError, "no images in")],
)  # fmt: skip
def test_what_is_not_there_is_told(tmp_path, folder, error, message):
    with pytest.raises(error, match=message):
        load(folder and tmp_path / folder)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no {SAMPLE}")
def test_the_sample_of_real_images_is_read_without_damage():
    data = load_dataset("imagenet", data_dir=SAMPLE, image_size=64)
    assert (len(data.train), len(data.test), len(data.classes)) == (1000, 200, 1000)
    prepared = prepare(data, subset=200, val_fraction=0.1, seed=0)
    loader = EpochLoader(
        prepared.train, pixels=prepared.pixels, batch_size=60, seed=0, stream=0, device="cpu"
    )
    images = np.concatenate([batch.images.numpy() for batch in loader.batches(0)])
    assert images.shape == (180, 3, 64, 64)
    assert abs(images.mean()) < 0.3
    assert 0.8 < images.std() < 1.3
    assert prepared.train.notes() == []
