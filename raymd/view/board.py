"""TensorBoard: every student's curves, the teachers' weights and soft labels, and the settings.

Enters: events. Leaves: a folder of event files, one sub-folder a student, so that the students'
curves lie over each other. Look with

    tensorboard --logdir runs/NAME/tensorboard

or with ``--logdir runs`` at all runs, whose settings and final accuracies HParams compares. Steps
are epochs, or cycles in the groups exchange, weights and soft_labels; both count from 0.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from raymd.view.events import TIME
from raymd.view.measures import (
    CYCLE_GROUPS,
    axis_of,
    final_scores,
    flat,
    pictures_of,
    scalars_of,
)
from raymd.view.tfevents import PATTERN, EventFile, read_events


class Board:
    """Writes events for TensorBoard; all of an event is on the disk when ``show`` returns.

    Args:
        folder: On this machine. It is used by nobody else while the board is.
    """

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, EventFile] = {}

    def rebuild(self, history: Iterable[Mapping[str, Any]]) -> None:
        """Write the epochs anew from a run's history, as after a restart; then go on with ``show``.

        What the history does not hold, that of cycles, stays as far as it is in the folder; epochs
        that are there and not in the history go. Doing it twice changes nothing.

        Args:
            history: Merged (events.merge_history), or any events.

        Raises:
            OSError: The folder cannot be written.
        """
        self.close()
        old = sorted(self.folder.glob(f"*/{PATTERN}"))
        cycles, times = _kept(old)
        for (student, step), values in sorted(cycles.items()):
            file = self._file(student)
            for summary, wall_time in values.values():
                file.add_summary(summary, step=step, wall_time=wall_time)
        for event in history:
            place = (event.get("student", ""), event.get("epoch", -1))
            self._write({TIME: times.get(place, time.time()), **event})
        for file in self._files.values():
            file.flush()
        for path in old:
            path.unlink()

    def show(self, event: Mapping[str, Any]) -> None:
        """Write what an event measured.

        Raises:
            OSError: The folder cannot be written.
        """
        if event["event"] == "run_finished":
            self._finish(event)
        elif self._write(event):
            self._files[event["student"]].flush()

    def close(self) -> None:
        """End all files; a later ``show`` begins new ones."""
        while self._files:
            _, file = self._files.popitem()
            file.close()

    def _write(self, event: Mapping[str, Any]) -> bool:
        axis = axis_of(event)
        if axis is None:
            return False
        self._file(event["student"]).add(
            step=axis[1],
            wall_time=event.get(TIME, time.time()),
            scalars=scalars_of(event),
            pictures=pictures_of(event),
        )
        return True

    def _finish(self, event: Mapping[str, Any]) -> None:
        """The settings with the final accuracies, for each student and for the ensemble."""
        result = event["result"]
        settings = flat(result["settings"])
        arch = {student["id"]: student["arch"] for student in result["students"]}
        for who, metrics in final_scores(result).items():
            hparams = {**settings, "student": who, "network": arch.get(who, who)}
            file = self._file(who)
            file.add_hparams(hparams, metrics, wall_time=event.get(TIME, time.time()))
            file.flush()

    def _file(self, student: str) -> EventFile:
        if student not in self._files:
            self._files[student] = EventFile(self.folder / student)
        return self._files[student]


def _kept(paths: Iterable[Path]) -> tuple[dict[Any, dict[str, Any]], dict[Any, float]]:
    """What of old files outlives a rebuild.

    Returns:
        Of each (student, cycle) the newest Summary with its time by tag; and the time of each
        (student, epoch).
    """
    from tensorboardX.proto.summary_pb2 import Summary

    cycles: dict[Any, dict[str, Any]] = defaultdict(dict)
    times = {}
    for path in paths:
        for event in read_events(path):
            place = (path.parent.name, event.step)
            for value in event.summary.value:
                if value.tag.startswith(CYCLE_GROUPS):
                    cycles[place][value.tag] = (Summary(value=[value]), event.wall_time)
                elif value.tag == "loss/total":
                    times[place] = event.wall_time
    return cycles, times
