"""Signals: the first asks the run to stop, the second ends the driver at once.

Asked to stop, every student commits after the step under way and returns. What is committed by a
second signal is kept.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from raymd.view import events

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether the run was asked to stop, by a signal.

    Attributes:
        name: Of the first signal that came, such as ``SIGTERM``, or of whatever else stops the run;
            None before that.
    """

    def __init__(self) -> None:
        self.name: str | None = None

    def __call__(self, number: int, _frame: object) -> None:
        """The handler. The second signal ends what is under way, wherever it is."""
        if self.name is not None:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


@contextmanager
def interruptible(other: Interruption | None = None) -> Iterator[Interruption]:
    """Catch SIGINT and SIGTERM inside the block.

    Only a process's main thread can; in another (a notebook server's, a larger program's) signals
    stay whoever's they were, and the Interruption never comes.

    Args:
        other: What stops the run in place of signals, which are left alone.
    """
    if other is not None:
        yield other
        return
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


def stop_note(interruption: Interruption) -> events.NoteEvent:
    """What is said after the first signal."""
    key = "Ctrl-C" if interruption.name == "SIGINT" else interruption.name
    return events.note(text=f"{key}: stopping after the step under way (once more: at once) ...")
