"""What the teacher benchmark measures, in a fresh process (see fresh.py)."""

import os
import shutil
import statistics
import time
from types import SimpleNamespace
from typing import Any

import ray
import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from raymd.distillation.soft_labels import BlockLayout
from raymd.training.teachers import StoredTeacher
from tests.bench.exchange_sides import SHARED
from tests.bench.fresh import answer
from tests.bench.storages import UnwrittenStorage
from tests.bench.synthetic import DTYPE, Publisher, local_ray, private_bytes, start

SIZE = 224


class Reader(Publisher):
    """A student's process that reads a teacher as its training step does."""

    def private(self) -> int:
        """Bytes of memory that it shares with nobody."""
        return private_bytes(os.getpid())

    def read_all(self) -> int:
        """Go through every row once; how many there were."""
        ids_N = torch.arange(self.layout.num_samples)
        for ids_B in ids_N.split(256):
            self.teacher.rows(ids_B)
        return len(ids_N)

    def seconds(self, batch: int, repeats: int) -> list[float]:
        """Of the soft labels of so many random batches."""
        torch.set_num_threads(1)
        device: Any = SimpleNamespace(device=torch.device("cpu"))
        stored = StoredTeacher(device, self.teacher)
        found = []
        for _ in range(repeats):
            ids_B = torch.randint(0, self.layout.num_samples, (batch,))
            began = time.perf_counter()
            stored.rows(SimpleNamespace(sample_ids=ids_B, mixed=None))  # type: ignore[arg-type]
            found.append(time.perf_counter() - began)
        return found


def step_seconds(batch: int, *, step_batch: int) -> float:
    """Forward and backward of a batch, by one of ``step_batch`` images."""
    torch.manual_seed(0)
    model = resnet18().to(memory_format=torch.channels_last)
    images_BCHW = torch.randn(step_batch, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    labels_B = torch.randint(0, 1000, (step_batch,))

    def step() -> float:
        began = time.perf_counter()
        F.cross_entropy(model(images_BCHW), labels_B).backward()
        return time.perf_counter() - began

    step()
    return step() * batch / step_batch


def read(
    *, rows: int, classes: int, batch: int, step_batch: int, pairs: int, store_gb: float
) -> dict[str, Any]:
    """All of it, in one process."""
    layout = BlockLayout(rows, classes)
    folder = SHARED / f"raymd-bench-teacher-{os.getpid()}"
    storage = UnwrittenStorage(str(folder))
    actor: Any = ray.remote(num_cpus=0)(Reader)
    try:
        with local_ray(store_bytes=int(store_gb * 2**30)):
            ids = ["student", "reader"]
            readers = [actor.remote(name, layout, storage, held_blocks=8) for name in ids]
            _monitor, aggregator = start(storage, ids[:1], layout.num_blocks)
            ray.get(readers[0].publish.remote(aggregator, 0))
            ray.get([reader.read.remote(aggregator, 0) for reader in readers])
            before = ray.get([reader.private.remote() for reader in readers])
            shared = shutil.disk_usage(SHARED).used
            ray.get([reader.read_all.remote() for reader in readers])
            after = ray.get([reader.private.remote() for reader in readers])
            shared = shutil.disk_usage(SHARED).used - shared
            figures: dict[str, list[float]] = {"rows": [], "step": []}
            for _ in range(pairs):
                found = ray.get(readers[1].seconds.remote(batch, 100))
                figures["rows"].append(statistics.median(found))
                figures["step"].append(step_seconds(batch, step_batch=step_batch))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    growth = [b - a for a, b in zip(before, after, strict=True)]
    return {
        "figures": figures, "private_growth_bytes": growth, "shared_growth_bytes": shared,
        "teacher_bytes": rows * classes * DTYPE.itemsize, "blocks": layout.num_blocks,
    }  # fmt: skip


if __name__ == "__main__":
    answer({"read": read})
