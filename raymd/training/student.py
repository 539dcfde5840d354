"""What a student is given for a run, and what it is at one moment of it.

A task is the same for every segment and attempt; a state is what training changes. Everything
random is drawn from hashes of (seed, student, position), so a state holds no generator.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
import xxhash
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from raymd.config import CheckpointEvery
from raymd.data.dataset import Dataset
from raymd.data.loader import EpochLoader
from raymd.data.splits import Prepared, prepare
from raymd.distillation.methods import Method
from raymd.distillation.schedule import Epoch, Position, Schedule
from raymd.distillation.soft_labels import BlockLayout
from raymd.run_folder import student_folder
from raymd.settings import Settings, StudentConfig
from raymd.storage import Storage
from raymd.training.learning_rate import learning_rate
from raymd.training.ranks import ALONE, Ranks

DEFAULT_CHECKPOINT_EVERY = CheckpointEvery(seconds=60.0)
AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Emit = Callable[[Mapping[str, Any]], None]


def prepare_for(settings: Settings, dataset: Dataset) -> Prepared:
    """The data set as a run of these settings cuts and augments it; raises as ``prepare``."""
    return prepare(
        dataset,
        subset=settings.subset,
        val_fraction=settings.val_fraction,
        seed=settings.seed,
        augment=settings.augment,
        mixup_alpha=settings.mixup_alpha,
    )


def layout_of(settings: Settings, data: Prepared) -> BlockLayout:
    """How a run's soft labels are cut into blocks; none where no soft labels are published."""
    stored = settings.teaching().source == "stored"
    return replace(data.layout, num_views=max(1, settings.views) if stored else 0)


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
        ranks: Its place among the student's workers.
        checkpoint_every: When to commit beside the ends of phases and of the run.
    """

    student: StudentConfig
    settings: Settings
    data: Prepared
    storage: Storage
    run: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    ranks: Ranks = ALONE
    checkpoint_every: CheckpointEvery = DEFAULT_CHECKPOINT_EVERY

    @property
    def folder(self) -> str:
        """The student's folder in the run directory."""
        return student_folder(self.student.id)

    @cached_property
    def schedule(self) -> Schedule:
        """The run's list of epochs."""
        return self.settings.schedule()

    @cached_property
    def method(self) -> Method:
        """The run's method."""
        return self.settings.teaching()

    @property
    def layout(self) -> BlockLayout:
        """How the training part is cut into soft-label blocks."""
        return layout_of(self.settings, self.data)

    def crops_of(self, cycle: int, view: int) -> int | None:
        """The number of the crops that a view shows in a cycle; None: the clean images.

        Every cycle has others. Frozen teachers publish for a single one, the first (cycle 0).
        """
        views = self.settings.views
        return max(0, cycle) * views + view if views else None

    def view_of(self, epoch: Epoch) -> int:
        """The view that a distillation epoch trains on, one after the other."""
        return epoch.r % max(1, self.settings.views)

    @property
    def publishes(self) -> bool:
        """Whether teachers are made from what this student publishes."""
        return self.student.id in self.settings.publishers

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision the network runs in; losses are float32 in any."""
        dtype = AUTOCAST_DTYPES.get(self.student.precision)
        if dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=dtype)

    def as_student(self, student: StudentConfig) -> "StudentTask":
        """The same run as another student sees it, on this worker and its ranks."""
        return replace(self, student=student)

    def logits(self, model: nn.Module, images_BCHW: Tensor) -> Tensor:
        """A network's logits in the student's precision, [B, K]."""
        with self.autocast():
            logits_BK: Tensor = model(self.inputs(images_BCHW))
        return logits_BK

    def loader(self) -> EpochLoader:
        """The batches this worker trains on."""
        return EpochLoader(
            self.data.train,
            pixels=self.data.pixels,
            batch_size=self.student.batch_size,
            seed=self.settings.seed,
            stream=draw_seed("student", self.student.id),
            device=self.device,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            ids=self._own_part(),
        )

    def _own_part(self) -> Tensor | None:
        """The samples it trains on, where each student has its own; None: all."""
        if self.settings.data_split == "full":
            return None
        ids = sorted(student.id for student in self.settings.students)
        return torch.arange(ids.index(self.student.id), len(self.data.train), len(ids))

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the network's weights."""
        return torch.channels_last if self.student.channels_last else torch.contiguous_format

    def inputs(self, images_BCHW: Tensor) -> Tensor:
        """Images in the memory format that the network is kept in."""
        return images_BCHW if self.student.channels_last else images_BCHW.contiguous()

    def seed_step(self, position: Position) -> None:
        """Seed torch for one step: dropout follows the position, not the past."""
        rank = self.ranks.rank
        parts = (self.settings.seed, self.student.id, position.epoch, position.step, rank)
        seed = draw_seed("step", *parts)
        if self.device.type == "cpu":
            # torch.manual_seed goes to every kind of device, and keeps a stack trace for those
            # that are not in use: a quarter of a millisecond each step.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)


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
        model: The network: what is saved, published from and evaluated.
        network: What training calls: the model, or DDP or a compiled one around it.
        optimizer, scaler: What trains; the scaler is idle but for fp16.
        averaged: The averaged copy of the weights (``ema``), if there is one.
        position: The next step to take.
        accuracy: v_i: held-out accuracy of the weights at the last epoch's end, or without a
            held-out slice the running training accuracy of that epoch.
        publish_id: Checksum of the weights last committed.
        notes: What is worth knowing of the weights it began with.
    """

    model: nn.Module
    network: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    averaged: AveragedModel | None
    position: Position
    accuracy: float = 0.0
    best: Best | None = None
    sums: Sums = field(default_factory=Sums)
    history: list[Mapping[str, Any]] = field(default_factory=list)
    publish_id: str = ""
    committed: Position | None = None
    committed_at: float = field(default_factory=time.monotonic)
    steps_since_commit: int = 0
    epochs_since_commit: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> nn.Module:
        """The network that is evaluated and kept: the averaged one where there is one."""
        return self.model if self.averaged is None else self.averaged.module


class Member(NamedTuple):
    """One student of those that are trained together; most are trained alone."""

    task: StudentTask
    state: StudentState


def set_lr(task: StudentTask, state: StudentState, epoch: Epoch, *, steps: int) -> None:
    """Give the optimiser the learning rate of the step to come."""
    lr = learning_rate(
        task.student, epoch, step=state.position.step, steps=steps, epochs=task.settings.epochs
    )
    for group in state.optimizer.param_groups:
        group["lr"] = lr
