"""Where one student stands: what its events so far amount to.

Enters: a student's events, in the order they arrive. Leaves: a StudentNow, which state.py keeps for
each student of a run. What no event has told is None, so that nobody shows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Doing = Literal[
    "starts",
    "independent",
    "distillation",
    "publishing",
    "published",
    "waits",
    "finishing",
    "finished",
    "restarted",
    "stopped",
    "queued",
    "lost",
]


MEASURES = (
    *("epoch", "cycle", "r", "lr", "loss", "task_loss", "kd_loss"),
    *("train_accuracy", "images_per_s"),
)


@dataclass
class Wait:
    """A student waits for a cycle's teacher.

    Attributes:
        cycle: The teacher's.
        missing: Who has not published yet; empty while the teacher is merged.
        since: The moment it began, on the clock of StudentNow.add.
    """

    cycle: int
    missing: tuple[str, ...]
    since: float


@dataclass
class StudentNow:
    """Where a student stands; names are those of the events (event_types.py).

    Attributes:
        doing: What it does at the moment; ``queued``: its slot trains others until its next turn.
        accuracies: At the end of each epoch (index): held-out, else of training.
        val_accuracies: The held-out ones alone.
        epoch_seconds: What the epoch under way seems to take as a whole.
    """

    id: str
    doing: Doing | None = None
    epoch: int | None = None
    step: int | None = None
    steps: int | None = None
    cycle: int | None = None
    r: int | None = None
    lr: float | None = None
    loss: float | None = None
    task_loss: float | None = None
    kd_loss: float | None = None
    train_accuracy: float | None = None
    images_per_s: float | None = None
    accuracies: dict[int, float] = field(default_factory=dict)
    val_accuracies: dict[int, float] = field(default_factory=dict)
    wait: Wait | None = None
    epoch_seconds: float | None = None
    _heard: tuple[int, int, float] | None = None  # epoch, step, moment of its first progress

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the highest held-out accuracy, the first of equals."""
        if not self.val_accuracies:
            return None
        return max(sorted(self.val_accuracies), key=self.val_accuracies.__getitem__)

    @property
    def val_accuracy(self) -> float | None:
        """The newest held-out accuracy."""
        return self.val_accuracies[max(self.val_accuracies)] if self.val_accuracies else None

    @property
    def part(self) -> float | None:
        """How much of the epoch is done, of 1."""
        if self.step is None or not self.steps:
            return None
        return self.step / self.steps

    def add(self, event: Mapping[str, Any], *, now: float) -> None:
        """Take in an event of this student; ``now`` is the moment it came, on any clock."""
        match event["event"]:
            case "started":
                self._begin(event, doing="starts")
            case "restarted":
                self._begin(event, doing="restarted")
            case "progress":
                self._progress(event, now)
            case "epoch":
                self._measure(event)
                self.recall(event)
                self.step, self.doing = self.steps, event["phase"]
            case "published":
                self._exchange(event, doing="published")
            case "waiting":
                self._exchange(event, doing="waits")
                self.wait = Wait(event["cycle"], tuple(event["missing"]), now - event["seconds"])
            case "taught":
                self._exchange(event, doing="distillation")
            case "stopped" | "finished" | "lost" as doing:
                self.doing, self.wait = doing, None

    def recall(self, event: Mapping[str, Any]) -> None:
        """Take in how well an epoch ended, and nothing else of it: it may be long ago."""
        val = event["val_accuracy"]
        self.accuracies[event["epoch"]] = event["train_accuracy"] if val is None else val
        if val is not None:
            self.val_accuracies[event["epoch"]] = val

    def _begin(self, event: Mapping[str, Any], *, doing: Doing) -> None:
        self.doing, self.epoch, self.step, self.steps = doing, event["epoch"], event["step"], None
        self.wait, self._heard, self.epoch_seconds = None, None, None

    def _progress(self, event: Mapping[str, Any], now: float) -> None:
        self._measure(event)
        self.doing, self.step, self.steps = event["phase"], event["step"], event["steps"]
        if self._heard is None or self._heard[0] != event["epoch"]:
            self._heard = (event["epoch"], event["step"], now)
        _, step, moment = self._heard
        if event["step"] > step:
            self.epoch_seconds = (now - moment) / (event["step"] - step) * event["steps"]

    def _measure(self, event: Mapping[str, Any]) -> None:
        for name in MEASURES:
            setattr(self, name, event[name])
        self.wait = None

    def _exchange(self, event: Mapping[str, Any], *, doing: Doing) -> None:
        self.doing, self.cycle, self.r, self.wait = doing, event["cycle"], None, None
