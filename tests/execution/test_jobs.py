"""Several jobs on one cluster: raymd's own, that wait for each other, and work of others."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.execution.commands import Command, as_flags, command, start
from tests.execution.conftest import wait_until
from tests.execution.hosts import several_hosts

__all__ = ["command"]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

FLAGS = {
    "students": "resnet8,resnet8",
    "dataset": "digits",
    "subset": "400",
    "epochs": "5",
    "tin": "1",
    "td": "2",
    "precision": "fp32",
    "cpus_per_worker": "1",
    "view": "lines",
}
# Holds a CPU of the cluster until its input ends, as anybody's work might.
FOREIGN = """
    import sys, ray
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
    group = ray.util.placement_group([{"CPU": 1}])
    ray.get(group.ready())
    print("holds", flush=True)
    sys.stdin.read()
"""


def flags(address: str, name: str, **more: str) -> list[str]:
    named = {**FLAGS, "address": address, "name": name, **more}
    return as_flags(named)


def test_second_job_waits_for_the_first_and_says_so(command: list[Command], tmp_path: Path) -> None:
    with several_hosts(2) as hosts:
        first = start(command, tmp_path, *flags(hosts.address, "first", epochs="5000"))
        first.wait_for("cycle 1 alone")
        second = start(command, tmp_path, *flags(hosts.address, "second"))
        second.wait_for("first has held 2 workers of 1 CPU")
        hurried = start(command, tmp_path, *flags(hosts.address, "hurried", wait_s="3"))
        assert hurried.end() == 1
        assert "no room on the cluster within 3 s" in hurried.err
        assert "--wait_s" in hurried.err
        assert "Traceback" not in hurried.err
        assert first.process.poll() is None
        assert "cycle 1 alone" not in second.out  # nothing of it has started
        first.process.send_signal(signal.SIGTERM)
        assert first.end() == 130, first.err
        assert second.end() == 0, second.err


def test_job_displaced_by_work_of_others_goes_on_when_there_is_room(
    command: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "8")
    with several_hosts(2) as hosts:
        foreign = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(FOREIGN), hosts.address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ.copy(),
        )  # fmt: skip
        try:
            assert foreign.stdout is not None
            assert foreign.stdout.readline() == "holds\n"
            run = start(command, tmp_path, *flags(hosts.address, "displaced"))
            run.wait_for("work of others took the cluster's place")
            assert foreign.stdin is not None
            foreign.stdin.close()
            wait_until(lambda: foreign.poll() is not None, "the end of the others' work")
            assert run.end() == 0, run.err
        finally:
            foreign.kill()
            foreign.wait()
