"""A run small enough to be killed at each of its commits: two tiny networks on random images."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raymd.config import CheckpointEvery
from raymd.data.augment import Augmentation
from raymd.data.dataset import Dataset, Split
from raymd.data.splits import Prepared
from raymd.distillation.schedule import Position
from raymd.exchange.folder import FolderExchange
from raymd.exchange.ledger import Ledger
from raymd.models import register_model
from raymd.settings import Settings, StudentConfig
from raymd.storage import Storage
from raymd.training.frozen import frozen_task, publish_frozen
from raymd.training.segment import run_segment
from raymd.training.student import StudentTask, prepare_for


class TinyNet(nn.Module):
    """Convolution, BatchNorm, dropout: all that could make a restart differ."""

    def __init__(self, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.bn(self.conv(images))).mean(dim=(2, 3))
        return self.head(self.dropout(features))


@register_model("tiny4")
def tiny4(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return TinyNet(num_classes, in_channels, 4)


@register_model("tiny6")
def tiny6(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return TinyNet(num_classes, in_channels, 6)


def random_dataset(*, num_train: int = 60, test_seed: int = 2) -> Dataset:
    def split(rows: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (rows, 3, 8, 8), dtype=torch.uint8, generator=generator)
        return Split(images, torch.randint(0, 3, (rows,), generator=generator))

    return Dataset(
        "random",
        split(num_train, 1),
        split(20, test_seed),
        classes=("a", "b", "c"),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        augmentation=Augmentation(pad=1, flip=True),
    )


def tiny_settings(*, student: dict[str, Any] | None = None, **changes: Any) -> Settings:
    """Settings of a tiny run; ``student`` holds options of both students."""
    options = {"lr": 0.1, "batch_size": 16, "weight_decay": 1e-4, **(student or {})}
    students = tuple(StudentConfig(id=name, arch=name, **options) for name in ("tiny4", "tiny6"))
    fields: dict[str, Any] = {
        "method": "md", "t": 3.0, "tin": 1, "td": 2, "epochs": 6, "kl_scale": "t2",
        "lr_drop": "exact", "val_fraction": 0.2,
        "seed": 3, "dataset": "random", "subset": None,
        "students": students,
    }  # fmt: skip
    return Settings(**{**fields, **changes})


def tiny_data(settings: Settings, dataset: Dataset | None = None) -> Prepared:
    return prepare_for(settings, dataset or random_dataset())


def tiny_tasks(
    storage: Storage, settings: Settings, *, data: Prepared | None = None, every_steps: int = 2
) -> list[StudentTask]:
    data = data or tiny_data(settings)
    return [
        StudentTask(
            student=student, settings=settings, data=data, storage=storage, run="run",
            checkpoint_every=CheckpointEvery(steps=every_steps),
        )
        for student in settings.students
    ]  # fmt: skip


def new_exchange(tasks: list[StudentTask]) -> FolderExchange:
    settings, method = tasks[0].settings, tasks[0].method
    ledger = Ledger(
        method,
        students=[task.student.id for task in tasks] if method.students_publish else [],
        frozen=[teacher.id for teacher in settings.teachers] if method.exchanges else [],
        num_blocks=tasks[0].layout.num_blocks,
    )
    return FolderExchange(tasks[0].storage, ledger)


def run_to(
    tasks: list[StudentTask],
    stop: Position | None = None,
    *,
    emit: Callable[[Mapping[str, Any]], None] = lambda event: None,
) -> None:
    """Run all students, one after the other, barrier by barrier; frozen teachers first."""
    exchange = new_exchange(tasks)
    schedule, settings = tasks[0].schedule, tasks[0].settings
    for teacher in settings.teachers if tasks[0].method.exchanges else ():
        publish_frozen(frozen_task(tasks[0], teacher), exchange=exchange, emit=emit)
    by_id = {task.student.id: task for task in tasks}
    members = ([by_id[s.id] for s in unit if s.id in by_id] for unit in settings.units.values())
    units = [unit for unit in members if unit]
    ends = [Position(epoch) for epoch in schedule.barriers] + [schedule.end]
    for end in ends:
        if stop is not None and end > stop:
            break
        for unit in units:
            run_segment(
                unit, start=schedule.start, stop=end, exchange=exchange, emit=emit,
                stopping=threading.Event(),
            )  # fmt: skip


def final_files(storage: Storage) -> dict[str, bytes]:
    """Every byte that must not depend on what was killed."""
    files = {}
    for student in storage.list("students"):
        for name in ("best", "last", "predictions"):
            path = f"students/{student}/{name}.safetensors"
            files[path] = storage.read(path).to_pybytes()
    for cycle in storage.list("teacher"):
        files[f"{cycle}/roster"] = storage.read(f"teacher/{cycle}/roster.json").to_pybytes()
        for teacher in (n for n in storage.list(f"teacher/{cycle}") if not n.endswith(".json")):
            for name in storage.list(f"teacher/{cycle}/{teacher}"):
                path = f"teacher/{cycle}/{teacher}/{name}"
                files[path] = storage.read(path).to_pybytes()
    return files


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "run")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    # networks this small train seven times as fast without a second thread to wait for
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
