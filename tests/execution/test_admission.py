"""Admission on a real Ray of two CPUs: jobs of this process, whoever is killed."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import ray
from ray.exceptions import RayActorError

from raymd.execution.admission import NAME
from raymd.execution.admitted import AdmissionTimeoutError, admitted
from raymd.execution.monitor import NAMESPACE, start_monitor
from tests.execution.conftest import PATIENCE_S, is_alive, titled, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.usefixtures("small_ray")]


class Job(threading.Thread):
    """A driver as admission sees it: a monitor, and a thread that holds a lease for a while."""

    def __init__(self, run: str, num_workers: int) -> None:
        super().__init__(daemon=True)
        self.run_name = run
        self.num_workers = num_workers
        self.name = f"monitor-{uuid.uuid4().hex[:8]}"
        self.monitor = start_monitor(self.name)
        self.said: list[str] = []
        self.inside = threading.Event()
        self.leaving = threading.Event()
        self.stopped = False

    def admitted(self, *, wait_s: float | None = None) -> AbstractContextManager[bool]:
        return admitted(
            [{"CPU": 1.0}] * self.num_workers,
            run=self.run_name,
            monitor=self.monitor,
            monitor_name=self.name,
            wait_s=wait_s,
            tell=self.said.append,
            stopping=lambda: self.stopped,
        )

    def run(self) -> None:
        with self.admitted() as granted:
            if granted:
                self.inside.set()
                self.leaving.wait()

    def wait(self) -> None:
        assert self.inside.wait(PATIENCE_S), f"{self.run_name} was not admitted: {self.said}"

    def wait_for(self, text: str) -> None:
        wait_until(lambda: any(text in line for line in self.said), f"{text!r} in {self.said}")

    def leave(self) -> None:
        self.leaving.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()

    def remembers(self) -> bool:
        return ray.get(self.monitor.lease.remote()) is not None

    def monitor_pid(self) -> int:
        return ray.get(self.monitor.__ray_call__.remote(lambda _: os.getpid()))

    def end(self) -> None:
        self.stopped = True
        self.leaving.set()
        if self.ident is not None:
            self.join(PATIENCE_S)
        ray.kill(self.monitor, no_restart=True)


NewJob = Callable[[str, int], Job]


@pytest.fixture
def new_job() -> Iterator[NewJob]:
    jobs: list[Job] = []

    def new(run: str, num_workers: int) -> Job:
        jobs.append(Job(run, num_workers))
        return jobs[-1]

    yield new
    for job in jobs:
        job.end()


def started(job: Job) -> Job:
    job.start()
    job.wait()
    return job


def queued(job: Job) -> Job:
    """Start a job and wait until it is known to wait."""
    job.start()
    wait_until(job.remembers, f"{job.run_name} in the queue")
    return job


def admission_pid() -> int:
    return wait_until(lambda: titled("ray::Admission"), "the admission actor")[0].pid


def verdict(job: Job) -> str | None:
    """What admission answers a job that asks; None while it is dead."""
    try:
        admission = ray.get_actor(NAME, namespace=NAMESPACE)
        call = admission.ask.remote(job.name, job.run_name, [{"CPU": 1.0}] * job.num_workers)
        return ray.get(call).verdict
    except (ValueError, RayActorError):
        return None


def is_there() -> bool:
    try:
        ray.get_actor(NAME, namespace=NAMESPACE)
    except ValueError:
        return False
    return True


def test_second_job_is_told_why_it_waits_and_gets_in_when_the_first_leaves(new_job: NewJob) -> None:
    first = started(new_job("first", 2))
    second = queued(new_job("second", 1))
    second.wait_for("first has held 2 workers of 1 CPU for")
    assert not second.inside.is_set()
    first.leave()
    second.wait()
    assert not first.remembers()
    assert first.said == []


def test_lease_lapses_when_its_driver_is_gone(new_job: NewJob) -> None:
    first = started(new_job("first", 2))
    second = queued(new_job("second", 2))
    assert not second.inside.is_set()
    ray.kill(first.monitor, no_restart=True)
    second.wait()
    first.leave()
    assert second.remembers()


def test_killed_admission_keeps_leases_and_order(new_job: NewJob) -> None:
    first = started(new_job("first", 2))
    second = queued(new_job("second", 2))
    third = queued(new_job("third", 1))
    for _ in range(2):
        os.kill(admission_pid(), signal.SIGKILL)
        wait_until(lambda: verdict(third) == "waiting", "the next life")
    assert not second.inside.is_set()
    assert not third.inside.is_set()
    os.kill(admission_pid(), signal.SIGKILL)
    first.leave()
    second.wait()
    time.sleep(1.0)
    assert not third.inside.is_set()
    second.leave()
    third.wait()


def test_lease_is_remembered_again_by_a_monitor_that_restarts(new_job: NewJob) -> None:
    job = started(new_job("job", 2))
    before = job.monitor_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not is_alive(before), "its death")
    wait_until(job.remembers, "the new monitor's lease")
    assert job.monitor_pid() != before
    other = new_job("other", 1)
    with pytest.raises(AdmissionTimeoutError), other.admitted(wait_s=0.0):
        pass


def test_only_one_of_jobs_at_once_gets_the_one_place(new_job: NewJob) -> None:
    jobs = [new_job(f"job-{number}", 2) for number in range(4)]
    for job in jobs:
        job.start()
    left = list(jobs)
    while left:
        wait_until(lambda: any(job.inside.is_set() for job in left), "somebody admitted")
        time.sleep(0.2)
        (inside,) = [job for job in left if job.inside.is_set()]
        inside.leave()
        left.remove(inside)


def test_wait_s_bounds_the_wait_and_names_who_is_in_the_way(new_job: NewJob) -> None:
    first = started(new_job("first", 2))
    second = new_job("second", 2)
    for wait_s in (0.0, 2.0):
        asked = time.monotonic()
        with (
            pytest.raises(AdmissionTimeoutError, match=r"within . s: .*first has held .*--wait_s"),
            second.admitted(wait_s=wait_s),
        ):
            pass
        assert time.monotonic() - asked >= wait_s
    first.leave()
    with second.admitted(wait_s=0.0) as granted:
        assert granted
    assert not second.remembers()


def test_stopped_job_waits_no_longer(new_job: NewJob) -> None:
    first = started(new_job("first", 2))
    second = queued(new_job("second", 2))
    third = queued(new_job("third", 2))
    second.stopped = True
    second.join(PATIENCE_S)
    assert not second.inside.is_set()
    first.leave()
    third.wait()


def test_job_that_fails_gives_its_lease_back(new_job: NewJob) -> None:
    first, second = new_job("first", 2), new_job("second", 2)
    with pytest.raises(ZeroDivisionError), first.admitted():
        raise ZeroDivisionError
    with second.admitted(wait_s=0.0) as granted:
        assert granted


def test_admission_ends_when_nobody_needs_it_and_comes_back_when_asked(new_job: NewJob) -> None:
    job = new_job("job", 2)
    with job.admitted():
        before = admission_pid()
    wait_until(lambda: not is_there() and not is_alive(before), "its end", timeout_s=60)
    with job.admitted(wait_s=0.0) as granted:
        assert granted
        assert admission_pid() != before


def test_restarted_admission_that_nobody_calls_ends(new_job: NewJob) -> None:
    with new_job("job", 2).admitted():
        before = admission_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not is_there() and not titled("ray::Admission"), "its end", timeout_s=60)
