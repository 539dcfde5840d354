"""Signals and requeued jobs: a run told to stop commits, says how to go on, and goes on."""

import os
import signal
import threading
from pathlib import Path

import pytest

from raymd.execution.following import Interruption, interruptible
from raymd.storage import Storage
from tests.execution.commands import Command, command, start
from tests.execution.test_resume import new_run, undisturbed
from tests.training.conftest import final_files

__all__ = ["command", "undisturbed"]


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
