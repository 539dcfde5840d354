"""From measured steps and the cluster's numbers to a preview, or to a refusal with numbers.

Enters: the run, its plan and what timing.py measured. Leaves: the Preview that plan_table.py shows.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from raymd.config import FitConfig
from raymd.data.order import num_steps
from raymd.data.splits import Prepared
from raymd.distillation.schedule import Position, Schedule
from raymd.distillation.soft_labels import BlockLayout
from raymd.errors import UserError
from raymd.exchange.memory import exchange_bytes
from raymd.execution.cluster import Node
from raymd.execution.opening import Run
from raymd.execution.plan import Plan
from raymd.execution.suggestion import suggest_workers
from raymd.execution.timetable import find_cycles, find_drops, time_left
from raymd.execution.timing import Measured
from raymd.run_folder import student_folder
from raymd.secrets import without_secrets
from raymd.settings import Settings, StudentConfig
from raymd.storage import Storage
from raymd.training.checkpoint import KEPT, committed_positions
from raymd.training.student import layout_of
from raymd.view.preview import (
    DiskPreview,
    NodePreview,
    Preview,
    SoftLabelsPreview,
    StudentPreview,
    Suggestion,
)
from raymd.view.text import num_bytes

PREDICTION_BYTES = 2 * 4  # float32, of last and best weights
LEFT_OUT = ("Ray Train's own start", "merging teachers", "commits", "last tests", "restarts")


@dataclass(frozen=True)
class Foresight:
    """What is known of a run before it: everything else follows from it, without Ray.

    Attributes:
        config, run, plan: The run.
        where: The cluster in words.
        nodes: As Ray lists them.
        measured: A few steps of it.
        startup_s: What it took until they could be taken.
    """

    config: FitConfig
    run: Run
    plan: Plan
    where: str
    nodes: Sequence[Node]
    measured: Measured
    startup_s: float

    @property
    def settings(self) -> Settings:
        """The run's."""
        return self.run.settings

    @property
    def data(self) -> Prepared:
        """The run's."""
        return self.run.data

    @property
    def _students(self) -> list[StudentConfig]:
        """Those that the plan has a place for: all but the lost."""
        return [s for s in self.settings.students if s.id in self.plan.students]

    def preview(self) -> Preview:
        """All of it.

        Raises:
            UserError: the memory or the disk is too small.
        """
        schedule = self.settings.schedule()
        students = tuple(self._student(student) for student in self._students)
        drops = find_drops(schedule)
        soft_labels, disk = self._soft_labels(schedule), self._disk(students, schedule)
        self._check_gpus(students)
        self._check_disk(disk)
        left_s = self.startup_s + time_left(schedule, students, slots=self.plan.slots)
        resident_s = self.startup_s + time_left(schedule, students)
        return Preview(
            run=without_secrets(self.run.storage.uri),
            resumed=self.run.resumed,
            cluster=self.where,
            device=self.plan.device,
            cpus_per_worker=self.plan.cpus_per_worker,
            gpus_per_worker=self.plan.gpus_per_worker,
            threads=self.plan.threads,
            placement=self.plan.placement,
            slots=self.plan.slots,
            why_placed=self._why_placed(),
            students=students,
            epochs=len(schedule.epochs),
            cycles=tuple(find_cycles(schedule, cycle_epochs=self.settings.tin + self.settings.td)),
            drops=drops,
            nodes=tuple(self._node(node) for node in self.nodes),
            soft_labels=soft_labels,
            disk=disk,
            startup_s=self.startup_s,
            left_s=left_s,
            resident_s=resident_s if self.plan.placement == "sliced" else None,
            left_out=self._left_out(),
            suggestion=self._suggestion(students),
            warnings=tuple(self._warnings(students, soft_labels)),
        )

    def _student(self, student: StudentConfig) -> StudentPreview:
        measure = self.measured.students[student.id]
        workers = student.workers_per_student
        num_train = self.settings.samples_of_each(len(self.data.train))
        num_val = len(self.data.val) if self.data.val is not None else 0
        steps = num_steps(num_train, student.batch_size)
        layout = BlockLayout(len(self.data.train), len(self.data.classes))
        parts = -(-layout.num_blocks // workers) / layout.num_blocks  # blocks are never shared
        position = self._position(student)
        foreseen = StudentPreview(
            id=student.id,
            arch=student.arch,
            workers=workers,
            batch_size=student.batch_size,
            precision=student.precision,
            lr_schedule=student.lr_schedule,
            warmup_epochs=student.warmup_epochs,
            parameters=measure.parameters,
            weight_bytes=measure.weight_bytes,
            gradient_bytes=measure.gradient_bytes * (2 if workers > 1 else 1),  # DDP's buckets
            optimizer_bytes=measure.optimizer_bytes,
            activation_bytes=measure.activation_bytes,
            peak_bytes=measure.peak_bytes,
            device_bytes=measure.device_bytes,
            step_s=measure.step_s,
            images_per_s=num_train / (steps * measure.step_s),
            steps=steps,
            epoch_s=steps * measure.step_s + num_val * measure.forward_s / workers,
            publish_s=self._num_rows * parts * measure.forward_s,
            left_s=0.0,
            checkpoint_bytes=measure.weight_bytes + measure.optimizer_bytes,
            epoch=position.epoch,
            step=position.step,
        )
        return replace(foreseen, left_s=time_left(self.settings.schedule(), [foreseen]))

    def _why_placed(self) -> str:
        plan = self.plan
        if plan.slots == plan.num_workers:
            return "all fit at once" if plan.placement == "resident" else "as asked (--placement)"
        return "as asked (--slots)" if plan.slots == self.config.slots else "more do not fit"

    def _left_out(self) -> tuple[str, ...]:
        several = any(workers > 1 for workers in self.plan.workers.values())
        among = ("exchange among workers",) if several else ()
        between = ("what turns take to begin",) if self.plan.placement == "sliced" else ()
        return LEFT_OUT + among + between + self._teaching_left_out()

    def _teaching_left_out(self) -> tuple[str, ...]:
        source = self.settings.teaching().source
        live = ("the teacher's own forward passes",) if source == "live" else ()
        return live + (("what peers predict for each other",) if source == "peers" else ())

    def _position(self, student: StudentConfig) -> Position:
        positions = committed_positions(self.run.storage, student_folder(student.id))
        return positions[-1] if positions else Position(0)

    def _node(self, node: Node) -> NodePreview:
        has = node["Resources"]
        workers = self.measured.workers.get(node["NodeID"], 0)
        return NodePreview(has.get("CPU", 0.0), has.get("GPU", 0.0), _memory_of(node), workers)

    @property
    def _num_rows(self) -> int:
        """Of one publication: each view of each image; none where weights are published."""
        layout = layout_of(self.settings, self.data)
        return layout.num_samples * layout.num_views

    def _publication_bytes(self) -> int:
        form = self.settings.soft_label_format
        return self._num_rows * form.row_bytes(len(self.data.classes))

    def _teacher_bytes(self) -> int:
        members = len(self.settings.publishers)
        form = self.settings.soft_label_format
        row_bytes = form.row_bytes(len(self.data.classes), members=members)
        return self._num_rows * self._num_teachers() * row_bytes

    def _exchange_bytes(self) -> int:
        return exchange_bytes(
            self._num_rows,
            len(self.data.classes),
            len(self.settings.publishers),
            form=self.settings.soft_label_format,
            teachers=self._num_teachers(),
        )

    def _num_teachers(self) -> int:
        return len(self.settings.teaching().teachers(self.plan.students))

    def _soft_labels(self, schedule: Schedule) -> SoftLabelsPreview | None:
        if not schedule.barriers or not self._num_rows:
            return None
        one, live = self._publication_bytes(), self._exchange_bytes()
        store = sum(node["Resources"].get("object_store_memory", 0) for node in self.nodes)
        return SoftLabelsPreview(one, live, int(store))

    def _disk(self, students: Sequence[StudentPreview], schedule: Schedule) -> DiskPreview:
        num_val = len(self.data.val) if self.data.val is not None else 0
        num_predicted = num_val + len(self.data.test)
        predictions = num_predicted * len(self.data.classes) * PREDICTION_BYTES
        kept = most = 0
        for student, asked in zip(students, self._students, strict=True):
            model = student.weight_bytes // (2 if asked.ema else 1)
            kept += 2 * model + predictions  # last and best
            # the newest ones, the one published from, the one being written; the best weights
            most += 3 * model + predictions + (KEPT + 2) * student.checkpoint_bytes
        if schedule.barriers:
            kept += self._teacher_bytes()
            most += self._exchange_bytes()  # every object is a file too
        return DiskPreview(most, kept, _free_bytes(self.run.storage))

    def _check_gpus(self, students: Sequence[StudentPreview]) -> None:
        """Refuse what fits a GPU only as long as the data is a sample."""
        on_gpu = self.data.train.device_bytes
        sharing = max(1, int(1 / self.plan.gpus_per_worker)) if self.plan.gpus_per_worker else 1
        for student in students:
            needed = (student.peak_bytes + on_gpu) * sharing
            if student.device_bytes is not None and needed > student.device_bytes:
                raise UserError(
                    f"{student.id}: {sharing} worker(s) on a GPU would need {num_bytes(needed)} of "
                    f"its {num_bytes(student.device_bytes)}, {num_bytes(on_gpu)} each of them for "
                    "the images; lower --batch_size, raise --gpus_per_worker, or use a --subset"
                )

    def _check_disk(self, disk: DiskPreview) -> None:
        if disk.free_bytes is not None and disk.most_bytes > disk.free_bytes:
            if self.run.resumed:  # part of it is written already
                return
            raise UserError(
                f"storage {self.config.storage!r}: the run would take about "
                f"{num_bytes(disk.most_bytes)} and {num_bytes(disk.free_bytes)} are free "
                "(--storage another DIR, or fewer --students)"
            )

    def _warnings(
        self, students: Sequence[StudentPreview], soft_labels: SoftLabelsPreview | None
    ) -> Iterator[str]:
        data = self.data.train.num_bytes
        if soft_labels is not None:
            needed = data + soft_labels.live_bytes
            if needed > soft_labels.object_store_bytes:
                yield (
                    f"the object store holds {num_bytes(soft_labels.object_store_bytes)}; images "
                    f"and soft labels come to {num_bytes(needed)}, so Ray will move some to disk"
                )
        if self.plan.device == "cuda":
            return
        most = max(student.peak_bytes for student in students)
        for node in self.nodes:
            workers = self.measured.workers.get(node["NodeID"], 0)
            needed = workers * most + data
            if needed > _memory_of(node):
                yield (
                    f"{workers} workers of up to {num_bytes(most)} and the images may need more "
                    f"than the {num_bytes(_memory_of(node))} of their node (--batch_size)"
                )

    def _suggestion(self, students: Sequence[StudentPreview]) -> Suggestion | None:
        if self.run.resumed or self.plan.slots < self.plan.num_workers:
            return None
        return suggest_workers(
            {student.id: student.epoch_s for student in students},
            self.plan,
            nodes=[node["Resources"] for node in self.nodes],
            batch_sizes={student.id: student.batch_size for student in students},
            cpus_asked=self.config.cpus_per_worker is not None,
        )


def _memory_of(node: Node) -> int:
    """What Ray reckons with: for processes and for objects."""
    has = node["Resources"]
    return int(has.get("memory", 0) + has.get("object_store_memory", 0))


def _free_bytes(storage: Storage) -> int | None:
    """Free on the disk of a local storage, which need not be there yet."""
    if not storage.is_local:
        return None
    folder = Path(storage.uri)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free
