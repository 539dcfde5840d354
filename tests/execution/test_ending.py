"""The mark that a stopped or failed run leaves behind."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from raymd.config import FitConfig
from raymd.execution import run as run_module
from raymd.execution.opening import Run, open_run
from raymd.execution.plan import make_plan
from raymd.execution.run import mark_ended, start_run
from raymd.execution.telling import Telling
from raymd.run_folder import ENDED
from raymd.storage import Storage


@pytest.fixture
def config(tmp_path: Path) -> FitConfig:
    return FitConfig(students="resnet8", subset=100, storage=str(tmp_path), name="run")


@pytest.fixture
def run(config: FitConfig) -> Run:
    return open_run(config, lambda line: None)


def test_run_that_was_never_begun_gets_no_mark(run: Run) -> None:
    mark_ended(run)
    assert not run.storage.exists(ENDED)


def test_mark_stands_until_the_run_is_gone_on_with(config: FitConfig, run: Run) -> None:
    plan = make_plan({"resnet8": 1}, nodes=[{"CPU": 2}])
    start_run(run, config, plan)
    mark_ended(run)
    assert run.storage.exists(ENDED)
    start_run(run, config, plan)
    assert not run.storage.exists(ENDED)


def test_mark_that_cannot_be_written_hides_no_error(
    config: FitConfig, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_run(run, config, make_plan({"resnet8": 1}, nodes=[{"CPU": 2}]))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Storage, "write", full)
    mark_ended(run)


def test_broken_pipe_at_the_end_leaves_nothing_that_only_an_unfinished_run_needs(
    config: FitConfig, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    run.storage.write("soft_labels/cycle-000/resnet8/rows.bin", b"1")
    plan = make_plan({"resnet8": 1}, nodes=[{"CPU": 2}])
    doing_nothing = dict.fromkeys(("check_shared", "start_run", "collect"), lambda *_, **__: None)
    replaced = {
        **doing_nothing,
        "connected": lambda **_: nullcontext("nowhere"),
        "alive_nodes": list,
        "plan_of": lambda *_, **__: plan,
        "_run_students": lambda *_: 0,
    }
    for name, function in replaced.items():
        monkeypatch.setattr(run_module, name, function)
    telling = Telling(config)
    monkeypatch.setattr(telling, "begin", lambda *_: None)
    monkeypatch.setattr(telling, "finish", gone)
    with pytest.raises(BrokenPipeError):
        run_module._train(config, run, telling, None)
    assert not run.storage.exists("soft_labels")
