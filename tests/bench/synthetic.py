"""Students that only publish: raymd's own exchange, with made-up soft labels in place of networks.

Rows are made before anything is timed; a publisher keeps a
few blocks of them and publishes those again and again, for all of them beside storage in memory and
an object store would not fit into the machine.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.distillation.encoding import decode_block, encode_block
from raymd.distillation.methods import get_method
from raymd.distillation.soft_labels import BlockLayout, TeacherRows
from raymd.exchange import names
from raymd.exchange.blocks import publication_fields
from raymd.exchange.facts import Publication
from raymd.execution.aggregator import TASKS_IN_FLIGHT, start_aggregator
from raymd.execution.exchange import RayExchange
from raymd.execution.monitor import start_monitor
from raymd.execution.ray_setup import OWN_RAY
from raymd.storage import Storage

BATCH = 256
DTYPE = np.dtype(np.float16)


def random_rows(num_rows: int, num_classes: int, *, seed: int) -> np.ndarray:
    """Probabilities, float16 [rows, K]: a few different rows, repeated with an offset of one."""
    generator = np.random.default_rng(seed)
    distinct = generator.random((min(num_rows, 997), num_classes), dtype=np.float32)
    distinct /= distinct.sum(axis=1, keepdims=True)
    return np.resize(distinct.astype(DTYPE), (num_rows, num_classes))


class Publisher:
    """A student's process: holds rows, publishes them, and reads the teacher.

    Args:
        student: Its id.
        layout: How its rows are cut.
        storage: The run's.
        held_blocks: How many blocks of rows it has.
        pace_s: Seconds that computing a block takes; busy: on a processor.
    """

    def __init__(
        self,
        student: str,
        layout: BlockLayout,
        storage: Storage,
        *,
        held_blocks: int,
        pace_s: float = 0.0,
        busy: bool = False,
    ) -> None:
        import raymd.training.publish  # noqa: F401  # torch: before anything is timed

        self.student, self.layout, self.storage = student, layout, storage
        self.pace_s, self.busy = pace_s, busy
        self.computed_at = 0.0
        seed = int.from_bytes(student.encode()[-4:], "little")
        first, stop = layout.rows(0)
        self.rows = [
            random_rows(stop - first, layout.num_classes, seed=seed + block)
            for block in range(min(held_blocks, layout.num_blocks))
        ]

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def publish(self, aggregator: Any, cycle: int) -> dict[str, float]:
        """Publish for a cycle; when that was over, and when the last block was computed."""
        from raymd.training.publish import publish_blocks

        exchange = RayExchange(aggregator, student=self.student, emit=lambda event: None)
        said = Publication(cycle, self.student, 0.5, f"weights-of-{self.student}")
        self.storage.commit(names.publication_record(cycle, self.student), publication_fields(said))
        exchange.announce(said)
        publish_blocks(
            self.storage, said, range(self.layout.num_blocks), compute=self._compute,
            fields=self._fields, exchange=exchange,
        )  # fmt: skip
        return {"computed": self.computed_at, "published": time.monotonic()}

    def read(self, aggregator: Any, cycle: int) -> dict[str, float]:
        """Wait for a cycle's teacher and gather a batch; when each was there."""
        import torch

        exchange = RayExchange(aggregator, student=self.student, emit=lambda event: None)
        teacher = exchange.teacher(
            cycle, "all", num_blocks=self.layout.num_blocks, stop=threading.Event()
        )
        assert teacher is not None
        readable = time.monotonic()
        self.teacher = TeacherRows([decode_block(b)[1] for b in teacher.blocks], layout=self.layout)
        ids_B = torch.randint(0, self.layout.num_samples, (BATCH,))
        sums_B = self.teacher.rows(ids_B).sum(dim=1)
        assert torch.allclose(sums_B, torch.ones(BATCH), atol=1e-3)
        return {"readable": readable, "gathered": time.monotonic()}

    def exchange(self, aggregator: Any, cycle: int) -> dict[str, float]:
        """Both, as a student does."""
        return {**self.publish(aggregator, cycle), **self.read(aggregator, cycle)}

    def _fields(self, block: int) -> dict[str, Any]:
        first, _ = self.layout.rows(block)
        return {
            "run": "bench", "cycle": 0, "student": self.student, "first_id": first, "view": 0,
            "t": 3.0, "fingerprint": "synthetic", "encoding": DTYPE.name, "accuracy": 0.5,
            "publish_id": f"weights-of-{self.student}",
        }  # fmt: skip

    def _compute(self, block: int) -> np.ndarray:
        until = time.monotonic() + self.pace_s
        first, stop = self.layout.rows(block)
        rows_NK = self.rows[block % len(self.rows)][: stop - first]
        data = encode_block(rows_NK, metadata=self._fields(block))
        if self.busy:
            while time.monotonic() < until:
                np.sqrt(self.rows[0][:64].astype(np.float32))
        else:
            time.sleep(max(0.0, until - time.monotonic()))
        self.computed_at = time.monotonic()
        return data


@contextmanager
def local_ray(*, store_bytes: int, num_cpus: int | None = None) -> Iterator[None]:
    """A Ray of this process alone, as raymd starts its own."""
    ray.init(
        address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False,
        num_cpus=num_cpus, object_store_memory=store_bytes, _system_config=OWN_RAY,
    )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def touch_store(num_bytes: int) -> None:
    """Have pages of the object store mapped before, as after a first cycle."""
    block = np.ones(32 * 2**20, dtype=np.uint8)
    refs = [ray.put(block) for _ in range(-(-num_bytes // block.nbytes))]
    del refs
    time.sleep(2.0)  # until they are gone


def start(storage: Storage, students: Sequence[str], num_blocks: int) -> tuple[Any, Any]:
    """A run's monitor, which has to be kept, and its aggregator, with workers to merge in."""
    name = f"monitor-{uuid.uuid4().hex[:8]}"
    monitor = start_monitor(name)
    aggregator = start_aggregator(
        storage, attempt="bench", method=get_method("md"), students=students,
        num_blocks=num_blocks, monitor=name,
    )  # fmt: skip
    time.sleep(1.0)
    ray.get([wait_warm.remote() for _ in range(TASKS_IN_FLIGHT)])
    return monitor, aggregator


@ray.remote(num_cpus=0, scheduling_strategy="DEFAULT")
def wait_warm() -> None:
    """Holds a worker until it has imported what merging needs, as it has after a first cycle."""
    import raymd.exchange.merge  # noqa: F401

    time.sleep(2.0)  # so that each needs another worker


def private_bytes(pid: int) -> int:
    """Memory that a process shares with no other (uss)."""
    return int(psutil.Process(pid).memory_full_info().uss)


class PeakPrivate:
    """The most private memory that a process had, looked at now and then while in use."""

    def __init__(self, pid: int, *, every_s: float = 0.25) -> None:
        self.bytes = private_bytes(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(pid, every_s), daemon=True)

    def _look(self, pid: int, every_s: float) -> None:
        while not self._ended.wait(every_s):
            self.bytes = max(self.bytes, private_bytes(pid))

    def __enter__(self) -> "PeakPrivate":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def latest(marks: Sequence[Mapping[str, float]], name: str) -> float:
    """When the last of them reached a mark."""
    return max(mark[name] for mark in marks)
