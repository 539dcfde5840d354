"""Kills on a real Ray: whoever is killed in a distillation epoch, the run ends bit-identical."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.config import FitConfig
from raymd.execution.opening import open_run
from raymd.execution.plan import make_plan
from raymd.execution.run import start_run
from raymd.fit import main
from raymd.runs import saved_settings
from raymd.storage import Storage
from tests.execution.commands import Command, as_flags, command, start
from tests.execution.conftest import descendants, fit_without_ray, title, titled, wait_until
from tests.training.conftest import final_files

__all__ = ["command"]

# A phase long enough to be hit (a distillation epoch takes some tenths of a second).
FLAGS = {
    "students": "resnet8,resnet8",
    "dataset": "digits",
    "epochs": "14",
    "tin": "1",
    "td": "12",
    "precision": "fp32",
    "lr": "0.02",
    "batch_size": "64",
    "cpus_per_worker": "0.5",
    "name": "killed",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = str(tmp_path_factory.mktemp("undisturbed"))
    return final_files(fit_without_ray(FitConfig.from_mapping({**FLAGS, "storage": folder})))


def new_run() -> list[str]:
    return as_flags(FLAGS)


def wait_for_another(name: str, run: Command, *, known: list[psutil.Process]) -> None:
    pids = {process.pid for process in known}
    wait_until(
        lambda: [p for p in titled(name, run.process.pid) if p.pid not in pids], f"another {name}"
    )


def in_first_distillation(storage: Storage) -> bool:
    return storage.exists("teacher/cycle-000/complete.json") and not storage.exists(
        "soft_labels/cycle-001"
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_student_and_killed_aggregator_change_no_bit(
    undisturbed: dict[str, bytes], command: list[Command], tmp_path: Path
) -> None:
    run = start(command, tmp_path, *new_run())
    storage = Storage.at(tmp_path / "runs" / "killed")
    run.wait_for("cycle 1 distil")
    students = titled("ray::RayTrainWorker", run.process.pid)
    aggregators = titled("ray::Aggregator", run.process.pid)
    assert (len(students), len(aggregators)) == (2, 1)
    assert in_first_distillation(storage)
    aggregators[0].kill()
    students[0].kill()
    wait_for_another("ray::Aggregator", run, known=aggregators)
    wait_for_another("ray::RayTrainWorker", run, known=students)
    assert run.end() == 0, run.err
    assert final_files(storage) == undisturbed
    assert " restarted at epoch 2/14" in run.out


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_killed_driver_and_resume_change_no_bit(
    undisturbed: dict[str, bytes], command: list[Command], tmp_path: Path
) -> None:
    run = start(command, tmp_path, *new_run())
    storage = Storage.at(tmp_path / "runs" / "killed")
    run.wait_for("cycle 1 distil")
    left = descendants(run.process.pid)
    assert in_first_distillation(storage)
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()

    def still_there() -> list[str]:
        # by their titles now: agents take theirs some time after they were started
        titles = [title(process) for process in left if process.is_running()]
        return [name for name in titles if name]

    wait_until(lambda: not still_there(), "the end of the killed driver's processes", timeout_s=60)
    resumed = start(command, tmp_path, "--resume", "--name", "killed")
    assert resumed.end() == 0, resumed.err
    assert final_files(storage) == undisturbed
    # it went on at the barrier, so the epoch before it was not trained again
    assert " 1/14" not in resumed.out
    assert "14/14" in resumed.out  # students may have committed some more before Ray ended them
    assert resumed.err == ""


def test_run_with_a_recipe_of_its_own_is_gone_on_with_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.yaml").write_text("epochs: 9\ntin: 1\ntd: 2\nlr: 0.1\nbatch_size: 8\n")
    monkeypatch.chdir(tmp_path)
    config = FitConfig(students="resnet8", recipe="mine.yaml", subset=100)
    run = open_run(config, lambda line: None)
    start_run(run, config, make_plan({"resnet8": 1}, nodes=[{"CPU": 2}]))
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = FitConfig.from_mapping(
        saved_settings({"resume": "true", "storage": str(tmp_path / "runs")})
    )
    resumed = open_run(again, lambda line: None)
    assert (resumed.resumed, resumed.settings) == (True, run.settings)


# -- what is refused, before Ray starts -------------------------------------------------------


@pytest.fixture
def begun(tmp_path: Path) -> str:
    """A storage with a run that was begun and never trained."""
    storage = str(tmp_path / "runs")
    config = FitConfig.from_mapping({**FLAGS, "storage": storage})
    run = open_run(config, lambda line: None)
    start_run(run, config, make_plan({"resnet8": 1, "resnet8-2": 1}, nodes=[{"CPU": 2}]))
    return storage


Refuse = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Iterator[Refuse]:
    def refuse(*argv: str) -> str:
        assert main(list(argv)) == 2
        assert not ray.is_initialized()
        err = capsys.readouterr().err
        assert err.startswith("raymd: error: ")
        assert err.count("\n") == 1
        return err

    yield refuse
    assert [title(p) for p in descendants() if "ray" in title(p)] == []


def test_existing_name_without_resume_is_refused(begun: str, refused: Refuse) -> None:
    err = refused(*new_run(), "--storage", begun)
    assert "'killed' exists" in err
    assert "--resume" in err
    assert "--name" in err


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--t", "4", "t: 3.0 in the run, 4.0 asked for (--t)"),
        ("--seed", "1", "seed: 0 in the run, 1 asked for (--seed)"),
        ("--epochs", "15", "epochs: 14 in the run, 15 asked for (--epochs)"),
        ("--method", "fmd", "method: md in the run, fmd asked for (--method)"),
        ("--lr", "0.5", "resnet8's lr: 0.02 in the run, 0.5 asked for (--lr)"),
        ("--subset", "99", "subset: None in the run, 99 asked for (--subset)"),
        ("--students", "resnet8", "students: resnet8,resnet8-2 in the run, resnet8 asked for"),
    ],
)
def test_resume_with_another_science_is_refused_and_names_the_field(
    flag: str, value: str, said: str, begun: str, refused: Refuse
) -> None:
    assert said in refused("--resume", "--name", "killed", "--storage", begun, flag, value)


def test_resume_of_other_data_is_refused(begun: str, refused: Refuse) -> None:
    storage = Storage.at(begun)
    identity = storage.record("killed/run.json")
    assert identity is not None
    storage.commit("killed/run.json", {**identity, "fingerprint": "0" * 32})
    err = refused("--resume", "--storage", begun)
    assert "--data_dir" in err


def test_resume_without_a_run_is_refused(tmp_path: Path, refused: Refuse) -> None:
    storage = str(tmp_path / "runs")
    assert "no run in" in refused("--resume", "--storage", storage, "--students", "resnet8")
    err = refused("--resume", "--storage", storage, "--students", "resnet8", "--name", "other")
    assert "no run 'other'" in err
    assert "--storage" in err


def test_storage_that_cannot_be_written_is_refused(tmp_path: Path, refused: Refuse) -> None:
    (tmp_path / "file").write_text("no folder")
    err = refused("--students", "resnet8", "--storage", str(tmp_path / "file" / "runs"))
    assert "cannot be written" in err
    assert "--storage DIR" in err


def test_unknown_network_is_refused_with_the_nearest(tmp_path: Path, refused: Refuse) -> None:
    err = refused("--students", "resnet9", "--storage", str(tmp_path))
    assert "'resnet9'" in err
    assert "resnet8" in err
    assert list(tmp_path.iterdir()) == []
