"""What is told of a run, and to whom: the terminal, programs, TensorBoard, W&B, Ray's metrics, a
callback.

Announcements come before anything is known of the run and events after; both go through here.
Which viewers there are is decided by the configuration; what they show is raymd/view's.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.exchange.blocks import read_losses
from raymd.execution.board_folder import BoardFolder
from raymd.execution.gauges import RayGauges
from raymd.execution.opening import Run
from raymd.execution.plan import Plan
from raymd.execution.standings import standings
from raymd.result import Result
from raymd.run_folder import TENSORBOARD, WANDB
from raymd.runs import read_history
from raymd.secrets import masked, without_secrets
from raymd.student_options import members_of
from raymd.view import events
from raymd.view.about import About
from raymd.view.board import Board
from raymd.view.gauges import Gauges
from raymd.view.json_lines import JsonLines
from raymd.view.lines import Lines
from raymd.view.live import LiveView, can_show
from raymd.view.summary import show_result
from raymd.view.viewers import Viewer, Viewers

LOG_COLUMNS = 120
OnEvent = Callable[[Mapping[str, Any]], None]


class Telling:
    """A run's announcements and events on their way to whoever looks.

    Args:
        config: Which viewers there are.
        console: Where people read; by default the terminal, or 120 columns of a log.
        on_event: Takes every event of the run (docs/events.md).

    Raises:
        UserError: W&B was asked for and is not installed, or ``on_event`` cannot be called.
    """

    def __init__(
        self, config: FitConfig, *, console: Console | None = None, on_event: OnEvent | None = None
    ) -> None:
        if on_event is not None and not callable(on_event):
            raise UserError(f"on_event {on_event!r}: takes a function of one event, or None")
        if "wandb" in (config.log or ()):
            from raymd.view.wandb_log import check_wandb

            check_wandb()  # before anything starts
        self.console = console or new_console()
        self.kind = choose_view(config, self.console)
        self._config = config
        self._on_event = on_event
        self._announced: list[str] = []
        self._viewers: Viewers | None = None
        self._upload: BoardFolder | None = None

    def announce(self, text: str) -> None:
        """Tell people something, before the run begins or while it goes on."""
        text = without_secrets(text)
        if self._viewers is not None:
            self._viewers.note(text)
            return
        self._announced.append(text)
        if self.kind in ("lines", "live"):
            self.console.print(text, soft_wrap=True)

    def begin(self, run: Run, plan: Plan) -> None:
        """Open the viewers: the run begins, or goes on.

        Args:
            run: The run.
            plan: How its students are placed.

        Raises:
            UserError: W&B was asked for and cannot begin.
        """
        history = read_history(run.storage) if run.resumed else []
        known = about(run, plan)
        viewers = self._screen(known, history)
        self._viewers = self._fan_out(viewers)  # to be closed, should a log refuse to begin
        logs = [*self._logs(run, history), *_metrics(run, known, history)]
        self._viewers = self._fan_out([*viewers, *logs, *self._callback()])
        self.show(_run_started(run, self._announced))
        for event in _ended_before(run):
            self._viewers.show(event)

    def show(self, event: Mapping[str, Any]) -> None:
        """Hand an event to all viewers."""
        assert self._viewers is not None
        self._viewers.show(masked(event))

    def finish(self, run: Run, result: Result) -> None:
        """The run has come to its result, now or long ago."""
        if self._viewers is None:  # nothing was trained: programs alone are told
            screen: list[Viewer] = [JsonLines(sys.stdout)] if self.kind == "json" else []
            self._viewers = self._fan_out([*screen, *self._callback()])
            self.show(_run_started(run, self._announced))
        self.show(
            events.run_finished(
                run=result.run,
                seconds=result.seconds,
                best_student=result.best_student,
                result=result.to_dict(),
            )
        )
        self.close()
        if self.kind in ("lines", "live"):
            show_result(self.console, result)

    def close(self) -> None:
        """Close all viewers: the run has ended, well or not."""
        viewers, self._viewers = self._viewers, None
        if viewers is not None:
            viewers.close()
        upload, self._upload = self._upload, None
        if upload is not None:
            try:
                upload.send()
            except OSError as error:  # a run does not fail for it
                where = f"TensorBoard's files stay in {upload.folder}"
                self.console.print(f"{where}: {error}", soft_wrap=True)

    def _fan_out(self, viewers: list[Viewer]) -> Viewers:
        if self.kind in ("lines", "live"):
            return Viewers(viewers)
        return Viewers(viewers, last_resort=lambda text: print(f"raymd: {text}", file=sys.stderr))

    def _callback(self) -> list[Viewer]:
        return [] if self._on_event is None else [_Callback(self._on_event)]

    def _screen(self, about: About, history: list[dict[str, Any]]) -> list[Viewer]:
        if self.kind == "lines":
            return [Lines(self.console, about=about)]
        if self.kind == "live":
            live = LiveView(self.console, about=about, history=history)
            live.start()
            return [live]
        return [JsonLines(sys.stdout)] if self.kind == "json" else []

    def _logs(self, run: Run, history: list[dict[str, Any]]) -> list[Viewer]:
        if run.storage.is_local:
            folder = Path(run.storage.uri)
        else:
            upload = BoardFolder(run.storage)
            upload.fetch()
            self._upload, folder = upload, upload.parent
        board = Board(folder / TENSORBOARD)
        board.rebuild(history)
        logs: list[Viewer] = [board]
        if "wandb" in (self._config.log or ()):
            from raymd.view.wandb_log import WandbLog

            settings = masked(run.settings.to_dict())
            logs.append(
                WandbLog(without_secrets(run.storage.uri), settings=settings, folder=folder / WANDB)
            )
        return logs


class _Callback:
    """A function of the user's as a viewer."""

    name = "on_event"

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    def show(self, event: Mapping[str, Any]) -> None:
        self._on_event(event)

    def close(self) -> None:
        """Nothing is left to do."""


def _metrics(run: Run, about: About, history: list[dict[str, Any]]) -> list[Viewer]:
    """Always on: nobody has to ask for what a cluster's Prometheus collects, and it costs nothing
    where there is none."""
    if not ray.is_initialized():
        return []
    name = without_secrets(run.storage.uri)  # not run.name: seed-0 is called so at every point
    return [RayGauges(Gauges(name, about=about, history=history))]


def new_console() -> Console:
    """The terminal, or 120 columns of a log."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=LOG_COLUMNS)


def choose_view(config: FitConfig, console: Console) -> str:
    """``live``, ``lines``, ``json`` or ``none``; Ray's own logs would tear a live view."""
    if config.view != "auto":
        return config.view
    return "live" if can_show(console) and not config.verbose else "lines"


def about(run: Run, plan: Plan) -> About:
    """What the views have to know of a run."""
    settings = run.settings
    tin, td = settings.phase_epochs
    return About(
        students=tuple(student.id for student in settings.students),
        epochs=settings.epochs,
        tin=tin,
        td=td,
        distils=settings.teaching().distils,
        workers={student: plan.workers_of(student) for student in plan.students},
        slots=plan.slots if plan.placement == "sliced" else None,
    )


def _ended_before(run: Run) -> Iterator[Mapping[str, Any]]:
    """Who was lost or finished in earlier attempts, which no worker will tell again."""
    if not run.resumed:
        return
    for loss in read_losses(run.storage):
        yield events.lost(
            student=loss.student, epoch=loss.epoch, step=loss.step, reason=loss.reason
        )
    for unit, standing in standings(run).items():
        if standing.is_finished and not standing.is_frozen:
            for student in members_of(unit):
                yield events.finished(student=student)


def _run_started(run: Run, announced: list[str]) -> events.RunStartedEvent:
    settings, data = run.settings, run.data
    return events.run_started(
        run=run.storage.uri,
        students=[{"id": student.id, "arch": student.arch} for student in settings.students],
        method=settings.method,
        epochs=settings.epochs,
        tin=settings.tin,
        td=settings.td,
        t=settings.t,
        dataset=settings.dataset,
        num_train=len(data.train),
        num_val=len(data.val) if data.val is not None else 0,
        num_test=len(data.test),
        plan=list(announced),
    )
