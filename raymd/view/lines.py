"""Events as lines of text: one for each student and epoch, in columns that stay where they are.

Enters: events, in the order they arrive. Leaves: lines on a rich Console, for a terminal or a log:

    resnet18  epoch  7/24  cycle 2 distil 3/4   task 0.412  kd 0.133  held-out 95.1 %  ...

A line never wraps: where the console is too narrow, columns move together, then shorten, then the
least important ones are left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from raymd.view.about import About
from raymd.view.cells import GAP, Cell, colours_of, line_of
from raymd.view.summary import result_table, show_result
from raymd.view.text import count_of, duration, listed, loss, percent
from raymd.view.time_left import TimeLeft

__all__ = ["Lines", "result_table", "show_result"]


def next_report(seconds: float) -> float:
    """When to speak of a wait again that has lasted so long: at 5, 15, 60 s, then each minute."""
    for report_at in (5.0, 15.0, 60.0):
        if seconds < report_at:
            return report_at
    return (seconds // 60 + 1) * 60.0


def _waited(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _each_of(workers: int) -> str:
    return "" if workers == 1 else f" in each of {workers} workers"


class Lines:
    """Prints events.

    Args:
        console: Where to; its width decides which columns there are.
        about: The run.
    """

    name = "lines"

    def __init__(self, console: Console, *, about: About) -> None:
        self.console = console
        self.epochs = about.epochs
        self.time_left = TimeLeft(about)
        self._phase_epochs = {"independent": about.tin, "distillation": about.td}
        self._id_width = max(map(len, about.students), default=0)
        self._colours = colours_of(about.students)
        self._expected: dict[str, tuple[int, int]] = {}
        self._distils = about.distils
        self._teachers: set[tuple[int, str]] = set()
        self._report_at: dict[tuple[str, int], float] = {}
        self._waited: dict[tuple[str, int], float] = {}
        self._show: dict[str, Callable[[Any], None]] = {
            "started": self._started,
            "epoch": self._epoch,
            "waiting": self._waiting,
            "taught": self._taught,
            "restarted": self._restarted,
            "stopped": self._stopped,
            "lost": self._lost,
            "finished": self._finished,
            "note": self._note,
        }

    def show(self, event: Mapping[str, Any]) -> None:
        """Print what an event of view/events.py is worth: a line, or nothing.

        Nothing for ``progress``, ``published``, ``segment`` and ``memory``, for a start where the
        student left off (its next turn), for a wait that was spoken of a moment ago, and for a
        teacher that was told of already; and nothing for the run's start and end, which others
        print.
        """
        show = self._show.get(event["event"])
        if show is not None:
            show(event)

    def close(self) -> None:
        """Nothing is left to do; a viewer (viewers.py) has this."""

    # -- epochs ---------------------------------------------------------------------------

    def _epoch(self, event: Mapping[str, Any]) -> None:
        student, epoch = event["student"], event["epoch"]
        self._expected[student] = (epoch + 1, 0)
        self.time_left.finished_epoch(student, epoch=epoch, seconds=event["seconds"])
        self.console.print(line_of(self._cells(event), width=self.console.width))

    def _cells(self, event: Mapping[str, Any]) -> list[Cell]:
        kd = "" if event["kd_loss"] is None else f"kd {loss(event['kd_loss'])}"
        val = event["val_accuracy"]
        # without a held-out slice the running training accuracy is what weighs a student
        speed, left = f"{event['images_per_s']:,.0f}", self._left()
        name, accuracy = ("training", event["train_accuracy"]) if val is None else ("held-out", val)
        return [
            Cell(self._id(event["student"]), 0, style=self._colours.get(event["student"], "")),
            Cell("epoch", 8, " "),
            Cell(self._place(event["epoch"]), 1),
            *(self._phase_cells(event) if self._distils else []),
            Cell(f"task {loss(event['task_loss'])}".ljust(10), 3, " " if self._distils else GAP),
            *([Cell(kd.ljust(8), 4)] if self._distils else []),
            Cell(f"{name} {percent(accuracy)}", 0, style="bold"),
            Cell(f"{speed} img/s".rjust(12), 6, style="dim", short=f"{speed}/s".rjust(7)),
            Cell(left.ljust(10), 2, style="dim", short=left),
        ]

    def _phase_cells(self, event: Mapping[str, Any]) -> list[Cell]:
        cycle = f"cycle {event['cycle'] + 1}".ljust(7)
        return [Cell(cycle, 7, " "), Cell(self._phase(event), 5)]

    def _id(self, student: str) -> str:
        return student.ljust(self._id_width)

    def _place(self, epoch: int) -> str:
        return f"{epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"

    def _phase(self, event: Mapping[str, Any]) -> str:
        word = "distil" if event["phase"] == "distillation" else "alone "
        longest = max(len(str(length or self.epochs)) for length in self._phase_epochs.values())
        place, length = event["r"] + 1, self._phase_epochs[event["phase"]]
        if length is None:
            return f"{word} {place:<{longest}}"
        return f"{word} {place:>{longest}}/{length:<{longest}}"

    def _left(self) -> str:
        seconds = self.time_left.seconds()
        return f"{duration(seconds)} left" if seconds else ""

    # -- everything else ------------------------------------------------------------------

    def _say(self, student: str, text: str, *, style: str = "") -> None:
        line = Text(self._id(student), style=self._colours.get(student, ""))
        self.console.print(Text.assemble(line, GAP, (text, style)), soft_wrap=True)

    def _where(self, event: Mapping[str, Any]) -> str:
        step = f", step {event['step'] + 1:,}" if event["step"] else ""
        return f"epoch {min(event['epoch'] + 1, self.epochs)}/{self.epochs}{step}"

    def _started(self, event: Mapping[str, Any]) -> None:
        student, position = event["student"], (event["epoch"], event["step"])
        self.time_left.started(student, epoch=event["epoch"])
        if self._expected.get(student) == position:
            return
        self._expected[student] = position
        self._say(
            student,
            f"{count_of(event['parameters'], 'parameter')} on {event['device']},"
            f" {count_of(event['threads'], 'thread')}{_each_of(event.get('workers', 1))}"
            + ("" if position == (0, 0) else f", goes on at {self._where(event)}"),
        )

    def _waiting(self, event: Mapping[str, Any]) -> None:
        key, seconds = (event["student"], event["cycle"]), event["seconds"]
        if seconds < self._waited.get(key, 0.0):
            self._report_at.pop(key)  # a new wait: the student was restarted
        self._waited[key] = seconds
        if seconds < self._report_at.setdefault(key, next_report(0.0)):
            return
        self._report_at[key] = next_report(seconds)
        missing = [self._standing(student) for student in event["missing"]]
        whom = listed(missing) or f"the teacher of cycle {event['cycle'] + 1} to be merged"
        self._say(event["student"], f"waits for {whom}, {_waited(seconds)}", style="dim")

    def _standing(self, student: str) -> str:
        epoch = self.time_left.position(student)
        if epoch is None:
            return f"{student} (not started)"
        return f"{student} (epoch {min(epoch + 1, self.epochs)}/{self.epochs})"

    def _taught(self, event: Mapping[str, Any]) -> None:
        teacher = (event["cycle"], event["teacher"])
        if teacher in self._teachers:
            return
        self._teachers.add(teacher)
        by = [f"{student} {percent(a).strip()}" for student, a in event["weights"].items()]
        text = f"teacher of cycle {event['cycle'] + 1}: {listed(by, most=6)}"
        own = event["student"] not in event["weights"]  # else one teacher for all
        self._say(event["student"] if own else "", text, style="dim")

    def _restarted(self, event: Mapping[str, Any]) -> None:
        self._expected[event["student"]] = (event["epoch"], event["step"])
        self.time_left.started(event["student"], epoch=event["epoch"])
        text = f"restarted at {self._where(event)} (restart {event['attempt']}): {event['reason']}"
        self._say(event["student"], text, style="yellow")

    def _stopped(self, event: Mapping[str, Any]) -> None:
        self._say(event["student"], f"stopped at {self._where(event)}, committed", style="yellow")

    def _lost(self, event: Mapping[str, Any]) -> None:
        self.time_left.lost(event["student"])
        text = f"lost at {self._where(event)}, the others go on without it: {event['reason']}"
        self._say(event["student"], text, style="red")

    def _finished(self, event: Mapping[str, Any]) -> None:
        self.time_left.finished(event["student"])
        self._say(event["student"], "finished")

    def _note(self, event: Mapping[str, Any]) -> None:
        self.console.print(Text(event["text"]), soft_wrap=True)
