"""A small Ray for a file of tests, and helpers to find, kill and outwait its processes."""

from collections.abc import Iterator

import pytest
import ray
import torch

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.config import FitConfig
from raymd.execution.opening import open_run
from raymd.execution.ray_setup import OWN_RAY, TRAIN_ENVIRONMENT
from raymd.storage import Storage
from raymd.training.frozen import keep_frozen
from raymd.training.student import StudentTask
from tests.training.conftest import run_to
from tests.waiting import PATIENCE_S, wait_until

__all__ = ["PATIENCE_S", "wait_until"]


@pytest.fixture(scope="module")
def small_ray() -> Iterator[None]:
    """A Ray of two CPUs in this process, with the settings that raymd gives its own."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in TRAIN_ENVIRONMENT.items():
            patch.setenv(key, value)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=200 * 2**20,
            _system_config=OWN_RAY,
        )
        try:
            yield
        finally:
            ray.shutdown()


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def title(process: psutil.Process) -> str:
    """What a Ray process calls itself, such as ``ray::IDLE``; empty once it is gone."""
    try:
        return " ".join(process.cmdline()).strip()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def descendants(pid: int | None = None) -> list[psutil.Process]:
    """All processes under one, this one by default."""
    return psutil.Process(pid).children(recursive=True)


def titled(word: str, pid: int | None = None) -> list[psutil.Process]:
    """Processes under one whose title begins with a word."""
    return [process for process in descendants(pid) if title(process).startswith(word)]


def fit_without_ray(config: FitConfig) -> Storage:
    """The same run in this process alone, on one thread; gives back its folder."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run = open_run(config, lambda line: None)
        tasks = [
            StudentTask(
                student=student,
                settings=run.settings,
                data=run.data,
                storage=run.storage,
                run=run.name,
            )
            for student in run.settings.students
        ]
        keep_frozen(run.storage, run.settings, run.data)
        run_to(tasks)
        return run.storage
    finally:
        torch.set_num_threads(threads)
