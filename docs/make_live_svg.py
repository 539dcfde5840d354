"""Draw a recorded run as the live view shows it, for docs/live.svg.

Enters: a recording, the events of a run as JSON lines with their times (docs/events.md). Leaves:
a picture of 80 x 24 characters, at the moment when that part of the events had come.

    python docs/make_live_svg.py EVENTS.jsonl docs/live.svg
    python docs/make_live_svg.py EVENTS.jsonl docs/live.svg --at 0.4
"""

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from raymd.errors import UserError
from raymd.view.about import About
from raymd.view.dashboard import render
from raymd.view.events import TIME, decode_history
from raymd.view.state import RunState

WIDTH, HEIGHT = 80, 24


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, draw, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("events", type=Path, help="the recording, JSON lines")
    parser.add_argument("out", type=Path, help="the SVG to write")
    parser.add_argument("--at", type=float, default=0.6, help="part of the events, of 1 (0.6)")
    given = parser.parse_args(arguments)
    recording = decode_history(given.events.read_bytes(), name=str(given.events))
    given.out.write_text(live_svg(recording, at=given.at), encoding="utf-8")


def live_svg(recording: Sequence[Mapping[str, Any]], *, at: float) -> str:
    """The picture's SVG.

    Args:
        recording: Events with ``time``; the first is ``run_started``.
        at: How many of them had come, as a part of 1.

    Raises:
        UserError: There is no ``run_started`` to say who the students are, or an ``at`` that is
            no part.
    """
    if not recording or recording[0]["event"] != "run_started":
        raise UserError("the recording does not begin with the event run_started")
    if not 0 < at <= 1:
        raise UserError(f"--at {at}: expected a part of the events, above 0 and up to 1")
    state = replayed(recording[: max(round(at * len(recording)), 1)])
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    now = recording[max(round(at * len(recording)), 1) - 1][TIME]
    console.print(render(state, width=WIDTH, height=HEIGHT, now=now))
    return console.export_svg(title="raymd", unique_id="raymd-live")


def replayed(recording: Sequence[Mapping[str, Any]]) -> RunState:
    """The state that the events lead to, each at its own time."""
    first = recording[0]
    about = About(
        students=tuple(student["id"] for student in first["students"]),
        epochs=first["epochs"],
        tin=first["tin"],
        td=first["td"],
        distils=first["method"] != "independent",
    )
    state = RunState.of(about, began=first[TIME])
    for event in recording:
        state.add(event, now=event[TIME])
    return state


if __name__ == "__main__":
    main()
