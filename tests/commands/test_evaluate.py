"""`raymd evaluate`: figures of finished runs, on exactly what they were trained and tested with."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from raymd.cli import main
from raymd.commands.evaluation import Evaluation, evaluate
from raymd.commands.saved_data import own_images
from raymd.data import register_dataset
from raymd.data.dataset import Dataset, Split
from raymd.data.datasets import load_digits
from raymd.result import Result
from raymd.storage import Storage

QUICK = ["--device", "cpu", "--no_latency"]


def figures_of(run: Path, *, part="test", weights="last", **more) -> Evaluation:
    storage = Storage.at(run)
    images = own_images(storage, part=part)
    cpu = torch.device("cpu")
    return evaluate(storage, images, weights=weights, device=cpu, with_latency=False, **more)


def result_of(run: Path) -> Result:
    return Result.from_json((run / "result.json").read_text())


def evaluated(capsys, *words):
    code = main(["evaluate", *map(str, words), *QUICK])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("weights", ["last", "best"])
@pytest.mark.parametrize("part", ["test", "val"])
def test_counts_are_the_results(run, weights, part):
    found, result = figures_of(run, part=part, weights=weights), result_of(run)
    for figures, student in zip(found.students, result.students, strict=True):
        assert figures.top1 == getattr(getattr(student, weights), part)
    assert found.ensemble.top1 == getattr(getattr(result.ensemble, weights), part)
    assert found.best_student == result.best_student


def test_probabilities_are_bit_for_bit_those_of_training(run):
    from raymd.commands.evaluation import predict_run

    storage = Storage.at(run)
    images = own_images(storage, part="test")
    probs = predict_run(storage, images, weights="last", device=torch.device("cpu")).probs
    for student in ("resnet8", "resnet14"):
        stored = load_file(run / f"students/{student}/predictions.safetensors")["last_test"]
        assert np.array_equal(probs[student], stored)


def test_the_training_part_is_what_was_trained_on(run):
    assert figures_of(run, part="train").num_images == result_of(run).num_train


def test_json_holds_every_figure(capsys, run):
    code, out, _ = evaluated(capsys, run, "--format", "json")
    document = json.loads(out)
    assert (code, document["schema_version"], document["num_images"]) == (0, 1, 360)
    student = document["students"][0]
    assert student["weights_bytes"] == (run / "students/resnet8/best.safetensors").stat().st_size
    assert sum(b["count"] for b in student["calibration"]["bins"]) == 360
    assert len(student["calibration"]["bins"]) == 15
    assert student["top1"]["correct"] <= student["top5"]["correct"] <= 360
    assert np.average(student["class_accuracy"], weights=document["class_counts"]) == (
        pytest.approx(student["top1"]["accuracy"])
    )
    agreement = document["agreement"]
    assert agreement[0][0] == agreement[1][1] == 1
    assert agreement[0][1] == agreement[1][0] < 1
    gain = document["gain_over_best"]
    best = next(s for s in document["students"] if s["id"] == document["best_student"])
    changed = document["ensemble"]["top1"]["correct"] - best["top1"]["correct"]
    assert gain["gained"] - gain["lost"] == changed
    assert gain["points"] == pytest.approx(100 * changed / 360)


def test_latency_is_measured_for_every_network(capsys, run):
    assert main(["evaluate", str(run), "--device", "cpu", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    for figures in [*document["students"], document["ensemble"]]:
        assert figures["latency"]["device"] == "cpu"
        assert figures["latency"]["one_image_ms"] > 0
        assert figures["latency"]["images_per_s"] > 0


def test_csv_has_a_row_for_each_student_and_the_ensemble(capsys, run):
    _, out, _ = evaluated(capsys, run, "--format", "csv", "--weights", "last")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["student"] for row in rows] == ["resnet8", "resnet14", "ensemble"]
    assert [int(row["correct"]) for row in rows[:2]] == [
        student.last.test.correct for student in result_of(run).students
    ]
    assert rows[0]["one_image_ms"] == ""


def test_csv_per_class_has_a_row_for_each_class(capsys, run):
    _, out, _ = evaluated(capsys, run, "--format", "csv", "--per_class")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 3 * 10
    assert sum(int(row["total"]) for row in rows if row["student"] == "ensemble") == 360


def test_the_table_shows_students_ensemble_and_classes(capsys, run):
    code, out, err = evaluated(capsys, run, "--per_class")
    assert (code, err) == (0, "")
    for text in ("resnet8", "resnet14", "ensemble over", "ECE", "NLL", "best weights", "class"):
        assert text in out
    assert max(map(len, out.splitlines()[1:])) <= 120


def test_a_baseline_is_compared_image_by_image(run, runs):
    found = figures_of(run, baseline=Storage.at(runs / "second"))
    one, other = result_of(run), result_of(runs / "second")
    pairs = {(c.id, c.baseline): c.difference for c in found.comparisons}
    difference = pairs["ensemble", "ensemble"]
    assert difference.gained - difference.lost == (
        one.ensemble.last.test.correct - other.ensemble.last.test.correct
    )
    assert (one.best_student, other.best_student) in pairs
    assert ("resnet8", "resnet8") in pairs


def test_a_run_does_not_differ_from_itself(capsys, run):
    code, out, _ = evaluated(capsys, run, "--baseline", run)
    assert code == 0
    comparisons = figures_of(run, baseline=Storage.at(run)).comparisons
    assert all(c.difference.gained == c.difference.lost == 0 for c in comparisons)
    assert "against" in out


def test_a_baseline_trained_on_other_images_is_compared_on_test_images_only(capsys, run, runs):
    words = [run, "--part", "val", "--baseline", runs / "second"]
    code, _, err = evaluated(capsys, *words)
    assert code == 2
    assert "held out other images" in err


@register_dataset("digits_shuffled")
def load_shuffled(*, data_dir, argument, image_size) -> Dataset:
    """The digits with classes in another order and one missing; for other data with equal names."""
    digits = load_digits(data_dir=None, argument="", image_size=None)
    keep = (digits.test.labels != 3).nonzero().flatten()
    test = digits.test.rows(keep)
    order = [9, 8, 7, 6, 5, 4, 2, 1, 0]
    labels = torch.tensor([order.index(label) for label in test.labels.tolist()])
    part = Split(test.images, labels)
    classes = tuple(str(label) for label in order)
    return Dataset("shuffled", part, part, classes, digits.mean, digits.std)


@register_dataset("digits_renamed")
def load_renamed(*, data_dir, argument, image_size) -> Dataset:
    digits = load_digits(data_dir=None, argument="", image_size=None)
    classes = ("zero", *digits.classes[1:])
    return Dataset("renamed", digits.train, digits.test, classes, digits.mean, digits.std)


def test_other_data_are_matched_by_the_classes_names(capsys, run):
    code, out, err = evaluated(capsys, run, "--dataset", "digits_shuffled", "--format", "json")
    assert code == 0, err
    document = json.loads(out)
    own = figures_of(run, weights="best")
    for figures, there in zip(own.students, document["students"], strict=True):
        mine = list(figures.class_accuracy)
        mine[3] = None
        assert there["class_accuracy"] == pytest.approx(mine)
    assert document["class_counts"][3] == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--dataset", "digits_renamed"], "class 'zero' is none of the run's 10 classes"),
        (["--dataset", "digits", "--part", "val"], "only the run's own data"),
        (["--dataset", "folder:nowhere"], "nowhere"),
        (["--dataset", "digit"], "did you mean digits"),
        (["--baseline", "nowhere"], "no run 'nowhere'"),
    ],
)
def test_mistakes_are_answered(capsys, run, words, expected):
    code, out, err = evaluated(capsys, run, *words)
    assert (code, out) == (2, "")
    assert expected in err


def changed_copy(run, folder, name, change):
    shutil.copytree(run, folder / "run")
    storage = Storage.at(folder / "run")
    document = storage.record(name)
    change(document)
    storage.commit(name, document)
    return folder / "run"


def test_data_that_are_not_the_runs_are_refused(capsys, run, tmp_path):
    copy = changed_copy(run, tmp_path, "run.json", lambda d: d.update(fingerprint="0" * 32))
    code, _, err = evaluated(capsys, copy)
    assert code == 2
    assert "not those that" in err
    assert "--data_dir" in err


def test_an_unfinished_run_is_refused(capsys, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/result.json").unlink()
    code, _, err = evaluated(capsys, tmp_path / "run")
    assert code == 2
    assert "is not finished" in err
    assert "--resume" in err


def test_evaluating_needs_no_ray(run):
    code = "import sys; sys.modules['ray'] = None; from raymd.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "evaluate", str(run), *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "ensemble" in done.stdout
