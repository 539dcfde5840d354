"""What a search came to: its points, best first, from what lies in its folder.

    trials/ID/point.json, ended.json -> Ranked points -> report.py

Pure but for reading. Points are chosen by held-out images alone; test images are read for the
chosen one, once it is chosen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from raymd.point import RECORD, TRIALS, PointRecord
from raymd.storage import FILES, Storage

ENDED = "ended.json"


@dataclass(frozen=True)
class Summary:
    """Some numbers.

    Attributes:
        mean: Their mean.
        sd: Their standard deviation; None of a single one.
        n: How many.
    """

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, numbers: Iterable[float]) -> "Summary | None":
        """None where there are none."""
        seen = list(numbers)
        if not seen:
            return None
        return cls(fmean(seen), stdev(seen) if len(seen) > 1 else None, len(seen))


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One point.

    Attributes:
        record: Its values and seeds.
        status: ``finished``; ``diverged``: at least one seed; ``stopped`` early; ``failed``;
            ``unfinished``.
        epochs: After which it was stopped.
        last: The objective then.
        reason: Of a failure.
        summary: Of the objective over the seeds that finished.
        against_best: Paired differences to the best point, of the seeds that both finished.
    """

    record: PointRecord
    status: str
    epochs: int | None = None
    last: float | None = None
    reason: str = ""
    summary: Summary | None = None
    against_best: Summary | None = None

    @property
    def num_diverged(self) -> int:
        """Seeds that diverged."""
        return sum(seed.status == "diverged" for seed in self.record.seeds)


def read_points(folder: Storage, *, num_seeds: int) -> list[Ranked]:
    """All points of a search that have begun, best first."""
    points = []
    for trial in folder.list(TRIALS):
        said = folder.record(f"{TRIALS}/{trial}/{RECORD}")
        ended = folder.record(f"{TRIALS}/{trial}/{ENDED}")
        if said is not None:
            record = PointRecord.from_dict({k: v for k, v in said.items() if k != FILES})
        elif ended is not None:  # it never came to its first line
            record = PointRecord(trial=trial, values=ended["values"])
        else:
            continue
        points.append(judge(record, ended, num_seeds=num_seeds))
    return ranked(points)


def judge(record: PointRecord, ended: Mapping[str, Any] | None, *, num_seeds: int) -> Ranked:
    """One point by what is known of it.

    Args:
        record: The trial's own.
        ended: What the driver kept of its end; None if it saw none.
        num_seeds: Seeds of every point.
    """
    summary = Summary.of(record.objectives().values())
    failed = [seed.reason for seed in record.seeds if seed.status == "failed"]
    if len(record.seeds) == num_seeds and not failed:
        diverged = any(seed.status == "diverged" for seed in record.seeds)
        return Ranked(record=record, status="diverged" if diverged else "finished", summary=summary)
    if failed or (ended is not None and ended["how"] == "failed"):
        reason = failed[0] if failed else str((ended or {})["reason"])
        return Ranked(record=record, status="failed", reason=reason, summary=summary)
    if ended is not None and ended["how"] == "stopped":
        return Ranked(
            record=record, status="stopped", epochs=ended["epochs"], last=ended["objective"]
        )
    return Ranked(record=record, status="unfinished", summary=summary)


ORDER = ("finished", "diverged", "stopped", "unfinished", "failed")


def ranked(points: Iterable[Ranked]) -> list[Ranked]:
    """Best first: finished ones by their mean, then those that cannot be compared with them."""

    def place(point: Ranked) -> tuple[int, float, float]:
        value = point.record.score() if point.summary else point.last or 0.0
        return ORDER.index(point.status), -float(point.epochs or 0), -value

    ordered = sorted(points, key=place)
    best = chosen(ordered)
    if best is None:
        return ordered
    return [replace(point, against_best=_difference(point, best)) for point in ordered]


def chosen(points: Iterable[Ranked]) -> Ranked | None:
    """The best of the finished points, of a ranked list; None if none finished all its seeds."""
    return next((point for point in points if point.status == "finished"), None)


def _difference(point: Ranked, best: Ranked) -> Summary | None:
    if point.record.trial == best.record.trial:
        return None
    own, others = point.record.objectives(), best.record.objectives()
    return Summary.of(own[seed] - others[seed] for seed in own.keys() & others.keys())


def told_values(values: Mapping[str, Any]) -> str:
    """``t 3, lr 0.0512, students resnet8,resnet14``."""
    return ", ".join(f"{name} {told(value)}" for name, value in values.items())


def told(value: object) -> str:
    """A value as people read it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
