"""Numbers as people read them in a terminal; every text here is a pure function of its numbers."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean as mean

ABSENT = "-"


def points(part: float) -> str:
    """``95.1`` for 0.951: percent to one decimal, at least four places; ``100`` only for all."""
    return " 100" if part >= 1 else f"{min(100 * part, 99.9):4.1f}"


def percent(part: float) -> str:
    """``95.1 %`` of a part of 1."""
    return f"{points(part)} %"


def loss(value: float) -> str:
    """Five places, as many of them decimals as fit: ``0.412``, ``12.35``, ``1.2e+05``."""
    for decimals in (3, 2, 1):
        text = f"{value:.{decimals}f}"
        if len(text) <= 5:
            return text
    return f"{value:.0f}" if value < 1e5 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """``12 s``, ``1:12`` (minutes), ``2:03 h``, ``3 d 4 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}:{minutes % 60:02d} h"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def count_of(number: int, noun: str) -> str:
    """``1 thread``, ``2 threads``, ``1,234 images``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(items: Sequence[str], *, most: int = 3) -> str:
    """``a``, ``a and b``, ``a, b, c and 4 more``."""
    if len(items) > most:
        items = [*items[:most], f"{len(items) - most} more"]
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def num_bytes(number: int) -> str:
    """``512 B``, ``25.9 kB``, ``1.2 MB``: in powers of 1000."""
    if number < 1000:
        return f"{number} B"
    value = float(number)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:,.1f} TB"


BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, width: int) -> str:
    """The values' course in at most ``width`` characters, from their lowest to their highest.

    More values than characters are averaged, neighbours together; of one value there is no course.
    """
    if len(values) < 2 or width < 1:
        return ""
    if len(values) > width:
        edges = [place * len(values) // width for place in range(width + 1)]
        values = [mean(values[a:b]) for a, b in pairwise(edges)]
    low, span = min(values), max(values) - min(values)
    places = [(value - low) / span if span else 0.5 for value in values]
    return "".join(BARS[min(int(place * len(BARS)), len(BARS) - 1)] for place in places)
