"""result.json."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from raymd.environment import environment
from raymd.errors import DataError
from raymd.result import SCHEMA_VERSION, LostStudent, Result, Score, pick_best, wilson_interval
from tests.view.examples import result, student


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(8, 10, 0.49016, 0.94332), (0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0)],
)
def test_wilson_interval_against_known_values(correct, total, low, high):
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=2e-5)


def test_wilson_interval_narrows_with_more_images():
    few, many = wilson_interval(90, 100), wilson_interval(9000, 10_000)
    assert few[0] < many[0] < 0.9 < many[1] < few[1]


@pytest.mark.parametrize(("correct", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_counts_that_cannot_be_are_refused(correct, total):
    with pytest.raises(DataError, match=f"{correct} of {total}"):
        Score(correct, total)


@pytest.mark.parametrize("val", [138, None])
def test_json_gives_back_an_equal_result(val):
    written = result(students=(student("a", val=val), student("b", val=val)))
    assert Result.from_json(written.to_json()) == written


def test_lost_students_and_the_peak_come_back_and_may_be_missing_in_older_files():
    lost = (LostStudent("a", "its GPU burnt", epoch=3, cycle=1),)
    written = result(lost=lost, object_store_peak_bytes=10**12)
    assert Result.from_json(written.to_json()) == written
    document = result().to_dict()
    del document["lost"], document["object_store_peak_bytes"]
    assert Result.from_dict(document) == result()


def test_json_can_be_read_without_raymd():
    score = json.loads(result().to_json())["students"][0]["last"]["test"]
    assert score["accuracy"] == pytest.approx(340 / 360)
    assert score["interval_95"][0] < score["accuracy"] < score["interval_95"][1]
    assert (score["correct"], score["total"]) == (340, 360)


def test_paper_is_cited():
    assert "10.3390/e21040357" in result().citation
    assert "Gao, Liang" in result().citation


def test_newer_schema_is_refused_with_both_versions():
    document = result().to_dict() | {"schema_version": SCHEMA_VERSION + 1, "news": 1}
    with pytest.raises(DataError, match=rf"schema_version {SCHEMA_VERSION + 1}.*up to"):
        Result.from_dict(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("schema_version"), "schema_version None"),
        (lambda d: d.update(news=1), r"unknown keys \['news'\]"),
        (lambda d: d.pop("seed"), r"missing \['seed'\]"),
        (lambda d: d.update(seed="0"), r"result.json.seed: '0' is str, not int"),
        (lambda d: d.update(epochs=True), "epochs: 'True' is bool, not int"),
        (lambda d: d["students"][1].pop("arch"), r"students\[1\]: .*missing \['arch'\]"),
        (lambda d: d["students"][0]["last"]["test"].update(correct=361), "361 of 360"),
        (lambda d: d["students"][0]["last"]["test"].pop("accuracy"), r"missing \['accuracy'\]"),
        (lambda d: d["cycles"][0]["weights"].update(vgg19=None), "weights.vgg19: 'None'"),
        (lambda d: d.update(students={}), "students: .* is dict, not list"),
    ],
)
def test_document_that_differs_is_refused_with_its_place(change, message):
    document = result().to_dict()
    change(document)
    with pytest.raises(DataError, match=message):
        Result.from_dict(document)


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_text_that_is_no_result_is_refused(text):
    with pytest.raises(DataError, match=r"result\.json"):
        Result.from_json(text)


def test_whole_numbers_may_stand_for_floats():
    document = result().to_dict() | {"t": 3, "seconds": 12}
    read = Result.from_dict(document)
    assert isinstance(read.t, float)
    assert read.seconds == 12.0


def test_infinite_numbers_are_not_written():
    with pytest.raises(ValueError, match="JSON"):
        result(seconds=float("inf")).to_json()


def test_best_student_is_picked_on_held_out_images_never_on_test():
    assert pick_best([student("a", test=359, val=120), student("b", test=10, val=121)]) == "b"


def test_of_equally_good_students_the_smaller_is_best_then_the_first():
    big, small = student("big", parameters=9), student("small", parameters=3)
    assert pick_best([big, small]) == "small"
    assert pick_best([small, replace(small, id="again")]) == "small"


def test_without_held_out_images_the_first_student_is_taken():
    assert pick_best([student("a", test=1, val=None), student("b", val=None)]) == "a"


def test_environment_names_versions_and_processor_and_is_json(monkeypatch):
    monkeypatch.setenv("RAYMD_TEST_SECRET", "do-not-tell")
    found = environment()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["raymd"]
    assert found["cores"] >= 1
    assert found["cpu"]
    assert "do-not-tell" not in json.dumps(found)


def test_reading_results_imports_neither_torch_nor_ray():
    code = (
        "import sys, raymd.result, raymd.view.lines, raymd.view.events;"
        "print([m for m in ('torch', 'ray') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
