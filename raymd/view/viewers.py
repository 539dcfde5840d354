"""Several viewers of one run: each gets every event, and none can harm the run.

Enters: events, as they come to the driver. Leaves: the same with their time, to a terminal
(lines.py, live.py), a program (json_lines.py), TensorBoard (board.py), W&B (wandb_log.py) or Ray's
metrics (gauges.py).
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from raymd.view import events
from raymd.view.events import stamped


class Viewer(Protocol):
    """Whoever looks at a run.

    Attributes:
        name: What people know it as.
    """

    name: str

    def show(self, event: Mapping[str, Any]) -> None:
        """Take an event of events.py; one that means nothing to the viewer is passed over."""

    def close(self) -> None:
        """The run has ended, well or not; nothing comes after."""


class Viewers:
    """Hands every event to every viewer, with ``time``.

    A viewer that raises, on a full disk or a lost network, is closed and dropped, which the others
    are told of once, as a ``note``: a run does not end because nobody can look at it.

    Args:
        viewers: Those who tell people first: they are closed last, and hear of the others' ends.
        clock: Seconds since 1970.
        last_resort: Takes what has to be told of a viewer where no viewer is for people.
    """

    name = "viewers"

    def __init__(
        self,
        viewers: Sequence[Viewer],
        *,
        clock: Callable[[], float] = time.time,
        last_resort: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._viewers = list(viewers)
        self._clock = clock
        self._last_resort = last_resort

    def show(self, event: Mapping[str, Any]) -> None:
        """Hand an event on, stamped with the time unless it is already."""
        event = stamped(event, now=self._clock())
        for viewer in tuple(self._viewers):
            if viewer not in self._viewers:
                continue  # dropped meanwhile, as it failed at a note about another
            try:
                viewer.show(event)
            except Exception as error:
                self._viewers.remove(viewer)
                with contextlib.suppress(Exception):
                    viewer.close()
                self._tell(viewer, error)

    def note(self, text: str) -> None:
        """Tell people something."""
        self.show(events.note(text=text))

    def close(self) -> None:
        """Close all viewers, even if one cannot be."""
        while self._viewers:
            viewer = self._viewers.pop()
            try:
                viewer.close()
            except Exception as error:
                self._tell(viewer, error)

    def _tell(self, viewer: Viewer, error: Exception) -> None:
        what = f"{type(error).__name__}: {error}"
        text = f"{viewer.name} failed and gets no more of this run, which goes on ({what})"
        self.note(text)
        self._last_resort(text)
