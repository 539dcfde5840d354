"""Telling of a run: what cannot begin is refused early, and leaves the terminal as it was."""

import io
import sys
import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.exchange.blocks import commit_loss
from raymd.exchange.facts import Loss
from raymd.execution import telling as telling_module
from raymd.execution.board_folder import BoardFolder
from raymd.execution.opening import open_run
from raymd.execution.plan import Plan
from raymd.execution.telling import Telling, about
from raymd.runs import begin
from raymd.storage import Storage
from raymd.training.student import StudentTask
from raymd.view.board import Board
from raymd.view.tfevents import read_events
from tests.training.conftest import run_to
from tests.view.examples import epoch, published, taught

PLAN = Plan({"resnet8": 1}, cpus_per_worker=1, gpus_per_worker=0, threads=1)


def config(folder: Path, **changes: object) -> FitConfig:
    said = {"students": "resnet8", "subset": 100, "storage": str(folder), "log": "wandb"}
    return FitConfig.from_mapping({**said, **changes})


def test_wandb_that_is_not_installed_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'raymd\[wandb\]'"):
        Telling(config(tmp_path))


def test_log_that_cannot_begin_leaves_no_live_view_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: object) -> None:
        raise RuntimeError("nobody has logged in")

    module = types.ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    written = io.StringIO()
    screen = Console(file=written, force_terminal=True, width=80, height=24)
    stdout, live = sys.stdout, config(tmp_path, view="live")
    telling = Telling(live, console=screen)
    run = open_run(live, telling.announce)
    with pytest.raises(UserError, match="W&B cannot begin"):
        telling.begin(run, PLAN)
    telling.close()
    telling.close()
    assert sys.stdout is stdout  # the live view takes it over
    assert written.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is shown


def test_what_cannot_be_called_is_refused_as_on_event(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="on_event 3: takes a function"):
        Telling(config(tmp_path, log="null"), on_event=3)  # type: ignore[arg-type]


def test_failing_callback_is_told_of_on_stderr_where_nobody_looks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def on_event(event: Mapping[str, Any]) -> None:
        raise ValueError("not today")

    silent = config(tmp_path, log="null", view="none")
    telling = Telling(silent, on_event=on_event)
    telling.begin(open_run(silent, telling.announce), PLAN)
    telling.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("raymd: on_event failed and gets no more of this run")


def test_who_was_lost_or_has_finished_is_told_again_when_the_run_goes_on(tmp_path: Path) -> None:
    said = {"students": "resnet8,resnet8,resnet8", "method": "independent", "epochs": 1}
    first = config(tmp_path, name="run", log="null", view="none", **said)
    run = open_run(first, lambda line: None)
    begin(run.storage, config=first, settings=run.settings, fingerprint=run.data.fingerprint)
    run_to([StudentTask(run.settings.students[0], run.settings, run.data, run.storage, run.name)])
    loss = Loss("resnet8-2", "its memory ran out", epoch=0, step=3, cycle=0)
    commit_loss(run.storage, loss)
    told: list[Mapping[str, Any]] = []
    again = replace(first, resume="true")
    telling = Telling(again, on_event=told.append)
    telling.begin(open_run(again, telling.announce), PLAN)
    telling.close()
    assert [(event["event"], event.get("student")) for event in told] == [
        ("run_started", None), ("lost", "resnet8-2"), ("finished", "resnet8"),
    ]  # fmt: skip
    assert told[1]["reason"] == "its memory ran out"


@pytest.mark.parametrize(
    ("placement", "slots", "expected"), [("sliced", 1, 1), ("sliced", 3, 3), ("resident", 0, None)]
)
def test_views_know_the_workers_at_a_time_of_students_in_turns(
    tmp_path: Path, placement: str, slots: int, expected: int | None
) -> None:
    asked = config(tmp_path, students="resnet8,resnet20", log="null")
    run = open_run(asked, lambda line: None)
    workers = {"resnet8": 1, "resnet20": 2}
    seen = about(run, Plan(workers, 1, 0, 1, placement=placement, slots=slots))
    assert (seen.slots, seen.workers_of("resnet20")) == (expected, 2)
    assert seen.students == ("resnet8", "resnet20")


def test_apples_gpu_is_refused_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(UserError, match="device mps: this machine has no GPU"):
        open_run(config(tmp_path, log="null", device="mps"), lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_run_is_called_by_its_folder_in_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def gauges(run: str, **_: object) -> None:
        called.append(run)

    monkeypatch.setattr(telling_module, "Gauges", gauges)
    monkeypatch.setattr(telling_module, "RayGauges", lambda of: of)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    for point in ("a", "b"):
        run = open_run(config(tmp_path / point, name="seed-0"), lambda line: None)
        telling_module._metrics(run, about(run, PLAN), [])
    assert called == [f"{tmp_path}/a/seed-0", f"{tmp_path}/b/seed-0"]


def test_run_that_goes_on_has_each_epoch_and_cycle_once_on_a_store(tmp_path: Path) -> None:
    store = Storage.at(tmp_path / "run")
    done = [epoch(index=0), epoch(index=1)]

    def attempt(history: list[Any], *events: Mapping[str, Any]) -> None:
        upload = BoardFolder(store)
        upload.fetch()
        board = Board(upload.folder)
        board.rebuild(history)
        for event in events:
            board.show(event)
        board.close()
        upload.send()
        assert not upload.parent.exists()

    attempt([], *done, published(cycle=0), taught(cycle=0))
    attempt(done, epoch(index=2))
    steps = Counter(
        (value.tag, event.step)
        for file in (tmp_path / "run/tensorboard/resnet18").iterdir()
        for event in read_events(file)
        for value in event.summary.value
    )
    assert set(steps.values()) == {1}
    assert {step for tag, step in steps if tag == "loss/total"} == {0, 1, 2}
    assert {step for tag, step in steps if tag.startswith("weights/")} == {0}
