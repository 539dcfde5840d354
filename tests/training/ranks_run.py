"""A student's run on several workers: processes of one machine, gloo between them, no Ray."""

import multiprocessing
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from raymd.config import CheckpointEvery
from raymd.exchange import names
from raymd.exchange.facts import Publication
from raymd.exchange.folder import FolderExchange, Teacher
from raymd.models import register_model
from raymd.settings import Settings
from raymd.storage import Storage
from raymd.training.ranks import Ranks
from raymd.training.segment import run_segment
from raymd.training.student import StudentTask
from tests.training.conftest import new_exchange, tiny_data

KILLED = 9
WAIT_S = 60.0


@register_model("plain")
def plain(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """No BatchNorm and no dropout: what it computes does not depend on the number of workers."""
    size = in_channels * image_size * image_size
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, num_classes))


class CountedStop(threading.Event):
    """Says stop, or kills its process, when it is asked for the n-th time."""

    def __init__(self, *, asks: int | None, kill: bool) -> None:
        super().__init__()
        self.asks, self.kill = asks, kill

    def is_set(self) -> bool:
        if self.asks is None:
            return False
        self.asks -= 1
        if self.asks <= 0 and self.kill:
            os._exit(KILLED)
        return self.asks <= 0


class SharedExchange:
    """The folder's exchange as several processes see it: rank 0 merges, the others wait."""

    def __init__(self, task: StudentTask) -> None:
        self.task = task

    def announce(self, publication: Publication) -> None:
        """Nothing: what is committed is found."""

    def deliver(self, publication: Publication, *, block: int, data: np.ndarray | None) -> None:
        """Nothing, likewise."""

    def teacher(self, cycle: int, teacher: str, **options: Any) -> Teacher | None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            done = self.task.storage.record(names.complete_record(cycle)) is not None
            if done or self.task.ranks.is_first:
                exchange: FolderExchange = new_exchange([self.task])
                if self.task.storage.record(names.complete_record(cycle)) is not None:
                    return exchange.teacher(cycle, teacher, **options)
            time.sleep(0.02)
        raise TimeoutError(f"no teacher of cycle {cycle}")


def _worker(
    rank: int, world_size: int, folder: str, rendezvous: str, settings: Settings, kw: dict[str, Any]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
    )
    (student,) = settings.students
    task = StudentTask(
        student=student, settings=settings, data=tiny_data(settings), storage=Storage.at(folder),
        run="run", ranks=Ranks.join(), checkpoint_every=CheckpointEvery(steps=2),
    )  # fmt: skip
    # only the last rank is told to stop, or killed: the others have to notice
    asks = kw["asks"] if rank == world_size - 1 else None
    run_segment(
        [task], start=task.schedule.start, stop=task.schedule.end, exchange=SharedExchange(task),
        emit=lambda event: None, stopping=CountedStop(asks=asks, kill=kw["kill"]),
    )  # fmt: skip
    dist.destroy_process_group()


def run_ranks(
    folder: Path,
    settings: Settings,
    *,
    world_size: int,
    asks: int | None = None,
    kill: bool = False,
) -> list[int]:
    """Run the one student of the settings on several workers to its end, or until it is stopped.

    Args:
        folder: The run's folder; what is committed there is gone on with.
        asks: Stop (or kill) the last rank when it looks at the stop flag for this many-th time.

    Returns:
        The processes' exit codes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.ranks_run"])
    folder.mkdir(exist_ok=True)
    rendezvous = str(folder.parent / f"rendezvous-{uuid.uuid4().hex}")
    options = {"asks": asks, "kill": kill}
    processes = [
        context.Process(
            target=_worker, args=(rank, world_size, str(folder), rendezvous, settings, options)
        )
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]
