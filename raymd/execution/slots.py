"""One thread and one TorchTrainer a slot, until the slot is closed.

Ray Train restarts a slot's workers by itself; what it cannot mend (its own controller died)
is a new attempt here, under a fresh Ray run name: a run directory of Train's that a crash left
half-written would block the restart.
"""

import os
import threading
import uuid
from collections import Counter
from typing import Any, Literal, cast

from ray.util import remove_placement_group
from ray.util.placement_group import PlacementGroup

from raymd.distillation.schedule import Position
from raymd.errors import UserError
from raymd.execution.compat import remove_orphaned_groups, trainer_without_cleaner
from raymd.execution.dispatch import Segment
from raymd.execution.monitor import FAILURES_AT_ONE_POSITION
from raymd.execution.plan import Plan
from raymd.execution.work import Work, newest_position
from raymd.execution.worker import train_loop
from raymd.execution.worker_environment import worker_environment
from raymd.run_folder import SCRATCH
from raymd.secrets import without_secrets

try:
    from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
except ImportError as error:
    wanted = os.environ.get("RAY_TRAIN_V2_ENABLED")  # read by Ray when ray.train is imported
    if wanted is None:
        raise
    raise UserError(
        f"RAY_TRAIN_V2_ENABLED={wanted} in the environment: raymd needs Ray Train's second version;"
        " unset it"
    ) from error

# Workers are restarted without end; what is no failure of theirs is answered here.
FAILURES: Any = {"max_failures": -1, "controller_failure_limit": 0}
Trainer: Any = trainer_without_cleaner(TorchTrainer)
Ending = Literal["closed", "no room", "failed"]


class SlotThread(threading.Thread):
    """Holds a slot's workers until the monitor closes it.

    Args:
        slot: Its number.
        work: What its workers are given.
        plan: Their resources.
        num_workers: How many there are.

    Attributes:
        segment: What they were told to train last.
        group: The placement group that they were last seen in.
        ending: How it ended; None while it goes on. ``no room``: work of others holds the place.
        error: Why it failed.
    """

    def __init__(self, slot: int, work: Work, plan: Plan, *, num_workers: int) -> None:
        super().__init__(name=f"slot {slot}", daemon=True)
        self.slot = slot
        self.work = work
        self.plan = plan
        self.num_workers = num_workers
        self.segment: Segment | None = None
        self.group: PlacementGroup | None = None
        self.ending: Ending | None = None
        self.error = ""
        self._abandoned = threading.Event()

    def abandon(self) -> None:
        """Nobody waits for this thread any more: make no further attempt, and no call of Ray's,
        which would start a Ray anew once the driver has left its own."""
        self._abandoned.set()

    def run(self) -> None:
        """The thread's body; never raises."""
        failures: Counter[tuple[Segment | None, Position | None]] = Counter()
        while self.ending is None:
            try:
                self._attempt()
                self.ending = "closed"
            except Exception as error:  # whatever Ray raises, the driver reports it
                if self._abandoned.is_set():
                    return
                if is_out_of_room(error):
                    self.ending = "no room"
                    return
                place = self._place()
                failures[place] += 1
                if failures[place] >= FAILURES_AT_ONE_POSITION:
                    self.error = without_secrets(f"{type(error).__name__}: {error}")
                    self.ending = "failed"
                remove_orphaned_groups()  # a dead controller's, or the next would lack its place

    def _place(self) -> tuple[Segment | None, Position | None]:
        segment = self.segment
        if segment is None:
            return None, None
        try:
            return segment, newest_position(self.work.storage, segment.student)
        except OSError:  # the storage is what fails
            return segment, None

    def _attempt(self) -> None:
        environment: Any = {"worker_runtime_env": {"env_vars": worker_environment()}}
        trainer: Any = Trainer(
            cast("Any", train_loop),
            train_loop_config={"work": self.work, "slot": self.slot},
            scaling_config=ScalingConfig(
                num_workers=self.num_workers,
                use_gpu=self.plan.device == "cuda",
                resources_per_worker=self.plan.worker_resources,
            ),
            run_config=RunConfig(
                name=f"slot-{self.slot}-{uuid.uuid4().hex[:8]}",
                storage_path=self.work.storage.sub(SCRATCH).uri,
                failure_config=FailureConfig(**FAILURES),
                **environment,
            ),
        )
        trainer.fit()

    def release(self) -> None:
        """Remove the placement group of workers that may not listen, and so end them."""
        if self.group is not None:
            remove_placement_group(self.group)


def is_out_of_room(error: Exception) -> bool:
    """Whether Ray Train waited in vain for a worker group's place in the cluster."""
    cause = error.controller_failure if isinstance(error, ControllerError) else None
    return type(cause).__name__ == "WorkerGroupStartupTimeoutError"
