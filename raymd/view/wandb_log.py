"""Weights & Biases: what board.py writes for TensorBoard, sent to W&B.

Enters: events. Leaves: one W&B run, with a group of plots a student. Its id follows from the run
directory, so that ``--resume`` goes on with the same one; epochs trained again are sent again.
wandb is an extra: it is imported when it is asked for.
"""

import hashlib
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raymd.errors import UserError
from raymd.view.measures import axis_of, final_scores, pictures_of, scalars_of

PROJECT = "raymd"
ID_LENGTH = 40


def check_wandb() -> Any:
    """The wandb module.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise UserError(
            f"--log wandb: wandb cannot be imported ({error}): pip install 'raymd[wandb]'"
        ) from error


def wandb_id(run: str) -> str:
    """The id of a run in W&B: of its directory's name, and of where that lies."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", run.rstrip("/").rsplit("/", 1)[-1]).strip("-")
    place = hashlib.sha256(run.encode()).hexdigest()[:8]
    return f"{name[:ID_LENGTH]}-{place}"


class WandbLog:
    """Sends events to W&B.

    Args:
        run: The run directory, a path or a URI; the same each time the run is gone on with.
        settings: Everything that decides the weights (Settings.to_dict).
        folder: Where wandb keeps its own files; on this machine.
        project: W&B's project.

    Raises:
        UserError: wandb is not installed, or cannot begin, as where nobody has logged in.
    """

    name = "wandb"

    def __init__(
        self, run: str, *, settings: Mapping[str, Any], folder: Path, project: str = PROJECT
    ) -> None:
        self._wandb = check_wandb()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._run = self._wandb.init(
                project=project,
                id=wandb_id(run),
                name=run.rstrip("/").rsplit("/", 1)[-1],
                resume="allow",
                config=dict(settings),
                dir=str(folder),
                settings={"console": "off"},  # the live view's pictures are no log
            )
        except Exception as error:
            raise UserError(
                f"--log wandb: W&B cannot begin ({error}): log in with `wandb login`, or set"
                " WANDB_MODE=offline and send the run later with `wandb sync`"
            ) from error
        self._axes: set[str] = set()
        self._complete = False

    def show(self, event: Mapping[str, Any]) -> None:
        """Send what an event measured; wandb sends in the background."""
        axis = axis_of(event)
        if axis is not None:
            kind, step = axis
            group = self._group(event["student"], kind)
            pictures = pictures_of(event).items()
            images = {f"{group}/{tag}": self._wandb.Image(pixels) for tag, pixels in pictures}
            scalars = {f"{group}/{tag}": value for tag, value in scalars_of(event).items()}
            self._run.log({**scalars, **images, f"{group}/{kind}": step})
        elif event["event"] == "run_finished":
            self._finish(event)

    def close(self) -> None:
        """Send what is left; a run without a result counts as failed until it is gone on with."""
        self._run.finish(exit_code=0 if self._complete else 1)

    def _group(self, student: str, kind: str) -> str:
        """The plots of a student over epochs or cycles, with that as their axis."""
        group = student if kind == "epoch" else f"{student} cycles"
        if group not in self._axes:
            self._axes.add(group)
            self._run.define_metric(f"{group}/{kind}", hidden=True)
            self._run.define_metric(f"{group}/*", step_metric=f"{group}/{kind}")
        return group

    def _finish(self, event: Mapping[str, Any]) -> None:
        self._complete = True
        scores = final_scores(event["result"])
        summary = {
            f"{who}/{tag}": value for who, found in scores.items() for tag, value in found.items()
        }
        best = event["best_student"]
        self._run.summary.update(
            {**summary, "best_student": best, "test_accuracy": scores[best]["final/test_last"]}
        )
