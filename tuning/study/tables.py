"""A study's document as text for the terminal: its tables, what they are of, and the cautions.

dict of report.py -> rich tables within 120 columns
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raymd.view.text import ABSENT, count_of

Document = Mapping[str, Any]
LEGEND = (
    "mean ± sd over seeds, test accuracy in %; last: weights after the last epoch; held-out best:"
    " weights of the epoch with the highest held-out accuracy; difference: to the same student"
    " trained alone, equal epochs, paired by seed, in points, with the mean's 95 % interval (t)."
)
COMPUTE_LEGEND = (
    "best of S: of all students trained, the one that held-out images pick (the first where none"
    " are held out); device-seconds: of training, by the clock (a busy machine blurs them),"
    " without evaluating, publishing and waiting."
)


def show(console: Console, document: Document) -> None:
    """Print a study: as much of it as is there."""
    console.print()
    console.print(f"[bold]{document['title']}[/bold]")
    console.print(f"paper: {escape(document['paper'])}", soft_wrap=True)
    for line in document["about"]:
        console.print(escape(line), soft_wrap=True)
    console.print()
    console.print(main_table(document))
    console.print(LEGEND, soft_wrap=True)
    console.print()
    console.print(compute_table(document))
    console.print(COMPUTE_LEGEND, soft_wrap=True)
    console.print()
    for text in [*document["cautions"], *_unfinished(document)]:
        console.print(f"* {escape(text)}", soft_wrap=True)


def _unfinished(document: Document) -> Iterator[str]:
    done, of = document["runs"]["done"], document["runs"]["of"]
    if done < of:
        yield f"{done} of {count_of(of, 'run')} are there; the numbers are of these."


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def titled(document: Document) -> list[tuple[Mapping[str, Any], str]]:
    """The groups with their titles; the data set is left out where all have the same."""
    groups = document["groups"]
    parts = [group["title"].partition(": ") for group in groups]
    same = len({data for data, _, _ in parts}) == 1
    return [(g, part[2] if same else "".join(part)) for g, part in zip(groups, parts, strict=True)]


def main_table(document: Document) -> Table:
    """The paper's numbers and ours, a line each, a section for each group of networks."""
    table = _table()
    table.add_column("", overflow="fold", min_width=20)
    for name in ("paper", "n", "last", "held-out best", "paper's\ndifference"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("our difference\n(95 % interval)", justify="right", no_wrap=True)
    for group, title in titled(document):
        table.add_section()
        table.add_row(f"[bold]{escape(title)}[/bold]")
        for line in group["lines"]:
            table.add_row(*_line(line))
    return table


def _line(line: Mapping[str, Any]) -> list[str]:
    note = f"\n    [red]{diverged(line)}[/red]" if line["diverged"] else ""
    return [
        f"  {escape(line['label'])}{note}",
        _number(line["paper"]),
        str(line["last"]["n"]) if line["last"] else "0",
        spread(line["last"]),
        spread(line["best"]),
        ABSENT if line["paper_difference"] is None else f"{line['paper_difference']:+.2f}",
        with_interval(line["difference"]),
    ]


def diverged(line: Mapping[str, Any]) -> str:
    """``diverged, 2 of 5``; nothing if none has."""
    return f"diverged, {line['diverged']} of {line['seeds']}" if line["diverged"] else ""


def compute_table(document: Document) -> Table:
    """What the same devices give otherwise."""
    table = _table()
    table.add_column("equal compute", overflow="fold", min_width=20)
    for name in ("best of S", "difference", "ensemble of S", "difference", "device-seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for group, title in titled(document):
        table.add_section()
        table.add_row(f"[bold]{escape(title)}[/bold], S = {len(group['students'])}")
        for row in group["equal_compute"]:
            table.add_row(*_compute_row(row))
    return table


def _compute_row(row: Mapping[str, Any]) -> list[str]:
    return [
        f"  {escape(row['variant'])}",
        spread(row["best_of_all"]),
        plain_difference(row["best_difference"]),
        spread(row["ensemble"]),
        plain_difference(row["ensemble_difference"]),
        _seconds(row),
    ]


def _seconds(row: Mapping[str, Any]) -> str:
    if row["device_seconds"] is None:
        return ABSENT
    ratio = row["device_seconds_ratio"]
    text = f"{row['device_seconds']['mean']:,.0f}"
    return text if ratio is None else f"{text} ({ratio:.2f}x)"


def _number(value: float | str | None) -> str:
    if value is None:
        return ABSENT
    return value if isinstance(value, str) else f"{value:.2f}"


def spread(numbers: Mapping[str, Any] | None) -> str:
    """``95.12 ± 0.31``; without the deviation where there is one seed."""
    if numbers is None:
        return ABSENT
    sd = numbers["sd"]
    return f"{numbers['mean']:.2f}" + ("" if sd is None else f" ± {sd:.2f}")


def plain_difference(numbers: Mapping[str, Any] | None) -> str:
    """``+0.42 ± 0.20``."""
    if numbers is None:
        return ABSENT
    sd = numbers["sd"]
    return f"{numbers['mean']:+.2f}" + ("" if sd is None else f" ± {sd:.2f}")


def with_interval(numbers: Mapping[str, Any] | None) -> str:
    """``+0.42 ± 0.20 (+0.17 to +0.67)``."""
    text = plain_difference(numbers)
    if numbers is None or numbers["interval"] is None:
        return text
    low, high = numbers["interval"]
    return f"{text} ({low:+.2f} to {high:+.2f})"
