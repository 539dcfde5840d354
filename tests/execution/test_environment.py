"""Odd machines: raymd works on them and says what it did, or explains before anything starts."""

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from raymd.errors import UserError
from raymd.execution import own_ray
from raymd.execution.own_ray import LONGEST, choose_place, store_note

LONG = "x" * 100

# connects, says what to, and trains nothing: an actor and an object have to come and go
CONNECT = """
import ray, numpy
from raymd.execution.ray_setup import connected
with connected(address=None, verbose=False) as where:
    print(where)
    size = ray.get(ray.remote(lambda rows: rows.nbytes).remote(ray.put(numpy.zeros(1_000_000))))
    print(size, ray._private.worker._global_node.get_temp_dir_path())
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of the test's; what the user chose for Ray is taken away."""
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


# -- where a Ray of our own keeps its files ------------------------------------------------------


def test_usual_folder_is_kept_where_it_can_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setenv("TMPDIR", f"/tmp/{LONG}")
    assert choose_place() == own_ray.Place(Path("/tmp/ray"))


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_long_folder_is_left_for_a_short_one_with_its_reason(
    variable: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"/tmp/{LONG}")
    place = choose_place()
    assert len(str(place.folder / LONGEST)) <= own_ray.SOCKET_BYTES
    assert place.note.startswith(f"its files in {place.folder}, for /tmp/{LONG}/ray makes paths of")


def test_folder_that_cannot_be_made_is_left_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_text("no folder")
    monkeypatch.setenv("TMPDIR", str(folder / "file"))
    monkeypatch.setattr(own_ray, "SOCKET_BYTES", 1000)
    assert choose_place().note.endswith("cannot be written (RAY_TMPDIR)")


def test_no_short_folder_is_refused_with_what_was_tried(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_ray, "SOCKET_BYTES", 60)
    said = r"with a short path \(RAY_TMPDIR\): /tmp/ray makes paths of .*; /var/tmp/ray makes paths"
    with pytest.raises(UserError, match=said):
        choose_place()


def test_store_that_shared_memory_holds_needs_no_word() -> None:
    assert store_note(10**9, store=10**9, folder=Path("/tmp/ray")) == ""
    assert store_note(None, store=10**9, folder=Path("/tmp/ray")) == ""


def test_store_larger_than_shared_memory_is_told_with_sizes_and_remedy() -> None:
    assert store_note(64 * 2**20, store=7 * 10**9, folder=Path("/tmp/ray")) == (
        "its objects on disk in /tmp/ray, which is slower, for the store wants 7.0 GB and /dev/shm"
        " has 67.1 MB (docker run --shm-size=7g)"
    )


def test_first_version_of_ray_train_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("raymd.execution.slots")  # so that it is there again afterwards
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "0")
    monkeypatch.setitem(sys.modules, "ray.train", types.ModuleType("ray.train"))
    monkeypatch.delitem(sys.modules, "raymd.execution.slots")
    with pytest.raises(UserError, match=r"RAY_TRAIN_V2_ENABLED=0 in the environment: .*; unset it"):
        importlib.import_module("raymd.execution.slots")


@pytest.mark.parametrize(
    ("chosen", "needs_token"),
    [
        ({}, True),
        ({"RAY_AUTH_MODE": "token"}, True),  # as Ray leaves it behind in a process that had one
        ({"RAY_AUTH_MODE": "disabled"}, False),
        ({"RAY_AUTH_TOKEN": "mine"}, False),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/mine"}, False),
    ],
)
def test_token_is_made_where_ray_wants_one_and_no_home_can_keep_it(
    chosen: dict[str, str], needs_token: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    (folder / "file").write_text("no folder")
    monkeypatch.setenv("HOME", str(folder / "file" / "home"))
    assert list(own_ray.environment()) == ["RAY_AUTH_TOKEN"] * needs_token


# -- on real ones --------------------------------------------------------------------------------


def connect(*before: str, **changes: str | None) -> list[str]:
    """What a process that connects prints, with changes to its environment; None takes one away."""
    merged = {**os.environ, "OMP_NUM_THREADS": "1", **changes}
    environment = {key: value for key, value in merged.items() if value is not None}
    done = subprocess.run(
        [*before, sys.executable, "-c", CONNECT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def with_mounts(*mounts: str) -> list[str]:
    """Words before a command, so that it sees these mounts and nobody else does."""
    return ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]


def as_root() -> None:
    if os.geteuid() != 0 or not Path("/usr/bin/unshare").exists():
        pytest.skip("mounts need root and unshare")


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_long_tmpdir_and_no_home_work_and_are_told(folder: Path) -> None:
    long = folder / LONG
    long.mkdir()
    where, worked = connect(TMPDIR=str(long), HOME=None)
    assert where.startswith("a Ray of its own on this machine; its files in /tmp/ray, for ")
    assert worked == "8000000 /tmp/ray"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_home_that_cannot_be_made_works(folder: Path) -> None:
    (folder / "file").write_text("no folder")
    home = str(folder / "file" / "home")
    assert connect(HOME=home, RAY_AUTH_MODE="token")[1] == "8000000 /tmp/ray"


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_shared_memory_of_64_mb_and_read_only_tmpdir_work_and_are_told(folder: Path) -> None:
    as_root()
    where, worked = connect(
        *with_mounts("mount -t tmpfs -o size=64m none /dev/shm", "mount -t tmpfs -o ro none /mnt"),
        TMPDIR="/mnt",
    )
    assert "; its files in /tmp/ray, for /mnt/ray cannot be written (RAY_TMPDIR); " in where
    assert "; its objects on disk in /tmp/ray, which is slower, for the store wants " in where
    assert "/dev/shm has 67.1 MB (docker run --shm-size=" in where
    assert worked == "8000000 /tmp/ray"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tmp_ray_that_cannot_be_written_is_passed_over(folder: Path) -> None:
    as_root()
    if sys.executable.startswith("/tmp/"):
        pytest.skip("this Python lies below /tmp, which is another one in the test")
    # as if somebody else had made it; root may write into any but a read-only one
    mounts = ["mount -t tmpfs none /tmp", "mkdir /tmp/ray", "mount -t tmpfs -o ro none /tmp/ray"]
    where, worked = connect(*with_mounts(*mounts))
    own = f"/tmp/ray-{os.getuid()}"
    assert f"; its files in {own}, for /tmp/ray cannot be written (RAY_TMPDIR)" in where
    assert worked == f"8000000 {own}"
