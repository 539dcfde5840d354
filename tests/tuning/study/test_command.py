"""`python -m tuning.paper`: mistakes, costs, what is shown, and one process a study."""

import json
import subprocess
import sys

import pytest

from tests.tuning.study.fakes import fake_fit
from tuning import paper
from tuning.study import background, running
from tuning.study.costs import describe
from tuning.study.studies import STUDIES


def run(capsys, *words):
    code = paper.main([*words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def storage(tmp_path):
    return ("--storage", str(tmp_path / "studies"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tabel4"], "did you mean table4"),
        (["table9"], "unknown study 'table9'"),
        ([], "STUDY"),
        (["table1", "--scale", "smal"], "did you mean small"),
        (["table1", "--seeds", "0"], "no whole number of at least 1"),
        (["table1", "--seeds", "many"], "no whole number of at least 1"),
        (["table1", "--seedz", "3"], "did you mean --seeds"),
        (["table1", "--seed", "3"], "--seeds N says how many"),
        (["table1", "--students", "resnet8"], "--students: the study says that of its runs"),
        (["table1", "--dry_rum"], "did you mean --dry_run"),
        (["table4", "--t", "3"], "table4 varies t itself"),
        (["table1", "--dataset", "cifar11"], "unknown data set 'cifar11'"),
        (["table1", "--stands_for", "cifar11"], "cifar10"),
        (["table1", "--epochs", "none"], "--epochs"),
        (["table1", "--epochs", "0"], "at least 1"),
        (["table2", "--scale", "full"], "--dataset folder:DIR"),
        (["table1", "table2"], "table2"),
    ],
)
def test_mistakes_are_answered_in_one_line(capsys, words, said, storage):
    code, _, err = run(capsys, *words, *storage)
    assert code == 2
    assert err.startswith("paper: error: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize("study", STUDIES)
def test_dry_run_prints_costs_and_points_and_leaves_nothing(capsys, study, tmp_path):
    where = tmp_path / "studies"
    code, out, _ = run(
        capsys, study, "--scale", "full", "--dry_run", "--storage", str(where), "--seeds", "3"
    )
    assert code == 0
    lines = out.splitlines()
    assert "GPU-hours" in lines[0]
    points = [line for line in lines if " epochs of " in line]
    assert lines[0].startswith(f"expected: {3 * len(points)} run")
    assert not where.exists()


def test_flags_of_fit_reach_the_points(storage):
    _, asked = paper.read_command(
        ["table1", "--scale", "smoke", "--epochs", "8", "--lr=0.02", "--device", "cpu", *storage]
    )
    for point in asked.study.points():
        assert (point.settings["epochs"], point.settings["lr"]) == (8, 0.02)
        assert "device" not in point.settings
    assert asked.extra == {"device": "cpu", "cpus_per_worker": 1.0}
    assert "lr 0.02" in describe(asked.study.points()[0])


def test_seeds_are_the_scales_unless_said(storage):
    for words, n in (([], 2), (["--seeds", "3"], 3)):
        _, asked = paper.read_command(["table1", "--scale", "smoke", *words, *storage])
        assert asked.seeds == tuple(range(n))


@pytest.fixture
def without_training(monkeypatch):
    """Points are finished without training and without Ray."""
    import raymd.execution.ray_setup

    class NoRay:
        def __enter__(self):
            return "none"

        def __exit__(self, *problem):
            return None

    monkeypatch.setattr(raymd.execution.ray_setup, "connected", lambda **_: NoRay())
    monkeypatch.setattr("tuning.study.points._fit", fake_fit)


def test_a_study_is_run_shown_and_kept(capsys, storage, tmp_path, without_training):
    code, out, _ = run(capsys, "table1", "--scale", "smoke", *storage)
    assert code == 0
    assert out.index("expected: ") < out.index("[1/") < out.index("Table 1: pairs of networks")
    kept = tmp_path / "studies/table1-smoke-digits/study.json"
    document = json.loads(kept.read_text())
    assert document["runs"]["done"] == document["runs"]["of"]
    assert f"all numbers: {kept}" in out
    code, out, _ = run(capsys, "table1", "--scale", "smoke", *storage)
    assert code == 0
    assert "are there already" in out
    assert "[1/" not in out


def test_in_the_background_a_finished_study_is_shown_at_once(capsys, storage, without_training):
    run(capsys, "table1", "--scale", "smoke", *storage)
    code, out, _ = run(capsys, "table1", "--scale", "smoke", "--background", *storage)
    assert code == 0
    assert "Table 1: pairs of networks" in out


def test_show_runs_nothing(capsys, storage, monkeypatch):
    monkeypatch.setattr(running.Runner, "run", lambda self: pytest.fail("it ran"))
    code, out, _ = run(capsys, "table1", "--scale", "smoke", "--show", *storage)
    assert code == 0
    assert "0 of " in out


def test_an_interrupted_study_shows_how_far_it_has_come(capsys, storage, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(running.Runner, "run", interrupted)
    monkeypatch.setattr(paper, "check_points", lambda asked: None)
    code, out, err = run(capsys, "table1", "--scale", "smoke", *storage)
    assert code == 130
    assert "0 of " in out
    assert err == "paper: interrupted; the same command again goes on\n"


HOLDER = """
import sys, time
from pathlib import Path
from tuning.study.background import alone
with alone(Path(sys.argv[1])) as is_alone:
    print(is_alone, flush=True)
    time.sleep(60)
"""


def test_a_study_that_is_running_shows_its_progress_instead(capsys, storage, tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "check_points", lambda asked: None)
    folder = tmp_path / "studies/table1-smoke-digits"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "True\n"
        assert background.is_running(folder)
        for flag in ([], ["--background"]):
            code, out, _ = run(capsys, "table1", "--scale", "smoke", *flag, *storage)
            assert code == 0
            assert f"process {holder.pid} is running this study" in out
            assert "runs are there" in out
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert not background.is_running(folder)  # the lock ends with its process


def test_a_detached_process_leaves_its_output_in_the_log(tmp_path):
    process = background.detach(["table9"], tmp_path)
    assert process.wait(timeout=60) == 2
    assert "unknown study 'table9'" in (tmp_path / background.LOG).read_text()
    assert not background.is_running(tmp_path)
