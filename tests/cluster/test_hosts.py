"""Hosts made on this machine: each by itself, and nothing of them left."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray  # noqa: F401  # psutil is ray's

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from tests.cluster.hosts import PREFIX, ROOT, in_a_world, missing
from tests.waiting import wait_until

MAKE = [sys.executable, "-m", "tests.cluster.hosts"]
APART = """
ssh host1 'sleep 12345 >/dev/null 2>&1 & touch /tmp/mine /dev/shm/mine ~/mine'
ssh host1 'echo ours > /srv/raymd/file'
ssh host2 'hostname; ls /tmp /dev/shm; cat ~/mine; pgrep -f "sleep 12345" -c; cat /srv/raymd/file'
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def possible() -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def maker() -> Iterator[subprocess.Popen[str]]:
    """A process that has made a host and holds it."""
    command = [*MAKE, "1", "--", "sleep", "1000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


def folders() -> set[Path]:
    return set(Path("/var/tmp").glob(f"{PREFIX}*"))


def test_hosts_have_processes_and_files_of_their_own_and_share_a_folder(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = folders()
    assert in_a_world([*MAKE, "2", "--", "sh", "-c", APART]) == 0
    out = capfd.readouterr().out.split()
    assert out[out.index("host2", out.index("host2") + 1) :] == [
        "host2", "/dev/shm:", "/tmp:", "0", "ours",
    ]  # fmt: skip
    assert folders() <= before
    assert not [p for p in psutil.process_iter(["cmdline"]) if "12345" in (p.info["cmdline"] or [])]


def test_hosts_end_with_their_maker_however_it_ends(maker: subprocess.Popen[str]) -> None:
    assert maker.stdout is not None
    assert maker.stdout.readline() == "ssh to host1\n"
    world = psutil.Process(maker.pid).children(recursive=True)
    assert any(process.name() == "sshd" for process in world)
    [left] = [folder for folder in folders() if (folder / "host1").is_dir()]
    maker.kill()
    _, alive = psutil.wait_procs(world, timeout=60)
    assert not alive
    assert left.is_dir()
    wait_until(lambda: in_a_world(["true"]) == 0 and not left.exists(), "the next to tidy up")
