"""A line of columns that fits its width: columns move together, then the least important go.

Enters: a line's cells. Leaves: those that fit, as one rich Text that never wraps.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

GAP = "  "
NUMBERS = 6  # cells of a higher rank hold words that a reader can do without
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


class Cell(NamedTuple):
    """A column's text, padded, and the space after it.

    Of columns that do not fit the one with the highest rank is left out; ``short`` is what it says
    in a narrow console.
    """

    text: str
    rank: int
    gap: str = GAP
    style: str = ""
    short: str | None = None

    def narrow(self) -> "Cell":
        """The cell with no more space than it needs."""
        return self._replace(text=self.short or self.text, gap=" ")

    @property
    def width(self) -> int:
        """Of the terminal's columns: some characters take two."""
        return cell_len(self.text) + len(self.gap)


def fitting(cells: Sequence[Cell], *, width: int) -> list[Cell]:
    """The cells that fit: without words, then narrow, then without those of the highest rank.

    Those of rank 0 always stay.
    """
    cells = list(cells)
    room = width + 1  # the last cell's gap is not printed

    def too_wide() -> bool:
        return sum(cell.width for cell in cells) > room

    words = [cell for cell in cells if cell.rank > NUMBERS]
    while too_wide() and words:
        cells.remove(words.pop(0))
    if too_wide():
        cells = [cell.narrow() for cell in cells]
    while too_wide() and any(cell.rank for cell in cells):
        cells.remove(max(cells, key=lambda cell: cell.rank))
    return cells


def line_of(cells: Sequence[Cell], *, width: int) -> Text:
    """The cells that fit, as one line; cut with an ellipsis where even those are too wide."""
    line = Text(no_wrap=True, overflow="ellipsis")
    for cell in fitting(cells, width=width):
        line.append(cell.text, style=cell.style).append(cell.gap)
    line.rstrip()
    line.truncate(width, overflow="ellipsis")
    return line


def colours_of(students: Sequence[str]) -> dict[str, str]:
    """Each student's colour, the same in every view."""
    return {student: COLOURS[place % len(COLOURS)] for place, student in enumerate(students)}


def cut(text: str, *, width: int, tail: int = 0) -> str:
    """The text in at most so many columns of a terminal, with an ellipsis for what is left out.

    Args:
        text: One line.
        width: In columns.
        tail: Characters of the end to keep, so that the middle is left out.
    """
    if cell_len(text) <= width:
        return text
    end = text[len(text) - tail :]
    room = width - 1 - cell_len(end)
    if room < 0:
        return set_cell_size(text, max(width, 0))
    return set_cell_size(text, room).rstrip() + "…" + end
