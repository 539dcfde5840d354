"""Telling of a run: what cannot begin is refused early, and leaves the terminal as it was."""

import io
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.execution.opening import open_run
from raymd.execution.telling import Telling


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
        telling.begin(run)
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
    telling.begin(open_run(silent, telling.announce))
    telling.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("raymd: on_event failed and gets no more of this run")


def test_apples_gpu_is_refused_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(UserError, match="device mps: this machine has no GPU"):
        open_run(config(tmp_path, log="null", device="mps"), lambda line: None)
    assert list(tmp_path.iterdir()) == []
