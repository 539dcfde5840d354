"""Where a run stands: what its events so far amount to, for whatever shows it as a whole.

Enters: events, in the order they arrive, each with the moment it did. Leaves: a RunState, which
dashboard.py draws. What no event has told is None, so that nobody shows it.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raymd.view.about import About
from raymd.view.student_now import Doing, StudentNow, Wait
from raymd.view.text import listed, percent
from raymd.view.time_left import TimeLeft

NOTES = 3


@dataclass
class RunState:
    """Where all students stand.

    Attributes:
        about: The run.
        began: The moment the view began, on the clock of ``add``.
        time_left: Of each student and of all.
        students: By id, in the order asked for.
        run, method, dataset: Once ``run_started`` has told them.
        published_bytes: Of each cycle.
        object_store_bytes, peak_bytes: What the run holds there now, and at most so far.
        notes: The newest lines for people, the oldest first.
        finished: Whether there is a result.
    """

    about: About
    began: float
    time_left: TimeLeft
    students: dict[str, StudentNow]
    run: str | None = None
    method: str | None = None
    dataset: str | None = None
    published_bytes: dict[int, int] = field(default_factory=dict)
    object_store_bytes: int | None = None
    peak_bytes: int = 0
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=NOTES))
    finished: bool = False
    _teachers: set[tuple[int, str]] = field(default_factory=set)

    @classmethod
    def of(cls, about: About, *, began: float = 0.0) -> "RunState":
        """The state of a run that nothing has been heard of."""
        students = {student: StudentNow(student) for student in about.students}
        return cls(about, began, TimeLeft(about), students)

    @property
    def waits(self) -> list[tuple[Wait, list[str]]]:
        """Each wait once, since its beginning, with the students that share it."""
        shared: dict[tuple[int, tuple[str, ...]], list[StudentNow]] = defaultdict(list)
        for student in self.students.values():
            if (wait := student.wait) is not None:
                shared[wait.cycle, wait.missing].append(student)
        return [
            (
                Wait(cycle, missing, min(s.wait.since for s in who if s.wait is not None)),
                [student.id for student in who],
            )
            for (cycle, missing), who in shared.items()
        ]

    def recall(self, history: Iterable[Mapping[str, Any]]) -> None:
        """Take in the epochs of earlier attempts: accuracies alone, nothing that goes on now."""
        for event in history:
            student = self.students.get(event["student"])
            if student is not None and event["event"] == "epoch":
                student.recall(event)

    def add(self, event: Mapping[str, Any], *, now: float) -> None:
        """Take in an event; one of a student unknown here, or lost, does nothing.

        Args:
            event: As events.py makes them, with ``time`` or without.
            now: The moment it came, in seconds of any clock.
        """
        student = self.students.get(event.get("student", ""))
        if student is not None:
            if student.doing != "lost":  # its workers may have sent more before they ended
                student.add(event, now=now)
                self._add_to_run(student, event)
            return
        match event["event"]:
            case "run_started":
                self.run, self.method = event["run"], event["method"]
                self.dataset = event["dataset"]
            case "run_finished":
                self.finished = True
            case "memory":
                self.object_store_bytes = event["bytes"]
                # counted anew in every attempt
                self.peak_bytes = max(self.peak_bytes, event["peak_bytes"])
            case "note":
                self._note(event["text"])

    def _add_to_run(self, student: StudentNow, event: Mapping[str, Any]) -> None:
        """What a student's event means for the whole run."""
        match event["event"]:
            case "started":
                self.time_left.started(student.id, epoch=event["epoch"])
            case "progress":
                part, seconds = event["step"] / event["steps"], student.epoch_seconds
                self.time_left.under_way(
                    student.id, epoch=event["epoch"], part=part, seconds=seconds
                )
            case "epoch":
                epoch, seconds = event["epoch"], event["seconds"]
                self.time_left.finished_epoch(student.id, epoch=epoch, seconds=seconds)
                student.doing = self._after(event)
            case "published":
                before = self.published_bytes.get(event["cycle"], 0)
                self.published_bytes[event["cycle"]] = before + event["bytes"]
            case "taught":
                self._taught(event)
            case "restarted":
                self.time_left.started(student.id, epoch=event["epoch"])
                what = f"restarted (restart {event['attempt']}): {event['reason']}"
                self._note(f"{student.id} {what}")
            case "segment" if self.about.is_sliced and student.doing not in ("finished", "stopped"):
                student.doing = "queued"
            case "finished":
                self.time_left.finished(student.id)
            case "lost":
                self.time_left.lost(student.id)
                self._note(f"{student.id} is lost: {event['reason']}")

    def _after(self, event: Mapping[str, Any]) -> Doing:
        """What a student does at an epoch's end, which no event tells."""
        about = self.about
        if event["epoch"] + 1 == about.epochs:
            return "finishing"
        if about.distils and event["phase"] == "independent" and event["r"] + 1 == about.tin:
            return "publishing"
        phase: Doing = event["phase"]
        return phase

    def _taught(self, event: Mapping[str, Any]) -> None:
        teacher = (event["cycle"], event["teacher"])
        one_for_all = event["student"] in event["weights"]
        if one_for_all and teacher not in self._teachers:
            self._teachers.add(teacher)
            by = [f"{student} {percent(a).strip()}" for student, a in event["weights"].items()]
            self._note(f"teacher of cycle {event['cycle'] + 1}: {listed(by)}")

    def _note(self, text: str) -> None:
        self.notes.append(" ".join(text.split()))
