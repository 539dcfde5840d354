"""Figures of fake runs: their data, and that the pages need no network."""

import json

import pytest

from raymd.storage import Storage
from tests.tuning.study.fakes import fake_fit, point, small_study
from tuning.study.figures import write_figures
from tuning.study.points import run_point
from tuning.study.running import Runner, read_all


def study_called(name):
    from dataclasses import replace

    return replace(small_study(), name=name)


def drawn(tmp_path, name):
    base, study = Storage.at(tmp_path / "storage"), study_called(name)
    Runner(study, (0, 1), base, announce=lambda text: None, fit=fake_fit).run()
    return write_figures(study, read_all(study, (0, 1), base), folder=tmp_path)


def test_figure4_has_a_curve_for_each_method_and_says_which_images(tmp_path):
    page, numbers = drawn(tmp_path, "figure4")
    data = json.loads(numbers.read_text())
    (panel,) = data["panels"]
    assert panel["panel"] == "digits: two"
    assert panel["curves"].keys() == {"independent", "MD"}
    assert panel["curves"]["MD"] == {"epochs": [1, 2], "accuracy": [50.0, 75.0], "n": 2}
    assert "held-out images" in data["title"]
    assert "scale smoke, n = 2" in data["title"]
    html = page.read_text()
    assert 'script src="http' not in html
    assert "Plotly.newPlot" in html


def test_figure5_has_mean_and_deviation_by_number_of_students(tmp_path):
    _, numbers = drawn(tmp_path, "figure5")
    data = json.loads(numbers.read_text())["networks"]["AlexNet"]
    (entry,) = data["MD, mean of the students"]
    # seeds 0 and 1: (705 + 708) / 2 and (717 + 720) / 2 of 1000
    assert entry["mean"] == pytest.approx((70.65 + 71.85) / 2)
    assert entry["sd"] == pytest.approx(1.2 / 2**0.5)
    assert (entry["students"], entry["n"]) == (2, 2)
    assert data["independent, ensemble"][0]["mean"] == pytest.approx((70.3 + 71.3) / 2)


def test_tables_and_studies_without_a_run_have_no_figure(tmp_path):
    assert drawn(tmp_path, "table3") == []
    study = study_called("figure4")
    nothing = read_all(study, (0,), Storage.at(tmp_path / "nothing"))
    assert write_figures(study, nothing, folder=tmp_path) == []


def test_a_study_of_which_some_is_missing_is_drawn_all_the_same(tmp_path):
    base, study = Storage.at(tmp_path), study_called("figure4")
    run_point(point(), 0, base=base, fit=fake_fit)
    _, numbers = write_figures(study, read_all(study, (0, 1), base), folder=tmp_path)
    assert json.loads(numbers.read_text())["panels"][0]["curves"].keys() == {"independent"}
