"""The mark that a stopped or failed run leaves behind."""

from pathlib import Path

import pytest

from raymd.config import FitConfig
from raymd.execution.opening import Run, open_run
from raymd.execution.plan import make_plan
from raymd.execution.run import mark_ended, start_run
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
