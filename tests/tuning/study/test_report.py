"""A study's document and its tables, of fake runs whose numbers are worked out by hand."""

import json

import pytest

from raymd.errors import RaymdError
from raymd.storage import Storage
from tests.tuning.study.fakes import fake_fit, finished, point, small_study
from tests.view.examples import printed, recording_console
from tuning.study.measures import curve, device_seconds
from tuning.study.points import Outcome, config_of, read_outcome, run_point
from tuning.study.report import document
from tuning.study.running import Runner, read_all
from tuning.study.tables import diverged, show, spread, with_interval


def ran(base, *, seeds=(0, 1, 2), study=None, fit=fake_fit):
    study = study or small_study()
    Runner(study, seeds, base, announce=lambda text: None, fit=fit).run()
    return document(study, read_all(study, seeds, base))


@pytest.fixture
def base(tmp_path):
    return Storage.at(tmp_path)


def test_line_has_mean_deviation_and_the_paired_difference(base):
    alone, md = ran(base)["groups"][0]["lines"]
    # hits of 1000: 700, 710, 720 alone; 5, 7, 9 more with md
    assert alone["last"]["mean"] == pytest.approx(71.0)
    assert alone["last"]["sd"] == pytest.approx(1.0)
    assert alone["difference"] is None
    assert md["last"]["by_seed"] == pytest.approx({"0": 70.5, "1": 71.7, "2": 72.9})
    assert md["difference"]["mean"] == pytest.approx(0.7)
    assert md["difference"]["sd"] == pytest.approx(0.2)
    half = 4.302653 * 0.2 / 3**0.5
    assert md["difference"]["interval"] == pytest.approx((0.7 - half, 0.7 + half), abs=1e-5)
    assert md["best"]["mean"] == pytest.approx(md["last"]["mean"] + 0.1)
    assert (md["paper"], md["paper_difference"]) == (79.87, 2.29)


def test_best_of_s_is_the_one_that_held_out_images_pick(base):
    alone, md = ran(base)["groups"][0]["equal_compute"]
    # the second student has 70 of 100 held-out images, the first 60
    assert alone["best_of_all"]["by_seed"] == pytest.approx({"0": 70.3, "1": 71.3, "2": 72.3})
    assert md["best_difference"]["mean"] == pytest.approx(0.7)
    assert alone["best_difference"] is None


def test_without_held_out_images_the_first_student_is_taken_and_it_is_said(base):
    def fit(config, on_event):
        return finished(config, correct=[700, 800], val=None)

    found = ran(base, fit=fit)
    assert found["groups"][0]["equal_compute"][0]["best_of_all"]["mean"] == pytest.approx(70.0)
    assert found["groups"][0]["lines"][0]["best"] is None
    assert any("Nothing was held out" in text for text in found["cautions"])


def test_ensemble_and_device_seconds(base):
    def fit(config, on_event):
        is_md = config.method == "md"
        return finished(
            config, correct=[700, 710], val=[1, 2], ensemble=800 + 10 * is_md, workers=2,
            seconds=6.0 if is_md else 4.0,
        )  # fmt: skip

    alone, md = ran(base, fit=fit)["groups"][0]["equal_compute"]
    assert alone["ensemble"]["mean"] == pytest.approx(80.0)
    assert md["ensemble_difference"]["mean"] == pytest.approx(1.0)
    assert md["best_against_ensemble"]["mean"] == pytest.approx(71.0 - 80.0)
    # 2 students of 2 epochs of 4 s on 2 workers
    assert alone["device_seconds"]["mean"] == pytest.approx(32.0)
    assert md["device_seconds_ratio"] == pytest.approx(1.5)


def test_mean_of_several_students(base):
    from dataclasses import replace

    study = small_study()
    line = replace(study.groups[0].lines[1], places=(0, 1))
    study = replace(study, groups=(replace(study.groups[0], lines=(line,)),))
    (md,) = ran(base, study=study)["groups"][0]["lines"]
    assert md["last"]["by_seed"]["0"] == pytest.approx((70.5 + 70.8) / 2)


def test_diverged_seeds_are_counted_and_left_out_of_means_and_pairs(base):
    def fit(config, on_event):
        if config.method == "md" and config.seed == 1:
            raise RaymdError("resnet8 diverged: the loss is not a number at epoch 1")
        return fake_fit(config, on_event)

    found = ran(base, fit=fit)
    alone, md = found["groups"][0]["lines"]
    assert (alone["diverged"], md["diverged"], md["seeds"]) == (0, 1, 3)
    assert md["last"]["n"] == md["difference"]["n"] == 2
    assert md["difference"]["mean"] == pytest.approx(0.7)
    assert diverged(md) == "diverged, 1 of 3"
    assert diverged(alone) == ""
    assert "diverged, 1 of 3" in "\n".join(text(found))


def test_all_seeds_diverged_leave_no_number(base):
    def fit(config, on_event):
        if config.method == "md":
            raise RaymdError("resnet8 diverged: the loss is not a number at epoch 1")
        return fake_fit(config, on_event)

    found = ran(base, fit=fit)
    md = found["groups"][0]["lines"][1]
    assert md["last"] is md["difference"] is None
    assert "diverged, 3 of 3" in "\n".join(text(found))


def test_papers_nan_is_shown_and_json_takes_it(base):
    from dataclasses import replace
    from math import nan

    study = small_study()
    lines = (study.groups[0].lines[0], replace(study.groups[0].lines[1], paper=nan))
    study = replace(study, groups=(replace(study.groups[0], lines=lines),))
    found = ran(base, study=study)
    assert found["groups"][0]["lines"][1]["paper"] == "NaN"
    assert found["groups"][0]["lines"][1]["paper_difference"] is None
    json.dumps(found, allow_nan=False)
    assert any("NaN" in line for line in text(found))


def text(found, width=120):
    console = recording_console(width)
    show(console, found)
    return printed(console)


def test_tables_say_what_the_numbers_are_of(base):
    shown = "\n".join(text(ran(base)))
    for said in (
        "Table 3: a test", "Entropy 2019", "scale smoke", "resnet8 for AlexNet", "seeds: n = 3",
        "a CPU, 2 cores", "1,293 to train on, 100 held out, 1,000 to test",
        "do not compare with its in size", "n = 3: a claim needs at least 5 seeds", "* a caution",
        "digits stands for CIFAR-10", "79.87", "71.70 ± 1.20", "+0.70 ± 0.20 (+0.20 to +1.20)",
        "device-seconds", "ensemble of S", "best of S",
    ):  # fmt: skip
        assert said in shown, said


def test_tables_fit_into_a_log(base):
    assert max(len(line.rstrip()) for line in text(ran(base)) if "─" in line) <= 120


def test_half_a_study_shows_what_is_there(base):
    study = small_study()
    run_point(point(), 0, base=base, fit=fake_fit)
    found = document(study, read_all(study, (0, 1), base))
    assert found["runs"] == {"done": 1, "of": 4}
    assert found["groups"][0]["lines"][0]["last"]["n"] == 1
    shown = "\n".join(text(found))
    assert "1 of 4 runs are there" in shown
    assert "70.00 " in shown
    empty = document(study, read_all(study, (0, 1), Storage.at(f"{base.uri}/nothing")))
    assert "0 of 4 runs are there" in "\n".join(text(empty))


def test_numbers_as_people_read_them():
    one = {"mean": 71.234, "sd": None, "interval": None}
    three = {"mean": -0.5, "sd": 0.25, "interval": [-0.9, -0.1]}
    assert spread(None) == "-"
    assert spread(one) == "71.23"
    assert spread(three) == "-0.50 ± 0.25"
    assert with_interval(one) == "+71.23"
    assert with_interval(three) == "-0.50 ± 0.25 (-0.90 to -0.10)"


def test_curve_is_the_mean_over_students_and_seeds(base):
    for seed in (0, 1):
        run_point(point(), seed, base=base, fit=fake_fit)
    found = curve(read_all(small_study(), (0, 1), base).of(point()))
    assert (found.epochs, found.means, found.n) == ((1, 2), (50.0, 75.0), 2)
    assert curve({}) is None


@pytest.mark.parametrize(("gpus", "factor"), [(0.0, 2.0), (0.5, 0.5)])
def test_device_seconds_count_what_each_worker_holds(base, gpus, factor):
    result = finished(config_of(point(), 0, base=base), correct=[1, 2], seconds=1.5)
    plan = {"cpus_per_worker": 2.0, "gpus_per_worker": gpus, "device": "x"}
    Storage.at(result.run).commit("plan.json", plan)
    assert device_seconds(read_outcome(base, point(), 0)) == pytest.approx(2 * 2 * 1.5 * factor)


def test_students_that_step_together_share_their_seconds(base):
    dml = point("dml")
    finished(config_of(dml, 0, base=base), correct=[1, 2], workers=2, seconds=1.5)
    # 2 epochs of 1.5 s on 2 workers that both students use
    assert device_seconds(read_outcome(base, dml, 0)) == pytest.approx(2 * 1.5 * 2)


def test_a_run_that_did_not_finish_has_no_device_seconds(base):
    assert device_seconds(Outcome("x", diverged="y")) is None
    config = config_of(point(), 0, base=base)
    finished(config, correct=[1, 2], workers=3, seconds=1.5)
    assert device_seconds(read_outcome(base, point(), 0)) == pytest.approx(2 * 2 * 1.5 * 3)
