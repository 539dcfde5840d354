"""One order: a segment of a student (or of those trained together), inside a Ray Train worker.

It turns Ray's side (references, actors, devices) into what training/ takes, and the outcome
into a small record. It returns records rather than raising wherever a retry would not help.
"""

import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import ray
import torch
from ray.train.torch import get_device

from raymd.data.splits import Prepared
from raymd.errors import (
    NonFiniteLossError,
    RaymdError,
    StorageAccessError,
    StorageWriteError,
    UserError,
)
from raymd.exchange.damaged import DamagedBlockError, DamagedTeacherError
from raymd.execution.dispatch import Segment
from raymd.execution.exchange import RayExchange
from raymd.execution.monitor import FAILURES_AT_ONE_POSITION
from raymd.execution.orders import SegmentRecord
from raymd.execution.shared_storage import check_begun
from raymd.execution.work import Work, newest_position
from raymd.run_folder import student_folder
from raymd.secrets import without_secrets
from raymd.student_options import members_of
from raymd.training.frozen import frozen_task, publish_frozen
from raymd.training.ranks import Ranks
from raymd.training.segment import run_segment
from raymd.training.student import StudentTask
from raymd.view import events

# What the same code on the same data will do again.
NOT_WORTH_A_RETRY = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, TypeError,
    ValueError,
)  # fmt: skip

# A full disk, a folder that is not shared: what no other student would be spared.
CONCERNS_RUN = (StorageWriteError, UserError, DamagedBlockError, DamagedTeacherError)


class Order:
    """One order on its way to a record.

    Args:
        work: What all slots are given.
        segment: What to train.
        number: The order's.
        ranks: This worker's place among the student's.
    """

    def __init__(self, work: Work, segment: Segment, *, number: int, ranks: Ranks) -> None:
        self.work, self.segment, self.ranks = work, segment, ranks
        self.number = number
        self.student = segment.student
        self.monitor = work.monitor
        self.position = segment.start

    def carry_out(self, data: Callable[[], Prepared], stopping: threading.Event) -> SegmentRecord:
        """Train the segment, or say why not; raises where Ray Train should start anew."""
        refusal = self.ranks.from_first(self._begin() if self.ranks.is_first else None)
        if refusal is not None:
            return refusal
        try:
            return self._run(data(), stopping)
        except NonFiniteLossError as error:  # raised by all workers at the same step
            return self._failed(str(error), error)
        except StorageAccessError as error:
            self._failed_once(error)
            raise
        except RaymdError as error:
            return self._give_up(error, str(error))
        except NOT_WORTH_A_RETRY as error:
            return self._give_up(error, f"{self.student}: {self._report(error)}")
        except Exception as error:
            # Ray Train starts the workers again, from what is committed.
            self._failed_once(error)
            raise

    def _failed_once(self, error: Exception) -> None:
        ray.get(self.monitor.failed.remote(self.student, self._report(error)))

    def _begin(self) -> SegmentRecord | None:
        """Tell the driver of this beginning; a record if there is nothing to begin."""
        given_up = ray.get(self.monitor.given_up.remote(self.student))
        if given_up is not None:
            record: SegmentRecord = given_up
            return record
        unreadable: OSError | None = None
        try:
            self.position = newest_position(self.work.storage, self.student)
        except OSError as error:  # it counts as a start where the segment begins
            unreadable = error
        if ray.get(self.monitor.is_stopping.remote()):
            return SegmentRecord("stopped", self.position)
        lives, starts = ray.get(
            self.monitor.began.remote(self.student, self.number, tuple(self.position))
        )
        if starts > FAILURES_AT_ONE_POSITION:
            return self._failed(self._gave_up())
        if lives > 1:
            self._say_restarted(lives - 1)
        if unreadable is not None:
            reason = f"storage cannot be read: {unreadable}"
            ray.get(self.monitor.failed.remote(self.student, reason))
            raise unreadable
        return None

    def _run(self, data: Prepared, stopping: threading.Event) -> SegmentRecord:
        work, ranks = self.work, self.ranks
        check_begun(work.storage)
        task = StudentTask(
            student=work.settings.students[0],
            settings=work.settings,
            data=data,
            storage=work.storage,
            run=work.run,
            device=get_device() if work.device == "cuda" else torch.device(work.device),
            ranks=ranks,
            checkpoint_every=work.checkpoint_every,
        )

        def emit(event: Mapping[str, Any]) -> None:
            if ranks.is_first or event["event"] == "note":
                self.monitor.push.remote(event)

        exchange = RayExchange(work.aggregator, student=self.student, emit=emit)
        for teacher in work.settings.teachers:
            if teacher.id == self.student:
                publish_frozen(frozen_task(task, teacher), exchange=exchange, emit=emit)
                return SegmentRecord("reached", self.segment.stop)
        result = run_segment(
            [task.as_student(student) for student in work.settings.units[self.student]],
            start=self.segment.start,
            stop=self.segment.stop,
            exchange=exchange,
            emit=emit,
            stopping=stopping,
        )
        return SegmentRecord(result.ending, result.position)

    def _failed(self, reason: str, error: Exception | None = None) -> SegmentRecord:
        with suppress(OSError):  # storage may be what fails
            self.position = newest_position(self.work.storage, self.student)
        return SegmentRecord(
            "failed",
            self.position,
            error=reason,
            exit_code=error.exit_code if isinstance(error, RaymdError) else 1,
            concerns_run=isinstance(error, CONCERNS_RUN),
            diverged=isinstance(error, NonFiniteLossError),
        )

    def _give_up(self, error: Exception, reason: str) -> SegmentRecord:
        """End without a retry, telling why.

        Other workers of the student may be waiting for this one in a collective, which only the
        end of its process frees them from. So it raises, Ray Train ends all of them, and what it
        starts instead finds the record (_begin).
        """
        record = self._failed(reason, error)
        if self.ranks.world_size > 1:
            ray.get(self.monitor.give_up.remote(self.student, record))
            raise error
        return record

    def _report(self, error: Exception) -> str:
        """Write the traceback into the run directory; gives back one line that names it."""
        worker = "" if self.ranks.is_first else f"-worker-{self.ranks.rank}"
        name = f"{student_folder(members_of(self.student)[0])}/failure{worker}.txt"
        try:
            self.work.storage.write(name, without_secrets(traceback.format_exc()).encode())
            where = f"{self.work.storage.uri}/{name}"
        except OSError as unwritten:
            where = f"not written, {unwritten}"
        return without_secrets(f"{type(error).__name__}: {error} (traceback: {where})")

    def _say_restarted(self, attempt: int) -> None:
        reason = ray.get(self.monitor.reason.remote(self.student)) or "its worker was killed"
        event = events.restarted(
            student=self.student,
            epoch=self.position.epoch,
            step=self.position.step,
            attempt=attempt,
            reason=reason,
        )
        self.monitor.push.remote(event)

    def _gave_up(self) -> str:
        reason = ray.get(self.monitor.reason.remote(self.student)) or (
            "its worker process was killed (out of memory?)"
        )
        return (
            f"{self.student} failed {FAILURES_AT_ONE_POSITION} times at epoch "
            f"{self.position.epoch + 1}, step {self.position.step + 1}; the last time: "
            f"{reason.strip()}"
        )
