"""Following a run: events to the screen until all students have ended, and stopping it.

Ctrl-C or SIGTERM once raises the run's stop flag: every student commits after the step under
way and returns. A second one ends the driver at once; what is committed by then is kept.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from raymd.execution.students import StudentThread
from raymd.view import events

POLL_S = 0.5
STOP_GRACE_S = 120.0  # a student commits after its step; one that does not is left behind
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Show = Callable[[Mapping[str, Any]], None]


class Interruption:
    """Whether the run was asked to stop, by a signal.

    Attributes:
        name: Of the first signal that came, such as ``SIGTERM``; None before one.
    """

    def __init__(self) -> None:
        self.name: str | None = None

    def __call__(self, number: int, _frame: object) -> None:
        """The handler. The second signal ends what is under way, wherever it is."""
        if self.name is not None:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Catch SIGINT and SIGTERM inside the block.

    Only a process's main thread can; in another (a notebook server's, a larger program's) signals
    stay whoever's they were, and the Interruption never comes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption) for number in SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            # None: set by a C program around Python, which alone can set it again
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def follow(
    threads: Sequence[StudentThread],
    monitor: Any,
    show: Show,
    interruption: Interruption,
) -> None:
    """Show events until all students have ended; stop all once one failed or a signal came.

    Args:
        threads: One started thread a student.
        monitor: The driver's actor.
        show: Takes events.
        interruption: Of ``interruptible``.

    Raises:
        KeyboardInterrupt: a second signal came.
    """
    stopping, give_up_at = False, math.inf
    while any(thread.is_alive() for thread in threads) and time.monotonic() < give_up_at:
        _show_events(monitor, show)
        failed = any(t.record is not None and t.record.ending != "reached" for t in threads)
        if not stopping and (failed or interruption.name is not None):
            stopping, give_up_at = True, time.monotonic() + STOP_GRACE_S
            if not failed:
                show(stop_note(interruption))
            ray.get(monitor.stop.remote())
    _show_events(monitor, show, timeout_s=0.0)


def stop_note(interruption: Interruption) -> events.NoteEvent:
    """What is said after the first signal."""
    key = "Ctrl-C" if interruption.name == "SIGINT" else interruption.name
    return events.note(text=f"{key}: stopping after the step under way (once more: at once) ...")


def _show_events(monitor: Any, show: Show, *, timeout_s: float = POLL_S) -> None:
    for event in ray.get(monitor.take.remote(timeout_s)):
        show(event)
