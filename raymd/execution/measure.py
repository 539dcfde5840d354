"""What a student's steps take on this machine: seconds and bytes, measured on a few of them.

Enters: a student of the run and a slice of its data. Leaves: a StepMeasure for the preview. No Ray,
no storage and no other worker: a worker's share of each batch is trained on by itself, so what
workers of one student exchange is left out.
"""

import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from raymd.data.loader import Batch
from raymd.data.order import num_steps
from raymd.data.splits import Prepared
from raymd.distillation.schedule import Epoch
from raymd.errors import RaymdError, UserError
from raymd.settings import Settings, StudentConfig
from raymd.storage import Storage
from raymd.training.building import new_state
from raymd.training.evaluate import EVAL_BATCH, predict
from raymd.training.step import train_step
from raymd.training.student import StudentState, StudentTask, set_lr
from raymd.view.text import num_bytes

SAMPLE_BATCHES = 4
LONGEST_S = 20.0  # slow networks are timed on fewer steps
NO_MEMORY = "can't allocate memory"  # torch's allocator for CPUs has no error of its own
OWN_STATUS, OWN_REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class StepMeasure:
    """One worker's training, measured.

    Attributes:
        step_s: Seconds of a training step, with making its batch.
        step_images: Images of a step.
        forward_s: Seconds for one image forward in eval mode, as in publishing and evaluating.
        parameters: Of the network.
        weight_bytes: Parameters and buffers; twice where an averaged copy is kept.
        gradient_bytes, optimizer_bytes: As they are after a step.
        activation_bytes: What a step takes beside those, at its peak; None if unknown.
        peak_bytes: What the whole process (on a CPU) or its part of the GPU came to.
        device_bytes: Memory of the GPU; None on a CPU.
    """

    step_s: float
    step_images: int
    forward_s: float
    parameters: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int | None
    peak_bytes: int
    device_bytes: int | None = None

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and the optimiser's state."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes


def rows_of_step(num_samples: int, student: StudentConfig) -> int:
    """Images that one worker has in a step, at most."""
    rows = -(-num_samples // num_steps(num_samples, student.batch_size))
    return -(-rows // student.workers_per_student)


def sample_of(data: Prepared, *, rows: int) -> Prepared:
    """A few batches of the training images, enough to time steps on; the rest is left out.

    Args:
        data: The run's.
        rows: Images of a step.
    """
    first = torch.arange(min(len(data.train), max(SAMPLE_BATCHES * rows, EVAL_BATCH)))
    return replace(data, train=data.train.rows(first), val=None, test=data.test.rows(first[:1]))


def measure_steps(
    student: StudentConfig,
    *,
    settings: Settings,
    data: Prepared,
    rows: int,
    device: torch.device | str = "cpu",
    steps: int = 3,
) -> StepMeasure:
    """Build a student, warm it up and time it.

    Args:
        student: Its network and recipe. It begins with random weights, whatever it asks for.
        settings: The run's.
        data: The run's, or of ``sample_of``.
        rows: Images of a step of one worker; see ``rows_of_step``.
        device: Where it trains.
        steps: How many steps to time; fewer if they take longer than 20 s.

    Raises:
        UserError: the memory is too small for it; with the flags that lower the need.
        RaymdError: it cannot be trained at all.
    """
    timed = TimedStudent(student, settings=settings, data=data, rows=rows, device=device)
    timed.warm_up()
    return timed.measure(steps=steps)


class TimedStudent:
    """A student that can be timed: first warmed up, then measured, so that several can be measured
    at the same moment.

    Args:
        student, settings, data, rows, device: As in ``measure_steps``.
    """

    def __init__(
        self,
        student: StudentConfig,
        *,
        settings: Settings,
        data: Prepared,
        rows: int,
        device: torch.device | str = "cpu",
    ) -> None:
        alone = replace(student, batch_size=rows, workers_per_student=1)
        self.rows = min(rows, len(data.train))
        self.task = StudentTask(
            student=alone,
            settings=settings,
            data=data,
            storage=Storage.at("never-written"),
            run="",
            device=torch.device(device),
        )

    def warm_up(self) -> None:
        """Build the network and take a step and a forward pass, of which nothing is timed."""
        with _named(self.task):
            self.before_bytes = _reset_peak(self.task.device)
            self.state = new_state(self.task, initialise=False)
            self.epoch = _costliest_epoch(self.task)
            self.loader = self.task.loader()
            self.batches = self._batches()
            self._train(1)
            self._forward()

    def measure(self, *, steps: int = 3) -> StepMeasure:
        """Time steps and a forward pass.

        Args:
            steps: How many, at most; as many as take 20 s, at least one.
        """
        with _named(self.task):
            taken, seconds = self._train(steps)
            forward_s = self._forward()
        return self._measured(seconds / taken, forward_s)

    def _batches(self) -> Iterator[Batch]:
        for epoch in count(self.epoch.index):
            yield from self.loader.batches(epoch)

    def _train(self, steps: int) -> tuple[int, float]:
        task, state = self.task, self.state
        state.model.train()
        started = _now(task.device)
        taken = 0
        while taken == 0 or (taken < steps and time.perf_counter() - started < LONGEST_S):
            batch = next(self.batches)
            set_lr(task, state, self.epoch, steps=self.loader.steps)
            task.seed_step(state.position)
            train_step(task, state, self.epoch, batch, self._teacher(batch))
            taken += 1
        return taken, _now(task.device) - started

    def _teacher(self, batch: Batch) -> Tensor | None:
        if self.epoch.phase == "independent":
            return None
        num_classes = len(self.task.data.classes)
        shape = (len(batch.labels), num_classes)
        return torch.full(shape, 1 / num_classes, device=self.task.device)

    def _forward(self) -> float:
        # A GPU shall show that it has the memory; on a CPU so many images can take a minute.
        wanted = self.rows if self.task.device.type == "cpu" else EVAL_BATCH
        images = min(wanted, len(self.task.data.train))
        started = _now(self.task.device)
        predict(self.task, self.state.model, self.task.data.train, stop=images)
        return (_now(self.task.device) - started) / images

    def _data_bytes(self) -> int:
        return 0 if self.task.device.type == "cpu" else self.task.data.train.device_bytes

    def _measured(self, step_s: float, forward_s: float) -> StepMeasure:
        state, device = self.state, self.task.device
        parameters = list(state.model.parameters())
        kept = [state.model] if state.averaged is None else [state.model, state.averaged]
        weights = sum(_module_bytes(module) for module in kept)
        gradients = sum(_bytes(p.grad) for p in parameters if p.grad is not None)
        optimizer = _optimizer_bytes(state)
        peak = _peak_bytes(device)
        other = self.before_bytes + self._data_bytes() + weights + gradients + optimizer
        return StepMeasure(
            step_s=step_s,
            step_images=self.rows,
            forward_s=forward_s,
            parameters=sum(p.numel() for p in parameters),
            weight_bytes=weights,
            gradient_bytes=gradients,
            optimizer_bytes=optimizer,
            activation_bytes=max(0, peak - other),
            peak_bytes=peak,
            device_bytes=torch.cuda.mem_get_info()[1] if device.type == "cuda" else None,
        )


def _costliest_epoch(task: StudentTask) -> Epoch:
    """One with a teacher, where there is any."""
    epochs = task.schedule.epochs
    return next((epoch for epoch in epochs if epoch.phase == "distillation"), epochs[0])


def _now(device: torch.device) -> float:
    """The time when the device has done all that it was given."""
    getattr(torch, device.type).synchronize()
    return time.perf_counter()


# -- memory -------------------------------------------------------------------------------


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _module_bytes(module: nn.Module) -> int:
    return sum(_bytes(tensor) for tensor in (*module.parameters(), *module.buffers()))


def _optimizer_bytes(state: StudentState) -> int:
    entries = state.optimizer.state.values()
    values = [value for entry in entries for value in entry.values()]
    return sum(_bytes(value) for value in values if isinstance(value, Tensor))


def _reset_peak(device: torch.device) -> int:
    """Begin to watch for the highest use of memory; gives back the use by now, in bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if OWN_REFERENCES.exists():
        with suppress(OSError):  # not every container allows it; then imports' own peak counts too
            OWN_REFERENCES.write_text("5")
    return _peak_bytes(device)


def _peak_bytes(device: torch.device) -> int:
    """The highest use of memory: the GPU's by this process, or all of this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()  # its cache only grows
    if OWN_STATUS.exists():
        match = re.search(r"VmHWM:\s+(\d+) kB", OWN_STATUS.read_text())
        if match is not None:
            return int(match[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


@contextmanager
def _named(task: StudentTask) -> Iterator[None]:
    """Say of what goes wrong whose it was; of memory that ran out, what lowers the need."""
    try:
        yield
    except RaymdError:
        raise
    except Exception as error:
        ran_out = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if ran_out or NO_MEMORY in str(error):
            raise UserError(_too_small(task, error)) from error
        reason = f"{type(error).__name__}: {error}"
        raise RaymdError(f"{task.student.id} cannot take a step: {reason}") from error


def _too_small(task: StudentTask, error: Exception) -> str:
    student = task.student
    there = ""
    if task.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        there = f" ({num_bytes(free)} of {num_bytes(total)} free on the GPU)"
    reason = str(error).strip().partition("\n")[0]
    return (
        f"{student.id}: no memory for a step of {student.batch_size} images on a worker in "
        f"{student.precision}{there}; lower --batch_size, spread it over more workers "
        f"(--workers_per_student), or try --precision bf16: {reason}"
    )
