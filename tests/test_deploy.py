"""A finished run's students, loaded without Ray and without the training data."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import raymd
from raymd.errors import StorageError, UserError
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
    import shutil

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
