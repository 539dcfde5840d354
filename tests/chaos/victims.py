"""Who can be killed, how to find them, and when they may be killed.

A process is known by the title that Ray gives it. Kinds whose processes a run does not have (an
admission actor, say) are found to have no victims.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import ray  # psutil is ray's

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from tests.execution.conftest import title

WORKER = "ray::RayTrainWorker"
MERGE = "ray::merge"
RESTING = "ray::IDLE"

Recovery = Literal["started", "process", "taught"]

_ = ray


@dataclass(frozen=True)
class Kind:
    """Processes of one sort.

    Attributes:
        title: What their titles begin with.
        recovery: What shows that the run goes on: a student ``started``, the ``process`` is there
            again, or students were ``taught``.
        all_at_once: Kill every one of them rather than one.
    """

    title: str
    recovery: Recovery
    all_at_once: bool = False


PROCESSES = {
    "worker": Kind(WORKER, "started"),
    "group": Kind(WORKER, "started", all_at_once=True),
    "controller": Kind("ray::TrainController", "started"),
    "aggregator": Kind("ray::Aggregator", "process"),
    "merge": Kind(MERGE, "taught"),
    "monitor": Kind("ray::Monitor", "process"),
    "admission": Kind("ray::Admission", "process"),
}
DRIVER, RAYLET, PAUSE = "driver", "raylet", "pause"
TRAINING = ("worker", "group", "controller", RAYLET)  # whose students begin again


def processes(roots: Sequence[int]) -> list[psutil.Process]:
    """All processes below some."""
    found = []
    for root in roots:
        try:
            found += psutil.Process(root).children(recursive=True)
        except psutil.NoSuchProcess:
            continue
    return found


def titled(word: str, roots: Sequence[int]) -> list[psutil.Process]:
    """Processes below some whose title begins with a word."""
    return [process for process in processes(roots) if title(process).startswith(word)]


def choose(kind: Kind, roots: Sequence[int], draw: random.Random) -> list[psutil.Process]:
    """The victims of a kind that there are now."""
    there = sorted(titled(kind.title, roots), key=lambda process: process.pid)
    return there if kind.all_at_once or not there else [draw.choice(there)]


def catch_merge(
    roots: Sequence[int], go_on: Callable[[], bool], *, look_s: float = 0.3
) -> list[psutil.Process]:
    """Wait for a merge, which takes milliseconds, and give its process back while it merges.

    Args:
        roots: The merging process is below one of them.
        go_on: Asked now and then whether to wait on.
    """
    while go_on():
        # merging is the work of a process that rests between merges, or of a new one
        candidates = [p for p in processes(roots) if title(p).startswith(("ray::", "raylet"))]
        until = time.monotonic() + look_s
        resting = [p for p in candidates if title(p).startswith((RESTING, MERGE))]
        while time.monotonic() < until:
            for process in resting:
                if title(process).startswith(MERGE):
                    return [process]
            time.sleep(0.001)
    return []
