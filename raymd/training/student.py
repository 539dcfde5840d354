"""What a student is given for a run, and what it is at one moment of it.

A task is the same for every segment and attempt; a state is what training changes. Everything
random is drawn from hashes of (seed, student, position), so a state holds no generator.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from raymd.data.loader import EpochLoader
from raymd.data.splits import Prepared
from raymd.distillation.methods import Method, get_method
from raymd.distillation.schedule import Epoch, Position, Schedule
from raymd.distillation.soft_labels import BlockLayout
from raymd.models import build_model
from raymd.result import student_folder
from raymd.settings import Settings, StudentConfig
from raymd.storage import Storage

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Emit = Callable[[Mapping[str, Any]], None]


def draw_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on the parts alone."""
    return xxhash.xxh3_64_intdigest("/".join(map(str, parts)).encode()) >> 1


@dataclass(frozen=True)
class StudentTask:
    """One student of one run, as every worker of it sees it.

    Attributes:
        student: Its id, network and recipe.
        settings: The run's science.
        data: The run's data; sample ids are rows of ``data.train``.
        storage: The run's folder.
        run: The run's name, for metadata.
        device: Where it trains.
        rank, world_size: Its place among the student's workers.
        checkpoint_every_s: Commit at the next step once this long has passed since the last
            commit. Ends of phases and of the run are committed in any case.
        checkpoint_every_steps: Commit after so many steps since the last commit; for tests.
    """

    student: StudentConfig
    settings: Settings
    data: Prepared
    storage: Storage
    run: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world_size: int = 1
    checkpoint_every_s: float = 60.0
    checkpoint_every_steps: int | None = None

    @property
    def folder(self) -> str:
        """The student's folder in the run directory."""
        return student_folder(self.student.id)

    @property
    def schedule(self) -> Schedule:
        """The run's list of epochs."""
        return self.settings.schedule()

    @property
    def method(self) -> Method:
        """The run's method."""
        return get_method(self.settings.method)

    @property
    def layout(self) -> BlockLayout:
        """How the training part is cut into soft-label blocks."""
        return BlockLayout(len(self.data.train.labels), len(self.data.classes))

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision the network runs in; losses are float32 in any."""
        dtype = AUTOCAST_DTYPES.get(self.settings.precision)
        if dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=dtype)

    def loader(self) -> EpochLoader:
        """The batches this worker trains on."""
        return EpochLoader(
            self.data.train,
            mean=self.data.mean,
            std=self.data.std,
            augmentation=self.data.augmentation,
            batch_size=self.student.batch_size,
            seed=self.settings.seed,
            stream=draw_seed("student", self.student.id),
            device=self.device,
            rank=self.rank,
            world_size=self.world_size,
        )

    def seed_step(self, position: Position) -> None:
        """Seed torch for one step: dropout follows the position, not the past."""
        parts = (self.settings.seed, self.student.id, position.epoch, position.step, self.rank)
        torch.manual_seed(draw_seed("step", *parts))


@dataclass
class Best:
    """The epoch with the highest held-out accuracy so far; the first of equals."""

    epoch: int
    correct: int
    file: str
    weights: dict[str, Tensor] | None = None  # in memory until the next commit
    entry: dict[str, Any] | None = None  # what the record says of ``file`` after it


@dataclass
class Sums:
    """Running sums of the epoch under way; part of a checkpoint in mid-epoch."""

    rows: int = 0
    task_loss: float = 0.0
    kd_loss: float = 0.0
    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0


@dataclass
class StudentState:
    """A student at a position.

    Attributes:
        model, optimizer, scaler: What trains; the scaler is idle but for fp16.
        position: The next step to take.
        accuracy: v_i: held-out accuracy at the last epoch's end, or without a held-out slice
            the running training accuracy of that epoch.
        publish_id: Checksum of the weights last committed.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    position: Position
    accuracy: float = 0.0
    best: Best | None = None
    sums: Sums = field(default_factory=Sums)
    history: list[Mapping[str, Any]] = field(default_factory=list)
    publish_id: str = ""
    committed: Position | None = None
    committed_at: float = field(default_factory=time.monotonic)
    steps_since_commit: int = 0


def new_model(task: StudentTask) -> nn.Module:
    """The student's network, freshly initialised from (seed, student id), channels last."""
    torch.manual_seed(draw_seed("init", task.settings.seed, task.student.id))
    images = task.data.train.images
    model = build_model(
        task.student.arch,
        num_classes=len(task.data.classes),
        in_channels=images.shape[1],
        image_size=images.shape[-1],
    )
    return model.to(task.device).to(memory_format=torch.channels_last)


def new_state(task: StudentTask) -> StudentState:
    """The student at the run's beginning."""
    model = new_model(task)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=task.student.lr,
        momentum=task.settings.momentum,
        weight_decay=task.student.weight_decay,
        fused=task.device.type == "cuda",
    )
    fp16 = task.settings.precision == "fp16"
    scaler = torch.amp.GradScaler(task.device.type, enabled=fp16)
    return StudentState(model, optimizer, scaler, task.schedule.start)


def set_lr(task: StudentTask, state: StudentState, epoch: Epoch) -> float:
    """Give the optimiser the epoch's learning rate; returns it."""
    lr = task.student.lr * epoch.lr_factor
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    return lr
