"""Ranking and report: who is chosen, what is said of the others, and what search.json holds."""

import io
import json

import pytest
from rich.console import Console

from raymd.point import PointRecord, SeedRecord
from raymd.storage import Storage
from tests.view.examples import result
from tuning.hpo.plan import SearchPlan
from tuning.hpo.ranking import Summary, chosen, judge, ranked, read_points
from tuning.hpo.report import accuracy_of_tests, notes, report, summary_text, to_document
from tuning.hpo.space import Choice, Space


def plan(**changes):
    settings = {
        "name": "s", "space": Space({"t": Choice((1, 2, 3))}), "seeds": (0, 1), "algorithm": "grid",
        "num_points": 3, "milestones": (), "objective": "mean_last", "epochs": 6,
        "max_concurrent": 1,
    }  # fmt: skip
    return SearchPlan(**{**settings, **changes})


def record(trial, t, *outcomes):
    seeds = tuple(
        SeedRecord(seed=i, status="finished", objective=o)
        if isinstance(o, float)
        else SeedRecord(seed=i, status=o, reason="because")
        for i, o in enumerate(outcomes)
    )
    return PointRecord(trial=trial, values={"t": t}, seeds=seeds)


def points(*records, ended=None):
    return ranked(judge(r, (ended or {}).get(r.trial), num_seeds=2) for r in records)


GOOD, FAIR = record("a", 1, 0.9, 0.8), record("b", 2, 0.7, 0.8)
STOPPED = {"how": "stopped", "epochs": 4, "objective": 0.99}


def test_summaries_have_a_deviation_from_two_numbers_on():
    assert Summary.of([]) is None
    assert Summary.of([0.5]) == Summary(0.5, None, 1)
    assert Summary.of([0.9, 0.8]) == Summary(
        pytest.approx(0.85), pytest.approx(0.0707, abs=1e-4), 2
    )
    assert summary_text(Summary(0.85, 0.0707, 2)) == "85.0 ± 7.1"
    assert summary_text(Summary(-0.1, None, 1), sign=True) == "-10.0"


def test_differences_to_the_best_are_paired_by_seed():
    first, second = points(FAIR, GOOD)
    assert (first.record.trial, first.against_best) == ("a", None)
    assert second.against_best == Summary(
        pytest.approx(-0.1), pytest.approx(0.1414, abs=1e-4), 2
    )  # -0.2 and 0.0


def test_a_point_with_a_diverged_seed_is_counted_and_never_chosen():
    found = points(record("c", 3, 0.99, "diverged"), FAIR)
    assert chosen(found).record.trial == "b"
    assert (found[1].status, found[1].num_diverged) == ("diverged", 1)
    assert any("1 seed of 1 point diverged" in line for line in notes(plan(), found, []))


def test_points_that_were_ended_early_are_not_compared_with_finished_ones():
    found = points(record("d", 3), FAIR, ended={"d": STOPPED})
    assert [p.status for p in found] == ["finished", "stopped"]
    assert (found[1].epochs, found[1].last) == (4, 0.99)


def test_a_point_that_finished_while_it_was_being_ended_has_finished():
    assert points(GOOD, ended={"a": STOPPED})[0].status == "finished"


def test_failures_have_their_reason_and_unfinished_points_their_name():
    found = points(record("e", 1, "failed"), record("f", 2, 0.5), ended={})
    assert [(p.status, p.reason) for p in found] == [("unfinished", ""), ("failed", "because")]
    killed = {"e": {"how": "failed", "reason": "its process ended", "epochs": 0, "objective": None}}
    assert points(record("e", 1), ended=killed)[0].reason == "its process ended"
    assert chosen(found) is None


def test_test_accuracy_is_told_of_the_chosen_point_alone():
    document = to_document(plan(), points(GOOD, FAIR), [])
    assert "test" not in json.dumps(document["points"])
    found = accuracy_of_tests([result(), result()])
    assert list(found) == [*(s.id for s in result().students), "ensemble"]
    assert all(summary.n == 2 for summary in found.values())


def test_what_grows_with_the_students_is_marked():
    found = points(GOOD)
    assert any("favours points" in line for line in notes(plan(objective="best_of"), found, []))
    assert to_document(plan(objective="best_of"), found, [])["objective_warning"]
    assert to_document(plan(), found, [])["objective_warning"] is None


def test_the_report_of_a_folder(tmp_path):
    folder = Storage.at(tmp_path)
    for one in (GOOD, FAIR, record("d", 3)):
        folder.commit(f"trials/{one.trial}/point.json", one.to_dict())
    for seed in (0, 1):
        folder.write(f"trials/a/seed-{seed}/result.json", result().to_json().encode())
    folder.commit("trials/d/ended.json", STOPPED)
    text = io.StringIO()
    found = read_points(folder, num_seeds=2)
    report(plan(), found, folder, Console(file=text, width=120))
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert lines[1:5] == [
        "t  mean_last %  n    minus best",
        "1   85.0 ± 7.1  2             -  best",
        "2   75.0 ± 7.1  2  -10.0 ± 14.1",
        "3         99.0  0             -  ended early, after epoch 4 of 6",
    ]
    document = json.loads((tmp_path / "search.json").read_text())
    assert document["best"] == "a"
    assert [p["status"] for p in document["points"]] == ["finished", "finished", "stopped"]
    assert document["points"][1]["minus_best"]["n"] == 2


def test_a_plan_survives_being_written_down():
    assert SearchPlan.from_dict(json.loads(json.dumps(plan().to_dict()))) == plan()
