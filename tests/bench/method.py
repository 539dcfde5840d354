"""What distilling costs: wall time of md against the same students trained independently.

    python -m tests.bench.method --students resnet8,resnet8 --epochs 40 --tin 10 --td 30

Real runs on the digits, a worker of one CPU for each student. A student's time goes from its first
step to its last files. What it waited for others is reported apart: with one core a student that is
how unequal the cores are, not what distilling costs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.pairs import report

Event = dict[str, Any]
NEEDED = "md without waits"
RIVAL = "independent"


def run(args: argparse.Namespace, method: str) -> list[Event]:
    """The events of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "raymd.fit", "--students", args.students, "--method", method,
            "--dataset", args.dataset, "--epochs", str(args.epochs), "--tin", str(args.tin),
            "--td", str(args.td), "--precision", "fp32", "--placement", "resident",
            "--cpus_per_worker", "1", "--view", "json", "--storage", folder,
        ]  # fmt: skip
        if args.subset:
            command += ["--subset", str(args.subset)]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def seconds_of(events: list[Event], student: str) -> dict[str, float]:
    """A student's seconds in all, those it waited for a teacher, and those it published in."""
    own = [event for event in events if event.get("student") == student]
    times = {e["event"]: e["time"] for e in own if e["event"] in ("started", "finished")}
    return {
        "in all": times["finished"] - times["started"],
        "waits": sum(e["waited_s"] for e in own if e["event"] == "taught"),
        "publishing": sum(e["seconds"] for e in own if e["event"] == "published"),
    }


def figures_of(events: list[Event]) -> dict[str, float]:
    """Of the student that took longest, and the sum of all students' waits."""
    students = {event["student"] for event in events if event["event"] == "started"}
    each = [seconds_of(events, student) for student in students]
    return {
        "in all": max(s["in all"] for s in each),
        "without waits": max(s["in all"] - s["waits"] for s in each),
        "waits": sum(s["waits"] for s in each),
        "publishing": max(s["publishing"] for s in each),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--students", default="resnet8,resnet8")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--subset", type=int, help="training images")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--tin", type=int, default=10)
    parser.add_argument("--td", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    md, alone = [], []
    for _ in range(args.pairs):
        md.append(figures_of(run(args, "md")))
        alone.append(figures_of(run(args, "independent")))
    report(
        f"{args.students}, {args.epochs} epochs of {args.dataset}, Tin {args.tin}, Td {args.td}",
        {
            NEEDED: [run["without waits"] for run in md],
            RIVAL: [run["in all"] for run in alone],
            "md in all": [run["in all"] for run in md],
            "all students' waits": [run["waits"] for run in md],
            "publishing": [run["publishing"] for run in md],
        },
        unit="s", ratio=(NEEDED, RIVAL),
        settings={k: str(v) for k, v in vars(args).items()}, json_file=args.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
