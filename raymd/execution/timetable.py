"""A schedule in a few words, and the time that students need for the rest of it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import groupby, pairwise

from raymd.distillation.schedule import Epoch, Schedule
from raymd.view.preview import (
    CyclesPreview,
    DropPreview,
    StudentPreview,
)


def find_cycles(schedule: Schedule, *, cycle_epochs: int | None = None) -> Iterator[CyclesPreview]:
    """The schedule's cycles, those alike and in a row counted together.

    Args:
        schedule: The run's.
        cycle_epochs: Tin + Td, to tell whether the only cycle is cut; None: the first is whole.
    """
    by_cycle = groupby(schedule.epochs, key=lambda epoch: epoch.cycle)
    if not schedule.barriers:
        yield CyclesPreview(1, *_lengths(schedule.epochs))
        return
    lengths = [_lengths(list(epochs)) for _, epochs in by_cycle]
    whole = cycle_epochs or sum(lengths[0])
    for length, alike in groupby(lengths):
        yield CyclesPreview(len(list(alike)), *length, is_cut=sum(length) != whole)


def _lengths(epochs: Sequence[Epoch]) -> tuple[int, int]:
    alone = sum(epoch.phase == "independent" for epoch in epochs)
    return alone, len(epochs) - alone


def find_drops(schedule: Schedule) -> tuple[DropPreview, ...]:
    """Every epoch from which on the learning rate of the step schedule is lower."""
    return tuple(
        # a phase's first epoch too: its teacher is from before the drop
        DropPreview(epoch.index + 1, epoch.lr_factor, epoch.phase == "distillation")
        for before, epoch in pairwise(schedule.epochs)
        if epoch.lr_factor < before.lr_factor
    )


def time_left(
    schedule: Schedule, students: Sequence[StudentPreview], *, slots: int | None = None
) -> float:
    """Seconds to the schedule's end from where the students stand.

    All of them publish at a barrier before any goes on. So each part between two barriers takes as
    long as the slowest student, or where they take turns, as those turns do.

    Args:
        schedule: The run's.
        students: All.
        slots: Workers at a time; None: all of them.
    """
    at_once = slots or sum(student.workers for student in students)
    seconds = 0.0
    for start, stop in pairwise((0, *schedule.barriers, len(schedule.epochs))):
        publishes = stop in schedule.barriers
        parts = [(_part_left(s, start, stop, publishes=publishes), s.workers) for s in students]
        seconds += list_schedule(parts, slots=at_once)
    return seconds


def list_schedule(parts: Iterable[tuple[float, int]], *, slots: int) -> float:
    """Seconds that parts take which begin longest first, as soon as there is room for them.

    Args:
        parts: Seconds and workers of each; none needs more than ``slots``.
        slots: Workers at a time.
    """
    now, free = 0.0, slots
    waiting = sorted(parts, reverse=True)
    running: list[tuple[float, int]] = []
    while waiting or running:
        for part in waiting.copy():
            seconds, workers = part
            if workers <= free:
                waiting.remove(part)
                heappush(running, (now + seconds, workers))
                free -= workers
        now, workers = heappop(running)
        free += workers
    return now


def _part_left(student: StudentPreview, start: int, stop: int, *, publishes: bool) -> float:
    stands_at = student.epoch + student.step / student.steps
    epochs = max(0.0, stop - max(start, stands_at))
    publishing = student.publish_s if publishes and stands_at <= stop else 0.0
    return epochs * student.epoch_s + publishing
