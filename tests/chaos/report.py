"""What a chaos run shows: by kind, how many were killed, recovered, and how long it took."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from rich.table import Table

COLUMNS = ("kind", "kills", "recoveries", "ended first", "median s", "max s")


def by_kind(kills: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a kind, in alphabetical order.

    Args:
        kills: As harness.Kill has them. ``recoveries`` counts those after which the run was seen
            to go on, ``ended_first`` those that came too late for that: it reached its end.
    """
    kills = list(kills)
    rows = []
    for kind in sorted({kill["kind"] for kill in kills}):
        lost = [kill["lost_s"] for kill in kills if kill["kind"] == kind]
        seen = [seconds for seconds in lost if seconds is not None]
        rows.append(
            {
                "kind": kind,
                "kills": len(lost),
                "recoveries": len(seen),
                "ended_first": len(lost) - len(seen),
                "median_s": median(seen) if seen else None,
                "max_s": max(seen) if seen else None,
            }
        )
    return rows


def table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """The rows for a terminal."""
    drawn = Table(*COLUMNS)
    for row in rows:
        times = (f"{row[key]:.1f}" if row[key] is not None else "" for key in ("median_s", "max_s"))
        counts = (str(row[key]) for key in ("kind", "kills", "recoveries", "ended_first"))
        drawn.add_row(*counts, *times)
    return drawn
