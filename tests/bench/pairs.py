"""Alternating pairs and their medians: what every benchmark here does with its two sides."""

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from raymd.result import environment

Measure = Callable[[], float]


def alternate(sides: Mapping[str, Measure], *, pairs: int) -> dict[str, list[float]]:
    """Run each side in turn, ``pairs`` times; what they measured, by name."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(pairs):
        for name, measure in sides.items():
            figures[name].append(measure())
    return figures


def report(
    title: str,
    figures: Mapping[str, list[float]],
    *,
    unit: str,
    ratio: tuple[str, str],
    settings: Mapping[str, Any],
    json_file: Path | None,
) -> float:
    """Print a table and write JSON.

    Args:
        ratio: (A, B): the median of A/B, pair by pair, is the benchmark's figure.

    Returns:
        That figure.
    """
    table = Table(title=title)
    for column in ("side", "median", "lowest", "highest"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for name, values in figures.items():
        cells = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{value:,.1f} {unit}" for value in cells))
    above, below = (figures[name] for name in ratio)
    figure = statistics.median(a / b for a, b in zip(above, below, strict=True))
    console = Console()
    console.print(table)
    console.print(f"{ratio[0]} / {ratio[1]}: {figure:.3f} (median of {len(above)} pairs)")
    if json_file is not None:
        document = {
            "title": title, "unit": unit, "figures": dict(figures), "ratio": list(ratio),
            "median_ratio": figure, "settings": dict(settings), "environment": environment(),
        }  # fmt: skip
        json_file.write_text(json.dumps(document, indent=1))
    return figure
