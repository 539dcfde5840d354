"""All points of a study one after the other, a line told of each; what is there is not run again.

    Study, seeds -> run_point (points.py) for each -> outcomes by point and seed

Seeds are the outer loop, so that a study stopped half-way has whole tables of fewer seeds. One Ray
serves all points: beginning one anew takes longer than a small point does.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from raymd.cli import INTERRUPTED
from raymd.errors import RaymdError, UserError
from raymd.storage import Storage
from raymd.view.text import count_of, duration
from tuning.study.costs import describe, point_cost
from tuning.study.groups import Study
from tuning.study.measures import last_accuracy
from tuning.study.points import Fit, Outcome, Point, read_outcome, run_point, was_begun
from tuning.study.report import StudyOutcomes

MOST_FAILURES = 3  # one after the other: then it is not the point
HEARTBEAT_S = 60.0

Announce = Callable[[str], None]


class StudyError(RaymdError):
    """Points failed, for another reason than a loss that is no number; calling again goes on."""


def read_all(study: Study, seeds: tuple[int, ...], base: Storage) -> StudyOutcomes:
    """What is there of a study; runs nothing."""
    found: dict[str, dict[int, Outcome]] = {}
    for point in study.points():
        outcomes = {seed: read_outcome(base, point, seed) for seed in seeds}
        found[point.slug] = {seed: o for seed, o in outcomes.items() if o is not None}
    return StudyOutcomes(found, seeds)


@dataclass
class Runner:
    """Runs what is missing of a study.

    Attributes:
        study, seeds, base: Which points, and the storage that holds them.
        extra: Settings of where and how runs run (points.NO_SCIENCE).
        announce: Takes a line for people.
        fit: Trains; raymd's own by default, under one Ray for all.
        clock: Seconds.
    """

    study: Study
    seeds: tuple[int, ...]
    base: Storage
    extra: Mapping[str, Any] = field(default_factory=dict)
    announce: Announce = print
    fit: Fit | None = None
    clock: Callable[[], float] = time.monotonic

    def run(self) -> None:
        """Run all that is missing.

        Raises:
            UserError: a point cannot be; nothing else was tried.
            StudyError: some failed, and all others are there.
            RaymdError: it was interrupted.
        """
        missing = self.missing()
        if not missing:
            return
        failed: list[str] = []
        in_a_row = 0
        with ExitStack() as ray:
            self._connect(ray)
            for place, (point, seed) in enumerate(missing):
                self.announce(self._beginning(point, seed, place, len(missing)))
                problem = self._one(point, seed, missing[place + 1 :])
                in_a_row = in_a_row + 1 if problem else 0
                failed += [problem] if problem else []
                if in_a_row == MOST_FAILURES:
                    break
        if failed:
            raise StudyError(
                f"{count_of(len(failed), 'run')} failed, the last with: {failed[-1]} (the same"
                " command again goes on)"
            )

    def missing(self) -> list[tuple[Point, int]]:
        """Points and seeds that have come to nothing yet, in the order in which they run."""
        return [
            (point, seed)
            for seed in self.seeds
            for point in self.study.points()
            if read_outcome(self.base, point, seed) is None
        ]

    def _connect(self, ray: ExitStack) -> None:
        if self.fit is None:
            from raymd.execution.ray_setup import connected

            where = ray.enter_context(connected(address=self.extra.get("address"), verbose=False))
            self.announce(f"cluster: {where}")

    def _beginning(self, point: Point, seed: int, place: int, of: int) -> str:
        begun = " (goes on)" if was_begun(self.base, point, seed) else ""
        return f"[{place + 1}/{of}] {describe(point)}, seed {seed}{begun}"

    def _one(self, point: Point, seed: int, rest: list[tuple[Point, int]]) -> str | None:
        """Run one; what went wrong, if the study can go on all the same."""
        started = self.clock()
        try:
            outcome = run_point(
                point, seed, base=self.base, extra=self.extra, fit=self.fit,
                on_event=Heartbeat(self.announce, self.clock),
            )  # fmt: skip
        except UserError:
            raise
        except RaymdError as error:
            if error.exit_code == INTERRUPTED:
                raise KeyboardInterrupt from error
            self.announce(f"  failed: {error}")
            return str(error)
        seconds = self.clock() - started
        came_to = f"  {_came_to(point, outcome)}, {duration(seconds)}"
        self.announce(came_to + self._left(point, seconds, rest))
        return None

    def _left(self, point: Point, seconds: float, rest: list[tuple[Point, int]]) -> str:
        """The time left, if all else takes as much longer than reckoned as this point did."""
        if not rest:
            return ""
        pace = seconds / point_cost(point, self.study).device_s
        left_s = pace * sum(point_cost(other, self.study).device_s for other, _ in rest)
        return f"; {count_of(len(rest), 'run')} left, about {duration(left_s)}"


def _came_to(point: Point, outcome: Outcome) -> str:
    if outcome.result is None:
        return "diverged"
    places = range(len(point.students))
    numbers = [last_accuracy(point, (place,))(outcome.result) for place in places]
    return " ".join("lost" if n is None else f"{n:.1f}" for n in numbers) + " %"


class Heartbeat:
    """Tells once a minute how far a run is; takes its events (docs/events.md)."""

    def __init__(self, announce: Announce, clock: Callable[[], float]) -> None:
        self._announce = announce
        self._clock = clock
        self._told = clock()

    def __call__(self, event: Mapping[str, Any]) -> None:
        now = self._clock()
        if event["event"] == "epoch" and now - self._told >= HEARTBEAT_S:
            self._told = now
            self._announce(f"  epoch {event['epoch'] + 1}/{event['epochs']} ({event['student']})")
