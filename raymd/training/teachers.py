"""A student's teachers, one cycle after the other, waited for where they are not there yet.

Leaves: for each distillation epoch a BatchTeacher, which gives a batch's soft labels: rows that
were published before, or what published weights say of the very crops that the student sees. Blocks
that turn out to be damaged are made again in whichever student waits for them.

    B batch   K classes
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from raymd.data.loader import Batch
from raymd.data.placing import placed
from raymd.distillation.encoding import decode_block
from raymd.distillation.losses import mix_rows, soft_labels
from raymd.distillation.methods import WEIGHTS
from raymd.distillation.schedule import Epoch
from raymd.distillation.soft_labels import TeacherRows
from raymd.distillation.top_k import TeacherBatch, TopKBatch, all_classes
from raymd.errors import StorageError
from raymd.exchange.blocks import read_roster
from raymd.exchange.damaged import DamagedTeacherError
from raymd.exchange.folder import Exchange, Teacher
from raymd.training.frozen import frozen_task, load_frozen
from raymd.training.publish import sample_of
from raymd.training.rebuild import network_of, rebuild, task_of
from raymd.training.student import Emit, StudentTask
from raymd.view import events
from raymd.view.event_types import SAMPLE_ROWS

MENDING_S = 60.0


class BatchTeacher(Protocol):
    """Whoever teaches an epoch."""

    @property
    def crops(self) -> int | None:
        """The number of the crops that it knows; None: it knows any."""

    def rows(self, batch: Batch) -> TeacherBatch:
        """Its soft labels of a batch, on the device; no gradient reaches them."""


@dataclass(frozen=True)
class StoredTeacher:
    """Soft labels that were published, looked up by sample id.

    Attributes:
        task: Whose device it serves.
        teacher: The cycle's rows.
        view: Which of them.
        crops: What the view shows; None: clean images, which serve for any crop.
    """

    task: StudentTask
    teacher: TeacherRows
    view: int = 0
    crops: int | None = None

    def rows(self, batch: Batch) -> TeacherBatch:
        """Mixed as the batch's images are."""
        rows_BK = self.teacher.rows(batch.sample_ids, view=self.view)
        if batch.mixed is not None:
            partners_BK = self.teacher.rows(batch.mixed.sample_ids, view=self.view)
            rows_BK = mix_rows(rows_BK, partners_BK, share=batch.mixed.share)
        if isinstance(rows_BK, TopKBatch):
            return rows_BK.each(self._placed)
        return self._placed(rows_BK)

    def _placed(self, tensor: Tensor) -> Tensor:
        return placed(tensor, self.task.device)


@dataclass(frozen=True)
class LiveTeacher:
    """Published weights, evaluated on the student's own crops, mixed images and all.

    Attributes:
        members: Each with the task it runs under, in id order.
        weights: Theirs, in that order.
    """

    members: Sequence[tuple[StudentTask, nn.Module]]
    weights: Sequence[float]
    crops: int | None = None

    @torch.no_grad()
    def rows(self, batch: Batch) -> Tensor:
        """The members' weighted mean (Eq. 8), in eval mode at the run's temperature."""
        total_BK: Tensor | None = None
        for (task, model), weight in zip(self.members, self.weights, strict=True):
            logits_BK = task.logits(model.eval(), batch.images)
            probs_BK = soft_labels(logits_BK, t=task.settings.temperature) * weight
            total_BK = probs_BK if total_BK is None else total_BK.add_(probs_BK)
        assert total_BK is not None
        return total_BK


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
        self._teacher: TeacherRows | LiveTeacher | None = None

    def for_epoch(self, epoch: Epoch) -> tuple[BatchTeacher | None, bool]:
        """The epoch's teacher (None if it has none), waited for if need be, and whether the
        student was told to stop instead."""
        if epoch.phase == "independent" or self.task.method.is_cohort:
            return None, False
        if self._cycle != epoch.cycle:
            self._cycle, self._teacher = None, None
            teacher = self._fetch(epoch.cycle)
            # Each worker has waited by itself; they go on together or not at all.
            if self.task.ranks.any(teacher is None)[0]:
                return None, True
            self._cycle, self._teacher = epoch.cycle, teacher
        if isinstance(self._teacher, TeacherRows):
            view = self.task.view_of(epoch)
            crops = self.task.crops_of(epoch.cycle, view)
            return StoredTeacher(self.task, self._teacher, view, crops), False
        return self._teacher, False

    def _fetch(self, cycle: int) -> TeacherRows | LiveTeacher | None:
        task, started = self.task, time.perf_counter()
        if not task.method.exchanges:
            return self._made(lambda: frozen_teacher(task))
        teacher = self.exchange.teacher(
            cycle,
            task.method.teacher_of(task.student.id),
            num_blocks=task.layout.num_blocks,
            stop=self.stopping,
            rebuild=partial(rebuild, task, self.emit),
        )
        if teacher is None:
            return None
        waited_s = time.perf_counter() - started
        if task.method.source == "live":
            weights = teacher.weights
            live = self._made(lambda: live_teacher(task, cycle, weights))
            if live is not None:
                self._tell(cycle, teacher, waited_s, [])
            return live
        blocks = [decode_block(block)[1] for block in teacher.blocks]
        rows = TeacherRows(blocks, layout=task.layout)
        shown = torch.arange(min(SAMPLE_ROWS, task.layout.num_samples))
        self._tell(cycle, teacher, waited_s, sample_of(all_classes(rows.rows(shown)).numpy()))
        return rows

    def _made(self, make: Callable[[], LiveTeacher]) -> LiveTeacher | None:
        """A live teacher; None if the student was told to stop while it waited for its weights.

        A member whose checkpoint was damaged goes back and trains up to it again: worth a while.

        Raises:
            DamagedTeacherError: the weights do not come back.
        """
        give_up_at = time.monotonic() + MENDING_S
        while True:
            try:
                return make()
            except StorageError as error:
                if time.monotonic() > give_up_at:
                    raise DamagedTeacherError(
                        f"{error}, and {self.task.student.id} is taught by it"
                    ) from error
            if self.stopping.wait(1.0):
                return None

    def _tell_if_all_count_alike(self, cycle: int) -> None:
        """Say, once, that nobody got a held-out image right (it happens: one image a class)."""
        task = self.task
        roster = read_roster(task.storage, cycle)
        if roster is None or task.method.weights != "accuracy" or not task.ranks.is_first:
            return
        accuracies = {p.student: p.accuracy for p in roster.publications}
        if not any(accuracies.values()) and task.student.id == min(accuracies):
            text = f"cycle {cycle + 1}: no student got anything right, so all count alike (Eq. 8)"
            self.emit(events.note(text=text))

    def _tell(
        self, cycle: int, teacher: Teacher, waited_s: float, sample: list[list[float]]
    ) -> None:
        self._tell_if_all_count_alike(cycle)
        self.emit(
            events.taught(
                student=self.task.student.id,
                cycle=cycle,
                teacher=self.task.method.teacher_of(self.task.student.id),
                weights=dict(teacher.weights),
                waited_s=waited_s,
                sample=sample,
            )
        )


def live_teacher(task: StudentTask, cycle: int, weights: Mapping[str, float]) -> LiveTeacher:
    """The weights that a cycle's members published, from the checkpoints they published from.

    Raises:
        StorageError: one is missing or damaged.
    """
    tasks = [task_of(task, member) for member in weights]
    members = [(member, network_of(member, cycle)) for member in tasks]
    return LiveTeacher(members, tuple(weights.values()))


def frozen_teacher(task: StudentTask) -> LiveTeacher:
    """The run's frozen teachers, all alike, without waiting for anybody."""
    weights = WEIGHTS["uniform"]({teacher.id: 1.0 for teacher in task.settings.teachers})
    tasks = {teacher.id: frozen_task(task, teacher) for teacher in task.settings.teachers}
    members = [(tasks[member], load_frozen(tasks[member])) for member in weights]
    return LiveTeacher(members, tuple(weights.values()))
