"""What a segment will take, as far as anybody can tell: for those that take longest to go first."""

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from raymd.data.splits import Prepared
from raymd.execution.dispatch import Segment
from raymd.models import build_model
from raymd.settings import StudentConfig


class Pace:
    """Expected seconds of segments: measured epochs, and before there are any, arithmetic.

    Args:
        operations: A student's floating-point operations of an epoch, by id; in any unit.
        history: ``epoch`` events of earlier attempts.
    """

    def __init__(
        self, operations: Mapping[str, float], *, history: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self._operations = dict(operations)
        self._epoch_s: dict[str, float] = {}
        for event in history:
            self.trained(event)

    def trained(self, event: Mapping[str, Any]) -> None:
        """Take note of an ``epoch`` event."""
        self._epoch_s[event["student"]] = event["seconds"]

    def cost(self, segment: Segment) -> float:
        """Seconds that a segment is expected to take, or operations while no epoch was seen."""
        epochs = segment.stop.epoch - segment.start.epoch
        return epochs * self._of_epoch(segment.student)

    def _of_epoch(self, student: str) -> float:
        if student in self._epoch_s:
            return self._epoch_s[student]
        paces = [
            seconds / self._operations[known]
            for known, seconds in self._epoch_s.items()
            if self._operations.get(known)
        ]
        return self._operations[student] * (fmean(paces) if paces else 1.0)


def operations(students: Iterable[StudentConfig], data: Prepared) -> dict[str, float]:
    """Floating-point operations of one image through each student's network, by id."""
    return {student.id: _of_image(student.arch, data) for student in students}


def _of_image(arch: str, data: Prepared) -> float:
    side, channels = data.image_size, data.train.channels
    model = build_model(
        arch, num_classes=len(data.classes), in_channels=channels, image_size=side
    ).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, channels, side, side))
    return float(counter.get_total_flops())
