"""Reading the teacher in the training step, against the step itself; and what it takes of memory.

    python -m tests.bench.teacher --rows 1281167 --classes 1000 --json build/teacher.json

A teacher of that size is made by raymd's exchange from one synthetic student, and read by two
processes of this node. Timed: the soft labels of a batch of random ids, against forward and
backward of a resnet18 at 224x224, of a smaller batch whose time is multiplied. Measured: what each
reader's private memory (uss) grows by once it has read every row, and what shared memory does.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from raymd.result import environment
from tests.bench.fresh import measure


def show(found: dict[str, Any], title: str) -> float:
    """Print the table; gives back rows' share of the step."""
    table = Table(title=title)
    for column in ("what", "median", "lowest", "highest"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, values in found["figures"].items():
        cells = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{1000 * value:,.2f} ms" for value in cells))
    console = Console()
    console.print(table)
    pairs = zip(found["figures"]["rows"], found["figures"]["step"], strict=True)
    share = statistics.median(rows / step for rows, step in pairs)
    console.print(f"rows / step: {share:.5f} (median of {len(found['figures']['rows'])} pairs)")
    growth = ", ".join(f"{value / 1e6:.0f}" for value in found["private_growth_bytes"])
    console.print(
        f"teacher of {found['teacher_bytes'] / 1e6:,.0f} MB in {found['blocks']} blocks: each"
        f" reader's private memory grew by {growth} MB, shared memory by"
        f" {found['shared_growth_bytes'] / 1e6:.0f} MB"
    )
    return share


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_281_167)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--step_batch", type=int, default=16, help="images that are timed")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--store_gb", type=float, default=7.0, help="Ray's object store, GiB")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = ("rows", "classes", "batch", "step_batch", "pairs", "store_gb")
    found = measure(
        "tests.bench.teacher_sides", "read", **{name: vars(args)[name] for name in names}
    )
    title = f"soft labels of {args.batch} of {args.rows:,} x {args.classes:,}, and a resnet18 step"
    share = show(found, title)
    if args.json is not None:
        document = {
            "title": title, **found, "median_ratio": share,
            "settings": {k: str(v) for k, v in vars(args).items()}, "environment": environment(),
        }  # fmt: skip
        args.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
