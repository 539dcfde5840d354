"""The live view: a run on one screen that is drawn again while it goes on.

Enters: events. Leaves: the dashboard (dashboard.py) at the terminal's bottom, twice a second; what
others print meanwhile appears above it. Its last picture stays on the screen, and the terminal is
as it was before, however the run ends.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live

from raymd.view import events
from raymd.view.about import About
from raymd.view.dashboard import render
from raymd.view.state import RunState

PICTURES_PER_S = 2


def can_show(console: Console) -> bool:
    """Whether a console can have the live view: a terminal that moves its cursor, in UTF-8."""
    return console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only


class LiveView:
    """Shows a run's state, from ``start`` or the beginning of a ``with`` block to ``close``.

    Args:
        console: A terminal; on anything else only the last picture is printed.
        about: The run.
        history: Epochs of earlier attempts, for the accuracies so far.
        clock: Seconds of any clock that does not go back.
    """

    name = "live view"

    def __init__(
        self,
        console: Console,
        *,
        about: About,
        history: Iterable[Mapping[str, Any]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console
        self.clock = clock
        self.state = RunState.of(about, began=clock())
        self.state.recall(history)
        self._hint = True
        self._lock = threading.Lock()  # events come from the driver, pictures from rich's thread
        self._live = Live(
            console=console,
            get_renderable=self._picture,
            refresh_per_second=PICTURES_PER_S,
            vertical_overflow="crop",
        )

    def show(self, event: Mapping[str, Any]) -> None:
        """Take in an event; the next picture has it."""
        with self._lock:
            self.state.add(event, now=self.clock())

    def note(self, text: str) -> None:
        """Show a line of text among the notes."""
        self.show(events.note(text=text))

    def start(self) -> None:
        """Take the terminal's bottom."""
        self._live.start(refresh=True)

    def close(self) -> None:
        """Leave the last picture, without the hint, and give the terminal back; once or often."""
        self._hint = False
        try:
            self._live.stop()
        finally:
            self.console.show_cursor(True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _picture(self) -> RenderableType:
        with self._lock:
            return render(
                self.state,
                width=self.console.width,
                # a picture as high as the terminal would scroll it with its last line's end
                height=max(self.console.height - 1, 1),
                now=self.clock(),
                hint=self._hint,
            )
