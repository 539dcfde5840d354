"""publish → merge → teacher readable → first batch gathered, beside a limit and two rivals.

    python -m tests.bench.exchange --rows 1281167 --pairs 5 --json build/exchange.json
    python -m tests.bench.exchange --overlap --rows 1281167 --pace_s 0.5 --pairs 1

Synthetic students publish made-up float16 rows by raymd's own code. In each pair, one after the
other and each in fresh processes: raymd, raymd with no block's bytes written to storage, the limit
(the students' bytes copied into fresh shared memory and read once on all processors), a gRPC server
that averages with numpy and an actor that does np.mean(ray.get(refs)). The rivals may run at a
fraction of the size; ratios are of seconds per byte. --touch has the object store's pages mapped
before, as they are from the second cycle on; --no-touch is the first. With --overlap students take
--pace_s to compute each block, and what counts is how long after the last one the teacher is there.
"""

import argparse
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from raymd.result import environment
from tests.bench.fresh import measure

SIDES = "tests.bench.exchange_sides"
RAYMD, UNWRITTEN, LIMIT = "raymd", "raymd without writing", "limit"
GRPC, ACTOR = "gRPC server", "naive actor"

Figures = dict[str, list[dict[str, Any]]]


def run_pairs(args: argparse.Namespace) -> Figures:
    """Every side once a pair, in turn."""
    figures: Figures = {}
    size = {"rows": args.rows, "classes": args.classes, "students": args.students}
    part = {**size, "rows": max(1, int(args.rows * args.rivals_fraction))}
    store = {"store_gb": args.store_gb, "touch": args.touch}
    own = {**size, **store, "folder": args.storage, "held_blocks": args.held_blocks}
    for pair in range(args.pairs):
        sides = [
            (RAYMD, "raymd", {**own, "written": True}),
            (LIMIT, "limit", {**size, "processes": os.cpu_count() or 1}),
            (UNWRITTEN, "raymd", {**own, "written": False}),
        ]
        if pair < args.rival_pairs:
            sides += [(GRPC, "grpc_server", part), (ACTOR, "naive_actor", {**part, **store})]
        for name, function, arguments in sides:
            figures.setdefault(name, []).append(measure(SIDES, function, **arguments))
    return figures


def run_overlap(args: argparse.Namespace) -> Figures:
    """Passes of a given pace."""
    arguments = {
        "rows": args.rows, "classes": args.classes, "students": args.students,
        "store_gb": args.store_gb, "touch": args.touch, "folder": args.storage,
        "held_blocks": args.held_blocks, "written": True, "pace_s": args.pace_s, "busy": args.busy,
    }  # fmt: skip
    return {RAYMD: [measure(SIDES, "raymd", **arguments) for _ in range(args.pairs)]}


def ratios(figures: Figures) -> dict[str, float]:
    """Medians over pairs of what is aimed at, per byte of what students publish."""

    def pace(side: str) -> list[float]:
        return [one["seconds"] / one["bytes"] for one in figures[side]]

    def times(above: str, below: str) -> float:
        return statistics.median(a / b for a, b in zip(pace(above), pace(below), strict=False))

    found = {}
    for own in (RAYMD, UNWRITTEN):
        found[f"{LIMIT}'s seconds / {own}'s"] = times(LIMIT, own)
        for rival in (GRPC, ACTOR):
            if rival in figures:
                found[f"{rival}'s seconds / {own}'s"] = times(rival, own)
    return found


def overlap_ratios(figures: Figures) -> dict[str, float]:
    """How much of the pass it takes from its end to the teacher."""
    tails = [one["tail_s"] / one["pass_s"] for one in figures[RAYMD]]
    return {"from the end of the pass to the teacher / the pass": statistics.median(tails)}


def cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A side's row: medians."""

    def median(name: str, scale: float, form: str) -> str:
        values = [one[name] * scale for one in runs if name in one]
        return format(statistics.median(values), form) if values else ""

    seconds = [one["seconds"] for one in runs]
    rate = statistics.median(one["bytes"] / one["seconds"] / 1e9 for one in runs)
    return [
        median("bytes", 1e-9, ".2f"), median("seconds", 1, ".2f"),
        f"{min(seconds):.2f} to {max(seconds):.2f}", f"{rate:.2f}", median("publish_s", 1, ".2f"),
        median("tail_s", 1, ".2f"), median("storage_s", 1, ".2f"),
        median("aggregator_bytes", 1e-6, ".0f"),
    ]  # fmt: skip


def show(title: str, figures: Figures, found: Mapping[str, float]) -> None:
    """The table and the ratios under it."""
    table = Table(title=title)
    table.add_column("side")
    for column in (
        "GB", "s, median", "s", "GB/s", "published s", "s after the pass",
        "s of writing, all processes", "aggregator's private MB",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for name, runs in figures.items():
        table.add_row(name, *cells(runs))
    console = Console(width=140)
    console.print(table)
    for name, figure in found.items():
        console.print(f"{name}: {figure:.3f}")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_281_167)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--store_gb", type=float, default=12.0, help="Ray's object store, GiB")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rival_pairs", type=int, default=5, help="of them with the rivals too")
    parser.add_argument("--rivals_fraction", type=float, default=0.25)
    parser.add_argument("--touch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--storage", default="/dev/shm", help="where the run's folder is made")
    parser.add_argument("--held_blocks", type=int, default=8, help="different blocks a student has")
    parser.add_argument("--overlap", action="store_true")
    parser.add_argument("--pace_s", type=float, default=0.5, help="to compute a block (--overlap)")
    parser.add_argument("--busy", action="store_true", help="computing keeps a processor busy")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures = run_overlap(args) if args.overlap else run_pairs(args)
    found = overlap_ratios(figures) if args.overlap else ratios(figures)
    memory = "touched" if args.touch else "untouched"
    title = f"{args.students} students, {args.rows:,} x {args.classes:,} float16, {memory} memory"
    show(title, figures, found)
    if args.json is not None:
        document = {
            "title": title, "figures": figures, "ratios": found,
            "settings": {k: str(v) for k, v in vars(args).items()}, "environment": environment(),
        }  # fmt: skip
        args.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
