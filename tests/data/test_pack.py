"""pack: the same samples from shards as from what was packed, whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from raymd.cli import main
from raymd.data import load_dataset
from raymd.data.pack import Smaller, pack
from raymd.data.splits import prepare
from raymd.errors import DataError, UserError
from tests.data.photographs import fill_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    # "cat-2/" sorts before "cat/" as a text, behind it as a folder
    fill_tree(folder / "train", classes=("cat", "cat-2", "dog"), images=200)
    fill_tree(folder / "val", classes=("cat", "dog"), images=2, first=500)
    return folder


def fingerprint(spec: str, **options) -> str:
    return prepare(
        load_dataset(spec, image_size=16, **options), subset=30, val_fraction=0.2, seed=0
    ).fingerprint


def rows(split) -> list[tuple[int, bytes]]:
    return [(int(split.labels[n]), split.picture(n).content) for n in range(len(split))]


def test_shards_are_the_tree_they_were_made_of(tree, tmp_path):
    lines: list[str] = []
    packed = pack(f"folder:{tree}", tmp_path / "out", shard_mb=1, announce=lines.append)
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    number = packed["train"].shards
    assert names == [
        "test-00000-of-00001.arrow",
        *(f"train-{n:05d}-of-{number:05d}.arrow" for n in range(number)),
    ]
    assert (packed["train"].images, packed["test"].images, number) == (600, 4, 3)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert lines == ["no test part: the validation part is used as one"]
    folders = (tree, tmp_path / "out")
    before, after = (load_dataset("imagenet", data_dir=f, image_size=16) for f in folders)
    assert rows(after.train) == rows(before.train)
    assert rows(after.test) == rows(before.test)
    assert after.classes == ("cat", "cat-2", "dog")
    # so a run may go on with the shards, and its soft labels fit
    assert fingerprint("imagenet", data_dir=tmp_path / "out") == fingerprint(
        "imagenet", data_dir=tree
    )
    again = pack(f"arrow:{tmp_path / 'out'}", tmp_path / "again", shard_mb=1)
    assert again["train"].images == 600
    for file in names:
        first, second = (pa.memory_map(str(tmp_path / f / file)) for f in ("out", "again"))
        one, two = pa.ipc.open_file(first).read_all(), pa.ipc.open_file(second).read_all()
        assert one.equals(two)


def test_arrow_reads_what_was_packed_as_any_table(tree, tmp_path):
    pack(f"folder:{tree}", tmp_path / "out", announce=lambda _: None)
    data = load_dataset(f"arrow:{tmp_path / 'out'}", image_size=16)
    assert (len(data.train), len(data.test), data.classes) == (600, 4, ("cat", "cat-2", "dog"))
    file = pa.memory_map(str(next((tmp_path / "out").glob("train-*"))))
    schema = pa.ipc.open_file(file).schema
    assert schema.names == ["id", "image", "label"]
    assert len(json.loads(schema.metadata[b"raymd"])["packed_from"]) == 32


def test_damaged_images_are_left_out_and_named(tmp_path):
    for part in ("train", "val"):
        fill_tree(tmp_path / "in" / part, images=4)
    bad = tmp_path / "in/train/cat/001.jpg"
    bad.write_bytes(bad.read_bytes()[:900])
    (tmp_path / "in/train/dog/002.jpg").write_bytes(b"")
    packed = pack(f"folder:{tmp_path / 'in'}", tmp_path / "out", announce=lambda _: None)
    assert packed["train"].images == 6
    left_out = packed["train"].left_out
    assert [Path(place).name for place in left_out] == ["001.jpg", "002.jpg"]
    assert "damaged" in left_out[str(bad)]
    ids = load_dataset("imagenet", data_dir=tmp_path / "out").train.manifest.ids.to_pylist()
    assert ids == [f"{c}/00{n}.jpg" for c in ("cat", "dog") for n in range(4)
                   if (c, n) not in (("cat", 1), ("dog", 2))]  # fmt: skip


def test_larger_images_can_be_made_smaller(tmp_path):
    fill_tree(tmp_path / "in/train", images=5)
    fill_tree(tmp_path / "in/val", images=1)
    small = tmp_path / "in/train/cat/small.png"
    Image.fromarray(np.full((20, 40, 3), 9, np.uint8)).save(small)
    pack(f"folder:{tmp_path / 'in'}", tmp_path / "out", smaller=Smaller(32, 80), announce=list)
    split = load_dataset("imagenet", data_dir=tmp_path / "out").train
    pictures = [split.picture(row) for row in range(len(split))]
    assert sorted({min(p.height, p.width) for p in pictures}) == [20, 32]
    (left,) = [p for p in pictures if p.height == 20]
    assert left.content == small.read_bytes()


def test_nothing_is_left_of_a_pack_that_failed(tmp_path, monkeypatch):
    fill_tree(tmp_path / "in/train", images=3)
    fill_tree(tmp_path / "in/val", images=1)
    for file in (tmp_path / "in/val").rglob("*.jpg"):
        file.write_bytes(b"x")
    with pytest.raises(DataError, match=r"000.jpg and all other images of the test part"):
        pack(f"folder:{tmp_path / 'in'}", tmp_path / "out", announce=lambda _: None)
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="damaged"):
        pack(f"folder:{tmp_path / 'in'}", tmp_path / "out", announce=lambda _: None)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [("cifar10", UserError, "can be packed are imagenet, folder, parquet, arrow"),
     ("imagenet", UserError, "--data_dir DIR"),
     ("folder:gone", DataError, "gone does not exist")],
)  # fmt: skip
def test_what_cannot_be_packed_is_told(tmp_path, spec, error, message):
    with pytest.raises(error, match=message):
        pack(spec, tmp_path / "out")


def test_a_folder_with_files_is_left_alone(tree, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        pack(f"folder:{tree}", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("kind", ["empty", "here", "link", "link to nothing"])
def test_a_folder_that_is_there_is_filled_and_stays_the_same(tmp_path, kind, monkeypatch):
    fill_tree(tmp_path / "in/train", images=3)
    fill_tree(tmp_path / "in/val", images=1)
    real = out = tmp_path / "out"
    if kind != "link to nothing":
        out.mkdir()
    if kind == "here":
        monkeypatch.chdir(out)
        out = Path()
    if kind.startswith("link"):
        out = tmp_path / "link"
        out.symlink_to(real)
    before = real.stat().st_ino if real.exists() else None
    pack(f"folder:{tmp_path / 'in'}", out, announce=lambda _: None)
    names = ["test-00000-of-00001.arrow", "train-00000-of-00001.arrow"]
    assert sorted(file.name for file in real.iterdir()) == names
    assert before in (None, real.stat().st_ino)  # a mount point cannot be replaced
    assert out.is_symlink() == kind.startswith("link")


def test_the_command_tells_what_it_wrote(tmp_path, capsys):
    fill_tree(tmp_path / "in/train", images=3)
    fill_tree(tmp_path / "in/val", images=1)
    (tmp_path / "in/train/cat/000.jpg").write_bytes(b"x")
    (tmp_path / "out").mkdir()
    given = ["imagenet", str(tmp_path / "out"), "--data_dir", str(tmp_path / "in")]
    assert main(["pack", *given]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "train: 5 images in 1 file"
    assert "train: 1 damaged, left out: " in out
    assert out.splitlines()[-1] == "test: 2 images in 1 file"
    assert "the validation part is used" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--shard_mb", "2001"], "shard_mb 2001: at most 2000 is allowed"),
     (["--quality", "101"], "quality 101: at most 100 is allowed"),
     (["--short_side", "7"], "whole number of at least 8")],
)  # fmt: skip
def test_mistakes_are_answered_in_a_line(flags, message, capsys):
    assert main(["pack", "folder:x", "out", *flags]) == 2
    assert message in capsys.readouterr().err
