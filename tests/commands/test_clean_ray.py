"""`raymd clean` and Ray: what a killed driver left goes, what lives stays."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.cli import main
from raymd.execution.compat import NamedActor
from raymd.execution.own_ray import MARK
from raymd.execution.remains import orphaned
from tests.execution.conftest import descendants, is_alive, small_ray, wait_until

__all__ = ["small_ray"]

Row = tuple[str, str, str]

# a driver with a Ray of its own, until its input ends
DRIVER = """
import sys
from raymd.execution.ray_setup import connected
with connected(address=None, verbose=False):
    print("connected", flush=True)
    sys.stdin.read()
"""

# a driver of this Ray: its detached actor outlives it
ABANDON = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False)
class Aggregator:
    def ping(self): pass
made = ray.remote(num_cpus=0)(Aggregator)
for name in sys.argv[2:]:
    ray.get(made.options(name=name, namespace="raymd", lifetime="detached").remote().ping.remote())
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where drivers and `clean` of this test have their Ray's files."""
    made = Path(tempfile.mkdtemp(prefix="clean-", dir="/tmp"))  # short, for sockets
    monkeypatch.setenv("RAY_TMPDIR", str(made))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("raymd.execution.own_ray.other_folders", list)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def driver() -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "connected\n"
    return process


def sessions(folder: Path) -> list[Path]:
    return [mark.parent for mark in folder.glob(f"ray/session_2*/{MARK}")]


def cleaned(
    capsys: pytest.CaptureFixture[str], storage: Path, *words: str
) -> list[tuple[str, ...]]:
    """Place, name and what it is, of what `clean` lists or removes."""
    assert main(["clean", "--storage", str(storage), "--format", "json", *words]) == 0
    rows = json.loads(capsys.readouterr().out)["leftovers"]
    assert all(row["removed"] == ("--yes" in words) for row in rows)
    return [(row["place"], row["name"], row["what"]) for row in rows]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_session_of_a_killed_driver_goes_and_a_living_ones_stays(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crashed = driver()
    (dead,) = sessions(folder)
    assert cleaned(capsys, tmp_path, "--yes") == []  # it lives
    below = descendants(crashed.pid)
    keepers = [process for process in below if "pidfd_open" in " ".join(process.cmdline())]
    assert len(keepers) == 1
    for process in [*keepers, psutil.Process(crashed.pid)]:
        process.kill()  # as if the machine's memory had run out: its agents stay for a minute
    crashed.wait()
    living = driver()
    try:
        listed = cleaned(capsys, tmp_path)
        assert [row[:2] for row in listed] == [("machine", str(dead))]
        assert listed[0][2].startswith("Ray of a raymd that is gone, ")
        assert dead.exists()
        assert cleaned(capsys, tmp_path, "--yes") != []
        assert not dead.exists()
        wait_until(
            lambda: not any(is_alive(p.pid) for p in below), "no process of its", timeout_s=9
        )
        assert cleaned(capsys, tmp_path, "--yes") == []
        assert len(sessions(folder)) == 1
    finally:
        living.communicate()
    assert living.returncode == 0
    assert list(folder.glob("ray/session_*")) == []  # one that ends well takes its own along


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_actors_of_a_driver_that_is_gone_go_and_others_stay(
    folder: Path, tmp_path: Path, small_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    class Aggregator:
        def ping(self) -> None: ...

    actor = ray.remote(num_cpus=0)(Aggregator)
    living = actor.options(name="aggregator-mine", namespace="raymd").remote()
    elsewhere = actor.options(name="aggregator-x", namespace="other").remote()
    ray.get([living.ping.remote(), elsewhere.ping.remote()])
    address = ray.get_runtime_context().gcs_address
    subprocess.run([sys.executable, "-c", ABANDON, address, "aggregator-left"], check=True)
    said = ("cluster", "aggregator-left", "actor of a raymd that is gone")
    wait_until(lambda: cleaned(capsys, tmp_path, "--address", address) == [said], "an orphan")
    assert cleaned(capsys, tmp_path, "--address", address, "--yes") == [said]
    wait_until(lambda: cleaned(capsys, tmp_path, "--address", address) == [], "the orphan's end")
    ray.get([living.ping.remote(), elsewhere.ping.remote()])


def test_admission_stays_while_another_driver_needs_it() -> None:
    left = [NamedActor("admission", True), NamedActor("monitor-1", True)]
    assert orphaned(left) == left
    assert orphaned([*left, NamedActor("monitor-2", False)]) == left[1:]


def test_stopped_ray_of_this_machine_is_not_asked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text("127.0.0.1:1\n")
    assert cleaned(capsys, tmp_path) == []


def test_mark_without_a_word_is_not_trusted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = folder / "ray" / "session_2026-01-01_00-00-00_000000_1"
    session.mkdir(parents=True)
    (session / MARK).write_text("")
    assert cleaned(capsys, tmp_path) == []
    (session / MARK).write_text(f"{os.getpid()}\n")  # unlocked, so whoever it was is gone
    assert [row[1] for row in cleaned(capsys, tmp_path)] == [str(session)]
