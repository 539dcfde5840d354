"""train_loop_per_worker: a slot's worker, which carries out one order after the other.

An order is a segment of one student (student.py); the process, with torch and the run's data, stays
warm from one to the next.
"""

import threading
import time
from dataclasses import replace
from functools import cached_property
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError
from ray.util import get_current_placement_group

from raymd.data.splits import Prepared
from raymd.execution.shipping import unpack
from raymd.execution.student import Order
from raymd.execution.work import Work
from raymd.models.shipped import adopt_models
from raymd.training.ranks import Ranks


def train_loop(config: dict[str, Any]) -> None:
    """Carry out a slot's orders; TorchTrainer calls this in every worker of the slot."""
    work: Work = config["work"]
    torch.set_num_threads(work.threads)
    adopt_models(work.models)
    worker = Worker(work, config["slot"], Ranks.join())
    try:
        worker.obey()
    except Exception:
        if worker.driver_is_gone():
            return  # Ray Train would start the worker again for ever
        raise


class Worker:
    """One worker of a slot.

    Args:
        work: What all slots are given.
        slot: Which one it is in.
        ranks: Its place among the slot's workers.
    """

    def __init__(self, work: Work, slot: int, ranks: Ranks) -> None:
        self.work = work
        self.slot = slot
        self.ranks = ranks
        self.stopping = threading.Event()

    @cached_property
    def data(self) -> Prepared:
        """The run's data, read where the object store holds it."""
        return unpack(ray.get(self.work.data[0]))

    def obey(self) -> None:
        """Carry out one order after the other, until the slot is closed."""
        monitor = self.work.monitor
        if self.ranks.is_first:
            ray.get(monitor.joined.remote(self.slot, get_current_placement_group()))
        threading.Thread(target=_watch, args=(monitor, self.stopping), daemon=True).start()
        last, record = -1, None
        # Each worker waits for its orders by itself, in no collective, which would give up.
        while given := ray.get(monitor.next_order.remote(self.slot, last, record)):
            last, segment = given
            started = time.perf_counter()
            order = Order(self.work, segment, number=last, ranks=self.ranks)
            record = order.carry_out(lambda: self.data, self.stopping)
            if torch.cuda.is_available():  # for the next student, or whoever shares the GPU
                torch.cuda.empty_cache()
            record = replace(record, seconds=time.perf_counter() - started)
            if not self.ranks.is_first:
                record = None

    def driver_is_gone(self) -> bool:
        """Whether nobody is left to work for."""
        try:
            ray.get(self.work.monitor.is_stopping.remote())
        except RayActorError:
            return True
        return False


def _watch(monitor: Any, stopping: threading.Event) -> None:
    """Raise this process's flag with the run's; a dead driver stops the student too."""
    try:
        ray.get(monitor.wait_for_stop.remote())
    except RayActorError:
        pass
    finally:
        stopping.set()
