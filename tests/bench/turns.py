"""Wall time of students that take turns, against the list schedule of their measured segments.

    python -m tests.bench.turns --slots 2 --epochs 12

Six students of different sizes train on the digits in fewer slots than students. In each round,
from barrier to barrier, the list schedule gives the longest segment left to the slot that is free
first; the rounds' lengths and the start of the first slot make what the run is held against.
"""

import argparse
import heapq
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.bench.pairs import report

STUDENTS = "resnet8,resnet14,resnet20,resnet32,resnet44,resnet56"


def list_schedule(seconds: Iterable[float], *, slots: int) -> float:
    """Length of a list schedule, longest first."""
    free = [0.0] * slots
    for segment in sorted(seconds, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + segment)
    return max(free)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The events of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "raymd.fit", "--students", args.students, "--dataset", "digits",
            "--epochs", str(args.epochs), "--tin", str(args.tin), "--td", str(args.td),
            "--precision", "fp32", "--slots", str(args.slots), "--placement", "sliced",
            "--cpus_per_worker", str(args.cpus_per_worker), "--view", "json", "--storage", folder,
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        out = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        ).stdout
    return [json.loads(line) for line in out.splitlines()]


def figures(events: list[dict[str, Any]], *, slots: int) -> tuple[float, float]:
    """Wall seconds of a run's training, and of the list schedule with the start."""
    begun = next(e["time"] for e in events if e["event"] == "run_started")
    first = next(e["time"] for e in events if e["event"] == "started")
    segments = [e for e in events if e["event"] == "segment"]
    rounds = defaultdict(list)
    for segment in segments:
        rounds[segment["stop_epoch"]].append(segment["seconds"])
    schedule = sum(list_schedule(seconds, slots=slots) for seconds in rounds.values())
    return max(e["time"] for e in segments) - begun, schedule + first - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--students", default=STUDENTS)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--cpus_per_worker", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--tin", type=int, default=2)
    parser.add_argument("--td", type=int, default=4)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    measured = [figures(run(args), slots=args.slots) for _ in range(args.runs)]
    walls, schedules = (list(values) for values in zip(*measured, strict=True))
    report(
        f"{len(args.students.split(','))} students in {args.slots} slots",
        {"wall time": walls, "list schedule + start": schedules},
        unit="s",
        ratio=("wall time", "list schedule + start"),
        settings={key: value for key, value in vars(args).items() if key != "json"},
        json_file=args.json,
    )


if __name__ == "__main__":
    main()
