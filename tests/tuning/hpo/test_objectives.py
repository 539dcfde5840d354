"""Objectives: of results, of epochs on the way, and what algorithms are told of a point."""

import pytest

from raymd.objectives import OBJECTIVES, EpochMeter
from raymd.point import PointRecord, PointSpec, SeedRecord


def epoch(student, number, accuracy):
    return {"event": "epoch", "student": student, "epoch": number, "val_accuracy": accuracy}


def taken(meter, *events):
    return [told for event in events for told in meter.take(event)]


def test_an_epoch_is_told_once_all_students_have_come_to_its_end():
    meter = EpochMeter(["a", "b"], objective=OBJECTIVES["mean_last"])
    assert taken(meter, epoch("a", 0, 0.2), epoch("a", 1, 0.4)) == []
    assert taken(meter, epoch("b", 0, 0.6)) == [(1, pytest.approx(0.4))]
    assert taken(meter, epoch("b", 1, 0.5)) == [(2, pytest.approx(0.45))]


def test_an_epoch_that_is_trained_again_after_a_restart_is_told_once():
    meter = EpochMeter(["a"], objective=OBJECTIVES["mean_last"])
    events = [epoch("a", 0, 0.2), epoch("a", 0, 0.2), epoch("a", 1, 0.3), epoch("a", 0, 0.2)]
    assert taken(meter, *events) == [(1, 0.2), (2, 0.3)]


def test_nobody_waits_for_a_student_that_is_lost():
    meter = EpochMeter(["a", "b"], objective=OBJECTIVES["mean_last"])
    assert taken(meter, epoch("a", 0, 0.2)) == []
    assert taken(meter, {"event": "lost", "student": "b"}) == [(1, 0.2)]


def test_best_of_is_the_best_student_and_says_what_is_wrong_with_that():
    meter = EpochMeter(["a", "b"], objective=OBJECTIVES["best_of"])
    assert taken(meter, epoch("a", 0, 0.2), epoch("b", 0, 0.6)) == [(1, 0.6)]
    assert "grows with their number" in OBJECTIVES["best_of"].warning
    assert not OBJECTIVES["mean_last"].warning


def test_an_ensemble_has_no_value_on_the_way():
    meter = EpochMeter(["a"], objective=OBJECTIVES["ensemble"])
    assert taken(meter, epoch("a", 0, 0.2)) == []


def record(*seeds):
    return PointRecord(trial="x", values={"t": 3}, seeds=seeds)


FINE = SeedRecord(seed=0, status="finished", objective=0.8)
DIVERGED = SeedRecord(seed=1, status="diverged", reason="the loss is not a number")
FAILED = SeedRecord(seed=2, status="failed", reason="the disk is full")


def test_a_diverged_seed_counts_as_zero_for_algorithms_and_a_failed_one_not_at_all():
    assert record(FINE).score() == 0.8
    assert record(FINE, DIVERGED).score() == pytest.approx(0.4)
    assert record(FINE, FAILED).score() == 0.8
    assert record().score() == 0.0


def test_a_failed_seed_is_tried_again_and_a_diverged_one_is_not():
    again = record(FINE, DIVERGED, FAILED).without_failures()
    assert again.of(1) == DIVERGED
    assert again.of(2) is None


def test_records_and_specs_survive_being_written_down():
    written = record(FINE, DIVERGED)
    assert PointRecord.from_dict(written.to_dict()) == written
    spec = PointSpec(
        folder="/x", fixed={"epochs": 2}, pool=("a",), seeds=(0, 1), objective="best_of", epochs=2
    )
    assert PointSpec.from_json(spec.to_json()) == spec


def test_a_seeds_run_goes_on_by_itself_and_shows_nothing():
    spec = PointSpec(
        folder="/x", fixed={"students": ["resnet8"], "epochs": 2}, pool=(), seeds=(7,),
        objective="mean_last", epochs=2,
    )  # fmt: skip
    config = spec.config({"t": 2}, seed=7, storage="/x/trials/1")
    assert (config.t, config.seed, config.storage, config.name) == (2.0, 7, "/x/trials/1", "seed-7")
    assert (config.resume, config.view) == ("auto", "none")
