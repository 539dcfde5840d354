"""What became of an order: a worker's record for the driver.

It passes through the monitor, which has to import what it holds: nothing heavy may stand here.
"""

from dataclasses import dataclass

from raymd.distillation.schedule import Position


@dataclass(frozen=True)
class SegmentRecord:
    """What became of a segment.

    Attributes:
        ending: ``reached``, ``stopped``, or ``failed``.
        position: Where the student stands.
        seconds: Spent on it, by the worker that ended it.
        error: What went wrong, for a person; it names the remedy.
        exit_code: What the command line should end with.
        concerns_run: Nobody can go on, not this student alone.
        diverged: The loss is no number any more.
    """

    ending: str
    position: Position
    seconds: float = 0.0
    error: str = ""
    exit_code: int = 0
    concerns_run: bool = False
    diverged: bool = False
