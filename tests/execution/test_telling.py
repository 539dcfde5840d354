"""Telling of a run: what cannot begin is refused early, and leaves the terminal as it was."""

import io
import sys
import types
from pathlib import Path

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
