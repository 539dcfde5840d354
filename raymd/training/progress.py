"""Telling of an epoch under way, for people to see."""

import time

from raymd.distillation.schedule import Epoch
from raymd.training.student import Emit, StudentState, StudentTask
from raymd.view import events

PROGRESS_S = 1.0


class Progress:
    """Tells of an epoch under way, about once a second."""

    def __init__(
        self, task: StudentTask, state: StudentState, epoch: Epoch, steps: int, emit: Emit
    ) -> None:
        self.task, self.state, self.epoch, self.steps = task, state, epoch, steps
        self.emit = emit
        self._told_at = time.monotonic()

    def tell(self) -> None:
        """Emit a ``progress`` event if it is time."""
        if time.monotonic() - self._told_at < PROGRESS_S or not self.task.ranks.is_first:
            return
        self._told_at = time.monotonic()
        sums, rows = self.state.sums, max(1, self.state.sums.rows)
        self.emit(
            events.progress(
                student=self.task.student.id,
                epoch=self.epoch.index,
                epochs=self.task.settings.epochs,
                step=self.state.position.step,
                steps=self.steps,
                cycle=self.epoch.cycle,
                phase=self.epoch.phase,
                r=self.epoch.r,
                lr=self.state.optimizer.param_groups[0]["lr"],
                loss=sums.loss / rows,
                task_loss=sums.task_loss / rows,
                kd_loss=sums.kd_loss / rows if self.epoch.phase == "distillation" else None,
                train_accuracy=sums.correct / rows,
                images_per_s=rows * self.task.ranks.world_size / max(sums.seconds, 1e-9),
            )
        )
