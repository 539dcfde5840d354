"""One thread and one TorchTrainer a student, until its segment is done.

Ray Train restarts a student's workers by itself; what it cannot mend (its own controller died)
is a new attempt here, under a fresh Ray run name: a run directory of Train's that a crash left
half-written would block the restart.
"""

import threading
import uuid
from collections import Counter
from typing import Any, cast

import ray
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util import remove_placement_group

from raymd.distillation.schedule import Position
from raymd.execution.monitor import FAILURES_AT_ONE_POSITION
from raymd.execution.plan import Plan
from raymd.execution.student import SegmentOrder, SegmentRecord, newest_position, train_loop
from raymd.result import SCRATCH

UNLIMITED = -1


class StudentThread(threading.Thread):
    """Runs one student's segment to its end.

    Args:
        order: What the student's workers are told.
        plan: Their resources.
    """

    def __init__(self, order: SegmentOrder, plan: Plan) -> None:
        super().__init__(name=f"student {order.student.id}", daemon=True)
        self.order = order
        self.plan = plan
        self.record: SegmentRecord | None = None
        self._abandoned = threading.Event()

    def abandon(self) -> None:
        """Nobody waits for this thread any more: make no further attempt, and no call of Ray's,
        which would start a Ray anew once the driver has left its own."""
        self._abandoned.set()

    def run(self) -> None:
        """The thread's body; never raises, always leaves a record."""
        failures: Counter[Position] = Counter()
        while self.record is None:
            try:
                self.record = self._attempt()
            except Exception as error:  # whatever Ray raises, the driver reports it
                if self._abandoned.is_set():
                    return
                position = newest_position(self.order)
                failures[position] += 1
                if failures[position] >= FAILURES_AT_ONE_POSITION:
                    text = f"{self.order.student.id}: {type(error).__name__}: {error}"
                    self.record = SegmentRecord("failed", position, text, 1)
                self._release()

    def _attempt(self) -> SegmentRecord:
        student = self.order.student.id
        trainer: Any = TorchTrainer(
            cast("Any", train_loop),
            train_loop_config={"order": self.order},
            scaling_config=ScalingConfig(
                num_workers=self.order.student.workers_per_student,
                use_gpu=self.plan.device == "cuda",
                resources_per_worker=self.plan.worker_resources,
            ),
            run_config=RunConfig(
                name=f"{student}-{uuid.uuid4().hex[:8]}",
                storage_path=self.order.storage.sub(SCRATCH).uri,
                failure_config=FailureConfig(max_failures=UNLIMITED),
            ),
        )
        record = trainer.fit().return_value
        assert isinstance(record, SegmentRecord)
        return record

    def _release(self) -> None:
        """Remove the placement group that a dead controller leaves behind."""
        try:
            group = ray.get(self.order.monitor.group.remote(self.order.student.id))
        except RayActorError:
            return  # the driver has ended the attempt, and its groups with it
        if group is not None:
            remove_placement_group(group)
