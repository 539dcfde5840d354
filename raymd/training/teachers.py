"""A student's teachers, one cycle after the other, waited for where they are not there yet.

Blocks that turn out to be damaged are made again in whichever student waits for them.
"""

import threading
import time
from functools import partial

import torch

from raymd.distillation.schedule import Epoch
from raymd.distillation.soft_labels import TeacherRows, decode_block
from raymd.exchange.folder import Exchange
from raymd.training.publish import sample_of
from raymd.training.rebuild import rebuild
from raymd.training.student import Emit, StudentTask
from raymd.view import events
from raymd.view.event_types import SAMPLE_ROWS


class Teachers:
    """The teacher of the cycle under way; the one before is dropped when the next is there."""

    def __init__(
        self, task: StudentTask, exchange: Exchange, stopping: threading.Event, emit: Emit
    ) -> None:
        self.task = task
        self.exchange = exchange
        self.stopping = stopping
        self.emit = emit
        self._cycle: int | None = None
        self._rows: TeacherRows | None = None

    def for_epoch(self, epoch: Epoch) -> tuple[TeacherRows | None, bool]:
        """The epoch's teacher (None if it has none), waited for if need be, and whether the
        student was told to stop instead."""
        if epoch.phase == "independent":
            return None, False
        if self._cycle != epoch.cycle:
            self._cycle, self._rows = None, None
            rows = self._fetch(epoch.cycle)
            # Each worker has waited by itself; they go on together or not at all.
            if self.task.ranks.any(rows is None)[0]:
                return None, True
            self._cycle, self._rows = epoch.cycle, rows
        return self._rows, False

    def _fetch(self, cycle: int) -> TeacherRows | None:
        task, started = self.task, time.perf_counter()
        name = task.method.teacher_of(task.student.id)
        teacher = self.exchange.teacher(
            cycle,
            name,
            num_blocks=task.layout.num_blocks,
            stop=self.stopping,
            rebuild=partial(rebuild, task, self.emit),
        )
        if teacher is None:
            return None
        blocks = [decode_block(block)[1] for block in teacher.blocks]
        rows = TeacherRows(blocks, layout=task.layout)
        shown = torch.arange(min(SAMPLE_ROWS, task.layout.num_samples))
        self.emit(
            events.taught(
                student=task.student.id,
                cycle=cycle,
                teacher=name,
                weights=dict(teacher.weights),
                waited_s=time.perf_counter() - started,
                sample=sample_of(rows.rows(shown).numpy()),
            )
        )
        return rows
