"""Hosts made on this machine: each by itself, and nothing of them left."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray  # noqa: F401  # psutil is ray's

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from tests.cluster.hosts import ROOT, in_a_world, missing
from tests.waiting import wait_until

MAKE = [sys.executable, "-m", "tests.cluster.hosts"]
APART = """
ssh host1 'sleep 12345 >/dev/null 2>&1 & touch /tmp/mine /dev/shm/mine ~/mine'
ssh host1 'echo ours > /srv/raymd/file'
ssh host2 'for file in /tmp/mine /dev/shm/mine ~/mine; do test -e $file && echo $file; done
pgrep -xc sleep; hostname; cat /srv/raymd/file'
"""

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def possible() -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def maker() -> Iterator[subprocess.Popen[str]]:
    """A process that has made a host and holds it."""
    command = [*MAKE, "1", "--", "sh", "-c", "echo $RAYMD_WORLD; sleep 1000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


def test_hosts_have_processes_and_files_of_their_own_and_share_a_folder(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert in_a_world([*MAKE, "2", "--", "sh", "-c", APART]) == 0
    assert capfd.readouterr().out == "ssh to host1 host2\n0\nhost2\nours\n"
    assert not [p for p in psutil.process_iter(["cmdline"]) if "12345" in (p.info["cmdline"] or [])]


def test_hosts_end_with_their_maker_however_it_ends(maker: subprocess.Popen[str]) -> None:
    assert maker.stdout is not None
    assert maker.stdout.readline() == "ssh to host1\n"
    left = Path(maker.stdout.readline().strip())
    world = psutil.Process(maker.pid).children(recursive=True)
    assert any(process.name() == "sshd" for process in world)
    maker.kill()
    _, alive = psutil.wait_procs(world, timeout=60)
    assert not alive
    assert left.is_dir()
    assert in_a_world(["true"]) == 0
    assert left.is_dir()  # for all that is known it is one that is being made
    os.utime(left, (0, 0))
    wait_until(lambda: in_a_world(["true"]) == 0 and not left.exists(), "the next to tidy up")
