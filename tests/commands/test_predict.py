"""`raymd predict`: files and folders to classes, as the network saw images in training."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import raymd
from raymd.cli import main
from raymd.data import load_dataset

CPU = ["--device", "cpu"]


def predict(capsys, *words):
    """Exit code, what was printed, and what was complained of."""
    code = main(["predict", *map(str, words), *CPU])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Three test digits as PNG in two folders, beside files that are no images."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "süß" / "deep er").mkdir(parents=True)
    pixels = load_dataset("digits").test.images
    for n, name in enumerate(["b.png", "a.PNG", "süß/deep er/c 1.png"]):
        Image.fromarray(pixels[n, 0].numpy()).save(folder / name, format="PNG")
    (folder / "README.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def test_a_folder_is_walked_in_order_and_other_files_are_counted(capsys, run, photos):
    code, out, err = predict(capsys, run, photos, "--format", "json")
    images = [Path(entry["image"]).name for entry in json.loads(out)["images"]]
    assert (code, images) == (0, ["a.PNG", "b.png", "c 1.png"])
    assert "2 files that are no images skipped" in err


@pytest.mark.parametrize("student", ["resnet8", "resnet14", "best", "ensemble"])
@pytest.mark.parametrize("weights", ["best", "last"])
def test_probabilities_are_those_of_the_loaded_model(capsys, run, photos, student, weights):
    _, out, _ = predict(
        capsys, run, photos / "b.png", "--student", student, "--weights", weights,
        "--top", "20", "--format", "json",
    )  # fmt: skip
    predictions = json.loads(out)["images"][0]["predictions"]
    image = load_dataset("digits").test.images[:1]
    if student == "ensemble":
        model = raymd.deploy.load_ensemble(run, weights=weights)
    else:
        model = raymd.load_student(run, student=student, weights=weights)
    with torch.inference_mode():
        probs = model(image).softmax(-1)[0].sort(descending=True)
    assert [p["class"] for p in predictions] == [model.classes[k] for k in probs.indices]
    assert [p["probability"] for p in predictions] == pytest.approx(probs.values.tolist(), abs=1e-5)


def test_batches_change_nothing(capsys, run, photos):
    one = json.loads(predict(capsys, run, photos, "--format", "json", "--batch_size", 1)[1])
    all_ = json.loads(predict(capsys, run, photos, "--format", "json", "--batch_size", 3)[1])
    for a, b in zip(one["images"], all_["images"], strict=True):
        assert a["image"] == b["image"]
        for p, q in zip(a["predictions"], b["predictions"], strict=True):
            assert (p["class"], p["probability"]) == (q["class"], pytest.approx(q["probability"]))


def test_csv_has_a_row_for_each_image_and_rank(capsys, run, photos):
    code, out, _ = predict(capsys, run, photos, "--format", "csv", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, [row["rank"] for row in rows]) == (0, ["1", "2"] * 3)
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


def test_the_table_names_image_class_and_probability(capsys, run, photos):
    code, out, _ = predict(capsys, run, photos / "b.png")
    assert code == 0
    assert "b.png" in out
    assert out.count(" %") == 5


def test_unreadable_images_are_named_skipped_and_fail_the_command(capsys, run, photos, tmp_path):
    (tmp_path / "broken.png").write_bytes((photos / "b.png").read_bytes()[:60])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "fine.png").write_bytes((photos / "b.png").read_bytes())
    code, out, err = predict(capsys, run, tmp_path, "--format", "json")
    document = json.loads(out)
    assert code == 1
    assert [Path(entry["image"]).name for entry in document["images"]] == ["fine.png"]
    assert [Path(entry["image"]).name for entry in document["failed"]] == [
        "broken.png",
        "empty.jpg",
    ]
    assert "broken.png: " in err
    assert "empty.jpg: the image is empty (0 bytes)" in err


def test_output_goes_to_the_file(capsys, run, photos, tmp_path):
    file = tmp_path / "out.csv"
    _, out, _ = predict(capsys, run, photos / "b.png", "--format", "csv", "--output", file)
    assert out == ""
    assert file.read_text().startswith("image,rank,class,probability\n")


def test_latest_is_the_run_begun_last(capsys, runs, photos):
    words = ["latest", photos / "b.png", "--storage", runs, "--format", "json"]
    assert json.loads(predict(capsys, *words)[1])["run"] == str(runs / "second")


def test_a_run_may_be_named_below_the_storage(capsys, runs, photos):
    words = ["first", photos / "b.png", "--storage", runs, "--format", "json"]
    assert json.loads(predict(capsys, *words)[1])["run"] == str(runs / "first")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["RUN", "nowhere.png"], "no file or folder 'nowhere.png'"),
        (["RUN", "EMPTY"], "no images in"),
        (["nowhere", "PHOTO"], "no run 'nowhere'"),
        (["latest", "PHOTO", "--storage", "EMPTY"], "no run in"),
        (["RUN", "PHOTO", "--student", "resnet9"], "unknown student 'resnet9'"),
        (["RUN", "PHOTO", "--output", "EMPTY"], "is a folder; --output takes a file"),
        (["RUN", "PHOTO", "--output", "no/such/file"], "no folder"),
    ],
)
def test_mistakes_are_answered(capsys, run, photos, tmp_path, words, expected):
    places = {"RUN": run, "PHOTO": photos / "b.png", "EMPTY": tmp_path}
    code, out, err = predict(capsys, *(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert expected in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_a_device_that_is_not_there_is_refused(capsys, run, photos):
    assert main(["predict", str(run), str(photos), "--device", "cuda"]) == 2
    assert "device 'cuda' is not in sight of torch; there is" in capsys.readouterr().err


def test_predicting_needs_no_ray(run, photos):
    code = "import sys; sys.modules['ray'] = None; from raymd.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "predict", str(run), str(photos), "--format", "csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + 3 * 5
    assert "Traceback" not in done.stderr
