"""Signals and requeued jobs: a run told to stop commits, says how to go on, and goes on."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import ray  # noqa: F401  # psutil is ray's

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.execution.signals import Interruption, interruptible
from raymd.storage import Storage
from tests.execution.commands import Command, command, start
from tests.execution.conftest import descendants
from tests.execution.test_resume import new_run, undisturbed
from tests.training.conftest import final_files

__all__ = ["command", "undisturbed"]

SLEEP_S = 75.0  # longer than Ray takes to declare a silent node dead


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_kept_and_the_second_is_raised(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def twice() -> None:
        with interruptible() as interruption:
            os.kill(os.getpid(), number)
            assert interruption.name == number.name
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_signals_stay_whoevers_they_were() -> None:
    seen: list[object] = []

    def look() -> None:
        with interruptible() as interruption:
            seen.extend([signal.getsignal(signal.SIGTERM), interruption.name])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM), None]
    assert not isinstance(seen[0], Interruption)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_requeued_job_goes_on_to_the_same_bytes(
    undisturbed: dict[str, bytes], command: list[Command], tmp_path: Path
) -> None:
    # what a queue does: the same command each time, ended by SIGTERM before its time is up
    job = [*new_run(), "--resume", "auto"]
    run = start(command, tmp_path, *job)
    run.wait_for("cycle 1 distil")
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == 130
    assert "SIGTERM: stopping after the step under way" in run.out
    assert run.err.startswith("raymd: stopped, and everything is committed in ")
    assert run.err.rstrip().endswith("--resume --name killed goes on")
    assert "Traceback" not in run.out + run.err
    again = start(command, tmp_path, *job)
    assert again.end() == 0, again.err
    assert "(resumed)" in again.out
    assert " 1/14" not in again.out
    assert final_files(Storage.at(tmp_path / "runs" / "killed")) == undisturbed


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_laptop_that_slept_goes_on_as_if_it_had_not(
    undisturbed: dict[str, bytes], command: list[Command], tmp_path: Path
) -> None:
    run = start(command, tmp_path, *new_run())
    run.wait_for("cycle 1 distil")
    everything = [*descendants(run.process.pid), psutil.Process(run.process.pid)]
    for process in everything:
        process.suspend()
    told = run.out
    time.sleep(SLEEP_S)
    assert run.out == told
    for process in everything:
        process.resume()
    assert run.end() == 0, run.err
    assert "restarted" not in run.out
    assert final_files(Storage.at(tmp_path / "runs" / "killed")) == undisturbed
