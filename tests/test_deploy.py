"""A finished run's students, loaded without Ray and without the training data."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import raymd
from raymd.data import load_dataset
from raymd.data.augment import clean_images
from raymd.data.dataset import Dataset
from raymd.deploy import LoadedEnsemble, LoadedStudent, load_ensemble
from raymd.errors import DataError, StorageError, UserError
from raymd.execution.collect import collect
from raymd.storage import Storage
from tests.training.conftest import run_to, tiny_data, tiny_settings, tiny_tasks


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deploy") / "run"
    storage, settings = Storage.at(folder), tiny_settings()
    run_to(tiny_tasks(storage, settings))
    collect(storage, settings, tiny_data(settings), seconds=1.0)
    return folder


def test_every_student_scores_what_the_result_says(run: Path) -> None:
    result = raymd.Result.from_json((run / "result.json").read_text())
    test = tiny_data(tiny_settings()).test
    for student in result.students:
        for weights, scores in (("last", student.last), ("best", student.best)):
            model = raymd.load_student(run, student=student.id, weights=weights)
            with torch.inference_mode():
                hits = (model(test.images).argmax(1) == test.labels).sum()
            assert scores is not None
            assert int(hits) == scores.test.correct


def test_the_best_student_is_the_results(run: Path) -> None:
    result = raymd.Result.from_json((run / "result.json").read_text())
    model = raymd.load_student(run)
    assert (model.id, model.classes) == (result.best_student, ("a", "b", "c"))
    assert not model.training


def test_the_ensemble_is_scored_from_the_students_predictions(run: Path) -> None:
    result = raymd.Result.from_json((run / "result.json").read_text())
    data = tiny_data(tiny_settings())
    mixed = torch.zeros(len(data.test), 3)
    for member, weight in zip(result.ensemble.members, result.ensemble.weights, strict=True):
        model = raymd.load_student(run, student=member, weights="last")
        with torch.inference_mode():
            mixed += weight * model(data.test.images).softmax(-1)
    assert int((mixed.argmax(1) == data.test.labels).sum()) == result.ensemble.last.test.correct
    assert sum(result.ensemble.weights) == pytest.approx(1)


@pytest.mark.parametrize("weights", ["last", "best"])
def test_the_loaded_ensemble_scores_what_the_result_says(run: Path, weights: str) -> None:
    result = raymd.Result.from_json((run / "result.json").read_text())
    test = tiny_data(tiny_settings()).test
    model = load_ensemble(run, weights=weights)
    with torch.inference_mode():
        log_probs = model(test.images)
    scores = getattr(result.ensemble, weights)
    assert int((log_probs.argmax(1) == test.labels).sum()) == scores.test.correct
    assert torch.allclose(log_probs.exp().sum(1), torch.ones(len(test)))
    assert [member.id for member in model.members] == list(result.ensemble.members)
    assert not model.training


def test_an_ensemble_gives_the_log_of_the_weighted_mean_of_probabilities(run: Path) -> None:
    first, second = load_ensemble(run).members
    images = tiny_data(tiny_settings()).test.images[:4]
    with torch.inference_mode():
        probs = 0.25 * first(images).softmax(-1) + 0.75 * second(images).softmax(-1)
        assert torch.allclose(LoadedEnsemble([first, second], [0.25, 0.75])(images), probs.log())
        alone = LoadedEnsemble([first, second], [0.0, 1.0])(images)
        assert torch.allclose(alone, second(images).log_softmax(-1), atol=1e-6)


def test_an_unfinished_run_has_no_ensemble(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/result.json").unlink()
    with pytest.raises(UserError, match="no finished run"):
        load_ensemble(tmp_path / "run")
    assert raymd.load_student(tmp_path / "run", student="tiny4").id == "tiny4"


def test_uint8_and_unit_floats_are_the_same_image(run: Path) -> None:
    model = raymd.load_student(run)
    images = tiny_data(tiny_settings()).test.images[:4]
    with torch.inference_mode():
        assert torch.allclose(model(images), model(images.float() / 255), atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_picture_of_any_size_and_mode_is_preprocessed(run: Path, mode: str) -> None:
    model = raymd.load_student(run)
    image = model.preprocess(Image.new(mode, (31, 17)))
    assert (image.dtype, image.shape) == (torch.uint8, (3, 8, 8))
    assert model(image.unsqueeze(0)).shape == (1, 3)


def fake_student(dataset: Dataset, *, old: bool = False) -> LoadedStudent:
    """A student that was trained on a data set, as model.json describes it, or once did."""
    record: dict[str, Any] = {
        "id": "s", "arch": "none", "classes": dataset.classes, "image_size": dataset.image_size,
        "in_channels": dataset.train.images.shape[1], "mean": dataset.mean, "std": dataset.std,
    }  # fmt: skip
    if not old:
        record["stored_size"] = list(dataset.train.images.shape[-2:])
    return LoadedStudent(torch.nn.Identity(), record)


def save_photos(folder: Path) -> list[Path]:
    """Noise of many sizes, modes and orientations below train/ and test/, sorted as folder: is."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    files = []
    for part in ("test", "train"):
        for n, (width, height) in enumerate([(150, 131), (133, 250), (140, 140), (300, 200)]):
            place = folder / part / "ab"[n % 2]
            place.mkdir(parents=True, exist_ok=True)
            rgb = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            image = [rgb, rgb.convert("RGBA"), rgb.convert("P"), rgb.convert("CMYK")][n]
            name = place / f"{n}.{['jpg', 'png', 'png', 'jpeg'][n]}"
            image.save(name, **({"exif": exif} if n == 0 else {}))
            files.append(name)
    return sorted(file for file in files if "test" in file.parts)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("image_size", [24, 96, 112])
def test_a_file_is_read_as_training_reads_it(tmp_path: Path, image_size: int, old: bool) -> None:
    files = save_photos(tmp_path)
    dataset = load_dataset(f"folder:{tmp_path}", image_size=image_size)
    model = fake_student(dataset, old=old)
    stored = clean_images(dataset.test.images, pixels=dataset.pixels)
    seen = model(torch.stack([model.read(file) for file in files]))
    assert seen.shape[2:] == (image_size, image_size)
    assert torch.allclose(seen, stored, atol=1e-5)


@pytest.mark.parametrize("image_size", [24, 96])
def test_a_picture_is_preprocessed_as_its_file_is_read(tmp_path: Path, image_size: int) -> None:
    files = save_photos(tmp_path)
    model = fake_student(load_dataset(f"folder:{tmp_path}", image_size=image_size))
    for file in files:
        with Image.open(file) as image:
            given = model.preprocess(image).float()
        # only JPEG may differ a little: a file is decoded at a fraction of its size
        limit = 12.0 if image_size == 24 and file.suffix in (".jpg", ".jpeg") else 0.0
        assert (given - model.read(file)).abs().mean() <= limit


def test_images_stored_smaller_than_they_are_seen_are_enlarged_from_that_size() -> None:
    digits = load_dataset("digits", image_size=32)
    model = fake_student(digits)
    pixels = digits.test.images[:4]
    images = [model.preprocess(Image.fromarray(image[0].numpy())) for image in pixels]
    seen = clean_images(pixels, pixels=digits.pixels)
    # rounding to whole pixel values: half of 1 / 255 / std
    assert torch.allclose(model(torch.stack(images)), seen, atol=0.51 / 255 / digits.std[0])


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_what_is_no_image_is_answered(run: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"empty|no image that Pillow can read"):
        raymd.load_student(run).read(content)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"student": "tiny5"}, "unknown student 'tiny5'.*tiny"),
        ({"weights": "first"}, "'first'.*'best' and 'last'"),
    ],
)
def test_wrong_names_are_answered(run: Path, arguments: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        raymd.load_student(run, **arguments)


def test_a_folder_that_is_no_run_is_answered(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished student"):
        raymd.load_student(tmp_path)


def test_damaged_weights_are_named(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    file = copy / "students/tiny4/last.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"oops")
    with pytest.raises(StorageError, match=r"last\.safetensors does not match its checksum"):
        raymd.load_student(copy, student="tiny4", weights="last")


def test_loading_needs_no_ray(run: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None; import tests.training.conftest, raymd;"
        f"print(raymd.load_student({str(run)!r}).id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("tiny4", "tiny6")
