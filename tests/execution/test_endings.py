"""However a run ends, nothing of it is left within a minute: on its own Ray, or on a joined one."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray
from ray._private.state import actors
from ray.util.placement_group import placement_group_table

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from tests.execution.commands import Command, as_flags, command, start
from tests.execution.conftest import descendants, is_alive, title, wait_until
from tests.execution.hosts import Hosts, several_hosts

__all__ = ["command"]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

GONE_S = 60.0
SHARED_MEMORY = Path("/dev/shm")
# Two students that exchange soft labels twice, on all that a small cluster has.
RUN = {
    "students": "resnet8,resnet8", "dataset": "digits", "epochs": "5", "tin": "1", "td": "2",
    "subset": "200", "batch_size": "32", "precision": "fp32", "cpus_per_worker": "1",
}  # fmt: skip
# Ray's own, one a cluster: it serves whoever trains there, and Ray Train begins it for the first.
SERVICE = "_AutoscalingCoordinatorActor"
LONG = {"epochs": "4001", "td": "2000"}  # not to end by itself
TRAINING = "cycle 1 distil"


@dataclass(frozen=True)
class Way:
    """A way of ending: the run's flags, what is done to the driver, and its exit code."""

    flags: dict[str, str] = field(default_factory=dict)
    signals: tuple[signal.Signals, ...] = ()
    code: int = 0


WAYS = {
    "success": Way(),
    "failure": Way({"lr": "1e30"}, code=1),
    "interrupted": Way(LONG, (signal.SIGINT,), 130),
    "terminated": Way(LONG, (signal.SIGTERM,), 130),
    "interrupted twice": Way(LONG, (signal.SIGINT, signal.SIGINT), 130),
    "killed": Way(LONG, (signal.SIGKILL,), -signal.SIGKILL),
}


def flags(way: Way) -> list[str]:
    return as_flags({**RUN, **way.flags})


def end(run: Command, way: Way) -> list[psutil.Process]:
    """Bring a run to its end; gives back all processes that were ever seen below its driver."""
    seen: dict[int, psutil.Process] = {}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            seen.update((process.pid, process) for process in _below(run.process.pid))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        if way.signals:
            run.wait_for(TRAINING)
        for number in way.signals:
            run.process.send_signal(number)
            time.sleep(0.5)
        assert run.end() == way.code, run.err
    finally:
        ended.set()
        looking.join()
    return list(seen.values())


def _below(pid: int) -> list[psutil.Process]:
    try:
        return descendants(pid)
    except psutil.NoSuchProcess:
        return []


def within_a_minute(what: str, left: Callable[[], object]) -> None:
    """Fail with what is left of it if there still is something after a minute."""
    try:
        wait_until(lambda: not left(), f"an end of {what}", timeout_s=GONE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {left()}") from None


def shared_memory() -> set[str]:
    return {path.name for path in SHARED_MEMORY.glob("plasma*")}


# -- a Ray of its own ------------------------------------------------------------------------------


# a run that succeeds on its own Ray is in every other file's tests
@pytest.mark.parametrize("ended", ["failure", "terminated", "interrupted twice", "killed"])
def test_own_ray_ends_with_its_run(
    ended: str, command: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = WAYS[ended]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = shared_memory()
    run = start(command, tmp_path, *flags(way))
    seen = end(run, way)
    assert len(seen) > 5  # the control service, the raylet, its agents, workers
    within_a_minute(
        "its processes", lambda: [title(process) for process in seen if is_alive(process.pid)]
    )
    within_a_minute("its shared memory", lambda: shared_memory() - before)


# -- a cluster that it joined ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Hosts]:
    """A cluster for exactly one run, which this process has joined too."""
    with several_hosts(2.0) as hosts:
        ray.init(address=hosts.address, log_to_driver=False)
        try:
            yield hosts
        finally:
            ray.shutdown()


def alive() -> list[str]:
    """Actors that have not ended, of any namespace."""
    return [
        f"{actor['ActorClassName']} {actor['State']}"
        for actor in actors().values()
        if actor["State"] != "DEAD" and actor["ActorClassName"] != SERVICE
    ]


def groups() -> list[str]:
    return [key for key, group in placement_group_table().items() if group["state"] != "REMOVED"]


def taken() -> dict[str, float]:
    """Resources that somebody holds, bytes of the object store among them."""
    free = ray.available_resources()
    return {
        name: total - free.get(name, 0.0)
        for name, total in ray.cluster_resources().items()
        if total != free.get(name, 0.0)
    }


def busy(hosts: Hosts) -> list[str]:
    """Workers of the cluster that do, or keep, something."""
    titles = [title(process) for process in descendants(hosts.process.pid)]
    quiet = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", f"ray::{SERVICE}")
    return [name for name in titles if name.startswith("ray::") and name not in quiet]


@pytest.mark.parametrize("ended", ["success", "interrupted", "killed"])
def test_joined_cluster_is_left_as_it_was_found(
    ended: str, cluster: Hosts, command: list[Command], tmp_path: Path
) -> None:
    way = WAYS[ended]
    assert (alive(), groups(), taken(), busy(cluster)) == ([], [], {}, [])
    before = shared_memory()
    run = start(command, tmp_path, *flags(way), "--address", cluster.address)
    seen = end(run, way)
    within_a_minute("its actors", alive)
    within_a_minute("its placement groups", groups)
    within_a_minute("what it held", taken)
    within_a_minute("its workers", lambda: busy(cluster))
    within_a_minute(
        "its processes", lambda: [title(process) for process in seen if is_alive(process.pid)]
    )
    assert shared_memory() <= before
    os.kill(cluster.process.pid, 0)  # and the cluster lives
