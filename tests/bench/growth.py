"""What the exchange costs as it grows, one axis at a time, on several raylets of this machine.

    python -m tests.bench.growth --axis students --json build/growth-students.json
    python -m tests.bench.growth --axis rows --json build/growth-rows.json

Synthetic students publish rows of 10 classes in small blocks by raymd's own code; merging is held
back until all are delivered, and timed from then on. Beside it, in turns, the same number of empty
tasks goes the same way; what is left when their time is taken off is the bytes'. Aimed at: time
per byte and the aggregator's CPU time per delivered block that grow by no more than 1.3 from any
size to any larger one (they may fall, for more blocks share what a cycle costs once), and no more
tasks in flight than allowed. With --json the figures are kept after each size, and the same command
goes on where one was ended.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from raymd.result import environment
from tests.bench.fresh import measure

SIDES = "tests.bench.growth_sides"


def sizes(args: argparse.Namespace) -> list[tuple[int, int]]:
    """(students, rows) of each point."""
    if args.axis == "students":
        return [(students, args.fixed_rows) for students in args.students]
    return [(args.fixed_students, rows) for rows in args.rows]


def point(found: Mapping[str, Any]) -> dict[str, Any]:
    """A size's figures: medians over its cycles."""
    merging = [full - empty for full, empty in zip(found["merge_s"], found["empty_s"], strict=True)]
    delivered = found["blocks"] * found["students"]
    return {
        **found,
        "ns_per_byte": statistics.median(merging) / found["bytes"] * 1e9,
        "cpu_ms_per_block": statistics.median(found["cpu_s"]) / delivered * 1e3,
    }


def growth(points: Sequence[Mapping[str, Any]], name: str) -> float:
    """The most that a figure grows by from a size to a larger one."""
    values = [each[name] for each in points]
    pairs = [(values[i], values[j]) for j in range(len(values)) for i in range(j)]
    return max((after / before for before, after in pairs if before > 0), default=float("nan"))


def growths(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What grows, by how much."""
    return {name: growth(points, name) for name in ("ns_per_byte", "cpu_ms_per_block")}


def show(points: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print the table."""
    table = Table(title=title)
    for column in (
        "students", "blocks each", "MB published", "merging s", "empty tasks s", "ns per byte",
        "aggregator's CPU ms per delivered block", "most in flight",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for each in points:
        table.add_row(
            str(each["students"]), str(each["blocks"]), f"{each['bytes'] / 1e6:,.0f}",
            f"{statistics.median(each['merge_s']):.3f}",
            f"{statistics.median(each['empty_s']):.3f}", f"{each['ns_per_byte']:.2f}",
            f"{each['cpu_ms_per_block']:.2f}", str(each["most_in_flight"]),
        )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    for name, figure in growths(points).items():
        console.print(f"{name} grows by {figure:.2f} at most")


def known_points(file: Path | None, settings: Mapping[str, str]) -> list[dict[str, Any]]:
    """What an earlier call with the same settings measured before it was ended."""
    if file is None or not file.exists():
        return []
    document = json.loads(file.read_text())
    return list(document["points"]) if document["settings"] == settings else []


def keep(
    file: Path | None, *, title: str, points: Sequence[Mapping[str, Any]],
    settings: Mapping[str, str],
) -> None:  # fmt: skip
    """Write the figures so far."""
    if file is not None:
        document = {
            "title": title, "points": points, "growth": growths(points),
            "settings": settings, "environment": environment(),
        }  # fmt: skip
        file.write_text(json.dumps(document, indent=1))


def numbers(text: str) -> list[int]:
    """Of a list with commas."""
    return [int(float(number)) for number in text.split(",")]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--axis", choices=["students", "rows"], required=True)
    parser.add_argument("--students", type=numbers, default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--rows", type=numbers, default=[10**5, 10**6, 10**7])
    parser.add_argument("--fixed_students", type=int, default=2, help="with --axis rows")
    parser.add_argument("--fixed_rows", type=int, default=200_000, help="with --axis students")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--block_mb", type=float, default=1.0, help="MiB of rows in a block")
    parser.add_argument("--repeats", type=int, default=7, help="cycles of each kind at each size")
    parser.add_argument("--store_gb", type=float, default=3.0, help="of all nodes together")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    settings = {k: str(v) for k, v in vars(args).items() if k != "json"}
    points = known_points(args.json, settings)
    title = f"the exchange as its {args.axis} grow, {args.classes} classes, {args.nodes} raylets"
    for students, rows in sizes(args)[len(points) :]:
        found = measure(
            SIDES, "grow", students=students, rows=rows, classes=args.classes, nodes=args.nodes,
            repeats=args.repeats, store_gb=args.store_gb, block_mb=args.block_mb,
        )  # fmt: skip
        points.append(point(found))
        keep(args.json, title=title, points=points, settings=settings)
    show(points, title)


if __name__ == "__main__":
    main()
