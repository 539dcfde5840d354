"""The learning rate of every step: a function of the position, and of nothing else (Eq. 3, 12)."""

import math

from raymd.distillation.schedule import Epoch
from raymd.settings import StudentConfig


def learning_rate(
    student: StudentConfig, epoch: Epoch, *, step: int, steps: int, epochs: int
) -> float:
    """The rate that a step is taken at.

    Args:
        student: Its rate at the start, schedule and warm-up.
        epoch: The epoch, whose ``lr_factor`` holds the drops of the step schedule.
        step: The step in it, from 0.
        steps: Steps of an epoch.
        epochs: The budget.
    """
    done = epoch.index + step / steps
    if student.lr_schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * done / epochs))
    else:
        factor = epoch.lr_factor
    if student.warmup_epochs > 0:
        # the first step is taken at a small rate, not at none
        factor *= min(1.0, (done + 1 / steps) / student.warmup_epochs)
    return student.lr * factor
