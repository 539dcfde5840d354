"""What is sent to W&B; wandb itself is a module of this file."""

import sys
import types

import pytest

from raymd.errors import UserError
from raymd.view.wandb_log import WandbLog, check_wandb, wandb_id
from tests.view.examples import ONE_OF_EACH, epoch, published, result, run_finished, taught


class FakeRun:
    def __init__(self, **options):
        self.options = options
        self.logged = []
        self.metrics = {}
        self.summary = {}
        self.exit_code = None

    def log(self, values):
        self.logged.append(values)

    def define_metric(self, name, *, step_metric=None, hidden=None):
        assert name not in self.metrics
        self.metrics[name] = step_metric

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**options):
        module.runs.append(FakeRun(**options))
        return module.runs[-1]

    module.init = init
    module.Image = lambda pixels: ("image", pixels.shape)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def log_of(tmp_path, run="runs/one"):
    return WandbLog(run, settings={"t": 3.0}, folder=tmp_path / "wandb")


def test_missing_wandb_is_refused_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"--log wandb.*pip install 'raymd\[wandb\]'"):
        check_wandb()


def test_wandb_that_cannot_begin_is_refused_with_its_remedy(wandb, tmp_path):
    def init(**options):
        raise RuntimeError("api_key not configured")

    wandb.init = init
    with pytest.raises(UserError, match=r"api_key not configured.*wandb login.*WANDB_MODE=offline"):
        log_of(tmp_path)


def test_resumed_run_goes_on_with_the_same_id(wandb, tmp_path):
    log_of(tmp_path).close()
    log_of(tmp_path)
    first, second = (run.options for run in wandb.runs)
    assert first == second
    assert first["resume"] == "allow"
    assert (first["project"], first["name"], first["config"]) == ("raymd", "one", {"t": 3.0})


def test_ids_differ_by_name_and_place_and_hold_no_special_characters():
    runs = ["runs/one", "runs/two", "s3://bucket/runs/one", "runs/größe?" + "x" * 200]
    ids = [wandb_id(run) for run in runs]
    assert len(set(ids)) == 4
    assert ids[0].startswith("one-")
    assert all(len(i) < 64 and i.replace("-", "").isalnum() and i.isascii() for i in ids)


def test_epochs_and_cycles_have_axes_of_their_own(wandb, tmp_path):
    log = log_of(tmp_path)
    for event in (epoch(index=3), epoch(index=4), published(cycle=1), taught(cycle=1)):
        log.show(event)
    (run,) = wandb.runs
    assert run.logged[0]["resnet18/loss/task"] == 0.412
    assert [values.get("resnet18/epoch") for values in run.logged] == [3, 4, None, None]
    assert run.logged[2]["resnet18 cycles/soft_labels/student"] == ("image", (266, 399, 3))
    assert run.logged[3]["resnet18 cycles/weights/densenet100-2"] == 0.52
    assert run.metrics["resnet18/*"] == "resnet18/epoch"
    assert run.metrics["resnet18 cycles/*"] == "resnet18 cycles/cycle"


def test_result_is_the_summary_and_ends_the_run_well(wandb, tmp_path):
    log = log_of(tmp_path)
    log.show(run_finished(result()))
    log.close()
    (run,) = wandb.runs
    assert run.summary["best_student"] == "densenet100-2"
    assert run.summary["test_accuracy"] == 340 / 360
    assert run.summary["ensemble/final/test_last"] == 344 / 360
    assert run.exit_code == 0


def test_run_without_a_result_does_not_end_well(wandb, tmp_path):
    log = log_of(tmp_path)
    for event in ONE_OF_EACH[:-1]:
        log.show(event)
    log.close()
    assert wandb.runs[0].exit_code == 1
