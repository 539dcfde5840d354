"""What a run's gauges show: a number a name, for whatever collects them by time (Prometheus).

Enters: events. Leaves: readings, which raymd/execution/gauges.py hands to Ray. A gauge of which no
event has told anything has no reading. docs/metrics.md says the names to others.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from raymd.view.about import About
from raymd.view.measures import final_scores
from raymd.view.state import RunState
from raymd.view.student_now import StudentNow

TRAINS = ("independent", "distillation")
OVER = ("finished", "stopped", "lost")


class Gauge(NamedTuple):
    """A gauge: its name, what it shows, and the tags of its readings."""

    name: str
    about: str
    tags: tuple[str, ...] = ("run", "student")


GAUGES = (
    Gauge("raymd_active", "1 while the run goes on, 0 when it has ended", ("run",)),
    Gauge("raymd_object_store_bytes", "Held in Ray's object stores: images, soft labels", ("run",)),
    Gauge("raymd_students_lost", "Students that are not trained any further", ("run",)),
    Gauge(
        "raymd_phase", "1 for what the student does, 0 for what it did", ("run", "student", "phase")
    ),
    Gauge("raymd_epoch", "Epochs done, with the part of the one under way"),
    Gauge("raymd_epochs", "The budget", ("run",)),
    Gauge("raymd_cycle", "Cycle of training alone and distilling, from 0"),
    Gauge("raymd_loss", "What is minimised, in nats"),
    Gauge("raymd_task_loss", "Cross entropy with the labels, in nats"),
    Gauge("raymd_kd_loss", "KL from the teacher, in nats"),
    Gauge("raymd_train_accuracy", "On the augmented training images, of 1"),
    Gauge("raymd_val_accuracy", "On the held-out images, of 1"),
    Gauge("raymd_test_accuracy", "Of the last weights on the test images, of 1; at the very end"),
    Gauge("raymd_images_per_s", "Trained on, by all workers of the student; 0 while it does not"),
    Gauge("raymd_barrier_wait_s", "How long it has been waiting for a teacher; 0 if it is not"),
    Gauge("raymd_barrier_waited_s", "All waits of this attempt that are over"),
    Gauge("raymd_soft_label_bytes", "Published in this attempt"),
    Gauge("raymd_restarts", "How often its workers were started anew in this attempt"),
)
# names of StudentNow that are shown as they are
PLAIN = ("cycle", "loss", "task_loss", "kd_loss", "train_accuracy", "val_accuracy")


@dataclass(frozen=True)
class Reading:
    """A gauge's value, for its tags."""

    name: str
    tags: Mapping[str, str]
    value: float


class Gauges:
    """Takes events, and says what every gauge shows.

    Args:
        run: What the run is called, a tag of every reading.
        about: The run.
        history: Epochs of earlier attempts.
    """

    def __init__(
        self, run: str, *, about: About, history: list[dict[str, Any]] | None = None
    ) -> None:
        self._run = run
        self._state = RunState.of(about)
        self._state.recall(history or [])
        self._sums: dict[str, dict[str, float]] = {
            name: defaultdict(float) for name in about.students
        }
        self._phases: dict[str, set[str]] = {name: set() for name in about.students}
        self._ended = False

    def take(self, event: Mapping[str, Any], *, now: float) -> None:
        """Take in an event; ``now`` is the moment it came, on any clock."""
        self._state.add(event, now=now)
        student = self._state.students.get(event.get("student", ""))
        if student is not None:
            if student.doing is not None:
                self._phases[student.id].add(student.doing)
            self._add_up(self._sums[student.id], event)
        elif event["event"] == "run_finished":
            for who, scores in final_scores(event["result"]).items():
                if who in self._sums:  # the ensemble is no student
                    self._sums[who]["test_accuracy"] = scores["final/test_last"]

    def _add_up(self, sums: dict[str, float], event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "published":
                sums["soft_label_bytes"] += event["bytes"]
            case "taught":
                sums["barrier_waited_s"] += event["waited_s"]
            case "restarted":
                sums["restarts"] = event["attempt"]

    @property
    def students(self) -> tuple[str, ...]:
        """Ids of all students."""
        return self._state.about.students

    def end(self) -> None:
        """The run goes on no more, well or not: nothing shall look as if it did."""
        self._ended = True

    def readings(self, *, now: float) -> Iterator[Reading]:
        """What all gauges show at a moment."""
        students = self._state.students.values()
        tags = {"run": self._run}
        lost = sum(student.doing == "lost" for student in students)
        over = self._ended or all(student.doing in OVER for student in students)
        held = 0 if self._ended else self._state.object_store_bytes
        yield Reading("raymd_active", tags, 0 if over else 1)
        yield Reading("raymd_students_lost", tags, lost)
        yield Reading("raymd_epochs", tags, self._state.about.epochs)
        if held is not None:
            yield Reading("raymd_object_store_bytes", tags, held)
        for student in students:
            yield from self.of_student(student.id, now=now)

    def of_student(self, student_id: str, *, now: float) -> Iterator[Reading]:
        """What a student's gauges show at a moment."""
        student, tags = self._state.students[student_id], {"run": self._run, "student": student_id}
        yield from self._phase_readings(student, tags)
        for name, value in self._values(student, now).items():
            if value is not None:
                yield Reading(f"raymd_{name}", tags, value)

    def _phase_readings(self, student: StudentNow, tags: Mapping[str, str]) -> Iterator[Reading]:
        """1 for what it does; 0 for what it did, or its last phase would be shown with the next."""
        doing: str | None = student.doing
        if self._ended and doing not in OVER:
            doing = "ended"
        for phase in sorted(self._phases[student.id] | ({doing} if doing else set())):
            yield Reading("raymd_phase", {**tags, "phase": phase}, phase == doing)

    def _values(self, student: StudentNow, now: float) -> dict[str, float | None]:
        trains = student.doing in TRAINS and not self._ended
        waits = student.wait is not None and not self._ended
        epoch = None if student.epoch is None else student.epoch + (student.part or 0.0)
        plain: dict[str, float | None] = {name: getattr(student, name) for name in PLAIN}
        return {
            **plain,
            "epoch": epoch,
            "images_per_s": student.images_per_s if trains else 0.0,
            "barrier_wait_s": now - student.wait.since if student.wait and waits else 0.0,
            "soft_label_bytes": 0.0,
            "barrier_waited_s": 0.0,
            "restarts": 0.0,
            **self._sums[student.id],
        }
