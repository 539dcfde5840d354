"""folder: layouts, stray files, class names, and what is refused."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raymd.data import load_dataset
from raymd.errors import DataError


def fill(folder: Path, *, images: int = 5, classes=("cat", "dog"), size=(8, 8), name="{}.png"):
    for number, label in enumerate(classes):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in range(images):
            grey = 10 * index + number
            Image.new("L", size, grey).save(folder / label / name.format(index))


def load(folder: Path, **options):
    return load_dataset(f"folder:{folder}", **options)


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "VAL"),
                                             ("train", "validation")])  # fmt: skip
def test_parts_are_folders_and_classes_folders_in_them(tmp_path, train, test):
    fill(tmp_path / train)
    fill(tmp_path / test, images=2)
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (10, 4)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 1, 11, 21, 31, 41]
    assert data.name == f"folder:{tmp_path}"


def test_class_folders_alone_have_a_test_part_held_out(tmp_path):
    fill(tmp_path)
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (8, 2)
    assert data.test.labels.tolist() == [0, 1]
    assert data.notes == ("no test part: 2 of 10 images are held out as one",)


def test_validation_beside_test_is_left_out_and_announced(tmp_path):
    for part, images in (("train", 5), ("val", 4), ("test", 3)):
        fill(tmp_path / part, images=images)
    data = load(tmp_path)
    assert len(data.test) == 6
    assert "the validation part is left out" in data.notes[0]


def test_stray_files_are_skipped_and_counted(tmp_path):
    fill(tmp_path, name="image {} ü.PNG")
    for stray in ("README.txt", "cat/Thumbs.db", "cat/.DS_Store", "dog/.hidden.png"):
        (tmp_path / stray).write_bytes(b"no image")
    (tmp_path / ".git" / "x").mkdir(parents=True)
    (tmp_path / "__MACOSX").mkdir()
    data = load(tmp_path)
    assert len(data.train) + len(data.test) == 10
    files = ".DS_Store, .hidden.png, README.txt, Thumbs.db"
    assert f"skipped, since they are no images: 4 files ({files})" in data.notes
    assert data.classes == ("cat", "dog")


def test_empty_class_folders_are_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "owl").mkdir()
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert "no images in 1 class folder (owl)" in data.notes


def test_images_in_folders_of_a_class_count(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "more").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "cat" / "more" / "x.png")
    data = load(tmp_path)
    assert len(data.train) + len(data.test) == 11


def test_an_umlaut_is_one_class_however_it_is_encoded(tmp_path):
    fill(tmp_path / "train", classes=(unicodedata.normalize("NFC", "Bär"), "Hund"))
    fill(tmp_path / "test", classes=(unicodedata.normalize("NFD", "Bär"), "Hund"))
    assert load(tmp_path).classes == ("Bär", "Hund")


def test_damaged_images_are_all_counted_and_named(tmp_path):
    fill(tmp_path / "train", images=8, classes=("cat", "a dog"))
    fill(tmp_path / "test", classes=("cat", "a dog"))
    (tmp_path / "train" / "a dog" / "3.png").write_bytes(b"")
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"nonsense")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    truncated = tmp_path / "test" / "cat" / "2.png"
    Image.fromarray(noise).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:-3000])
    with pytest.raises(DataError) as e:
        load(tmp_path)
    message = str(e.value)
    assert "3 of 26 images cannot be read" in message
    assert f"{tmp_path}/train/a dog/3.png: the image is empty (0 bytes)" in message
    assert f"{tmp_path}/train/cat/1.png: no image that Pillow can read" in message
    assert f"{truncated}: the image is damaged" in message


def test_all_images_damaged_is_refused_too(tmp_path):
    fill(tmp_path)
    for path in tmp_path.glob("*/*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"10 of 10 images cannot be read.*and 5 more"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"only": 5}, "class 'only' is the only one"),
        ({"train/cat": 5, "train/dog": 5, "test/cat": 1, "test/owl": 1},
         r"1 class \(owl\) in the test part but not in the training part"),
        ({"test/cat": 2, "test/dog": 2}, r"has test but no train; DIR/train/CLASS"),
        ({"train/cat": 2, "train/dog": 2, "training/cat": 1}, "both train and training are train"),
        ({"cat": 0, "dog": 0}, "no images in .*; DIR/train/CLASS"),
        ({"train/cat": 2, "train/dog": 2, "test/cat": 0}, "no images in .*test; "),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_refused(tmp_path, layout, message):
    for place, images in layout.items():
        folder = tmp_path / place
        fill(folder.parent, images=images, classes=(folder.name,))
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_no_folder_is_told_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=rf"folder {tmp_path}/gone does not exist; --dataset folder:"
    ):
        load(Path("gone"))
    Path("file").touch()
    with pytest.raises(DataError, match="is a file"):
        load(Path("file"))


def test_mixed_sizes_up_to_64_pixels_become_the_largest_short_side(tmp_path):
    fill(tmp_path, size=(20, 30))
    fill(tmp_path, size=(40, 24), name="wide{}.png")
    data = load(tmp_path)
    assert data.train.images.shape[1:] == (1, 24, 24)
    assert data.image_size == 24
    assert "images of 20x24 to 40x30 pixels are resized to 24x24 (--image_size)" in data.notes
    assert load(tmp_path, image_size=16).train.images.shape[1:] == (1, 16, 16)


def test_photographs_are_stored_larger_than_they_are_seen(tmp_path):
    fill(tmp_path, images=3, size=(120, 90))
    data = load(tmp_path, image_size=70)
    assert data.train.images.shape[1:] == (1, 80, 80)
    assert data.image_size == 70
    assert data.augmentation.resized_crop
    assert any("middle square is stored as 80x80" in note for note in data.notes)
    assert load(tmp_path).image_size == 224


def test_images_of_one_small_size_stay_as_they_are(tmp_path):
    fill(tmp_path, size=(28, 20))
    assert load(tmp_path).train.images.shape[1:] == (1, 20, 28)
    square = load(tmp_path, image_size=32)
    assert square.train.images.shape[1:] == (1, 32, 32)


def test_more_than_fits_into_memory_is_refused_with_numbers(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr("raymd.data.geometry.available_bytes", lambda: 1000)
    with pytest.raises(DataError, match=r"10 images .* 8x8x1 need .*60%.*--image_size.*--subset"):
        load(tmp_path)
    monkeypatch.setattr("raymd.data.geometry.available_bytes", lambda: 1100)
    assert len(load(tmp_path).train) == 8
