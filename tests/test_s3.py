"""S3 itself, as far as moto's server has it: files, outages, kills; how much it is asked."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray  # noqa: F401  # psutil is ray's

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.cli import main
from raymd.config import FitConfig
from raymd.data import load_dataset
from raymd.data.splits import prepare
from raymd.deploy import load_student
from raymd.errors import StorageAccessError, StorageRefusedError
from raymd.storage import Storage
from tests.data.photographs import fill_tree
from tests.execution.commands import Command, as_flags, command, start
from tests.execution.conftest import descendants, fit_without_ray, wait_until
from tests.moto_store import BUCKET, SECRET, ObjectStore, object_store
from tests.training.conftest import final_files
from tests.tuning.hpo.test_search import TINY, write_space
from tests.tuning.hpo.test_search import start as start_search

__all__ = ["command"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FLAGS = {
    "students": "resnet8,resnet14",
    "dataset": "digits",
    "subset": "400",
    "epochs": "6",
    "tin": "1",
    "td": "2",
    "precision": "fp32",
    "lr": "0.02",
    "batch_size": "64",
    "cpus_per_worker": "0.5",
    "name": "killed",
}
RUNS = f"s3://{BUCKET}/runs"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as made:
        yield made


def kill(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """SIGKILL of a driver; its Ray ends by itself."""
    left = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(left, timeout=60)


# -- files ----------------------------------------------------------------------------------------


def test_committed_files_are_read_back_listed_and_removed(store: ObjectStore) -> None:
    storage = Storage.at(f"s3://{BUCKET}/files/run")
    storage.check_writable()
    large = os.urandom(11 * 2**20)  # in parts
    record = storage.commit("a/b.json", {"n": 1}, files={"a/small": b"1", "a/large": large})
    assert storage.check_committed("a/b.json") == record
    assert storage.read("a/large").to_pybytes() == large
    assert storage.list() == ["a"]
    assert storage.list("a") == ["b.json", "large", "small"]
    assert storage.exists("a")
    storage.remove_committed("a/b.json")
    assert storage.list("a") == []
    storage.write("a/c/d", b"")
    storage.delete("a")
    assert not storage.exists("a/c/d")
    assert storage.list("none") == []


def test_small_file_is_one_request_and_its_removal_three(store: ObjectStore) -> None:
    storage = Storage.at(f"s3://{BUCKET}/few")
    storage.write("a/first", b"1")
    for change, kinds in (
        (lambda: storage.write("a/b", b"1"), ["PUT"]),
        (lambda: storage.read("a/b"), ["HEAD", "GET"]),
        (lambda: storage.list("a"), ["GET"]),
        (lambda: storage.record("a/none.json"), ["HEAD"]),
        # asked twice whether it is there, and pyarrow keeps the folder by an empty object
        (lambda: storage.delete("a/b"), ["HEAD", "HEAD", "DELETE", "PUT"]),
    ):
        store.requests.clear()
        change()
        assert [asked.split()[0] for asked in store.requests] == kinds


def test_short_outage_goes_unnoticed_and_a_long_one_is_told(store: ObjectStore) -> None:
    storage = Storage.at(f"s3://{BUCKET}/outage")
    store.outage = 5
    storage.write("a", b"1")
    assert store.outage == 0
    store.outage = 10**6
    try:
        with pytest.raises(StorageAccessError, match="it is overloaded: try again later"):
            storage.write("b", b"1")
    finally:
        store.outage = 0
    assert storage.list() == ["a"]


def test_missing_bucket_is_told_at_once(
    store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StorageRefusedError, match="there is no such bucket"):
        Storage.at("s3://nobody-made-it/runs").write("a", b"1")
    assert main(["evaluate", "latest", "--storage", "s3://nobody-made-it/runs"]) == 2
    assert "no run in s3://nobody-made-it/runs" in capsys.readouterr().err


# -- data -----------------------------------------------------------------------------------------


def test_images_of_a_bucket_are_the_data_of_the_folder(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_tree(tmp_path / "photos/train", images=5)
    monkeypatch.setenv("RAYMD_DATA_CACHE", str(tmp_path / "cache"))
    bucket = Storage.at(f"s3://{BUCKET}/photos")
    for path in (tmp_path / "photos").rglob("*.jpg"):
        bucket.write(str(path.relative_to(tmp_path / "photos")), path.read_bytes())

    def fingerprint(place: str) -> str:
        data = load_dataset("imagenet", data_dir=place, image_size=16)
        return prepare(data, subset=None, val_fraction=0.0, seed=0).fingerprint

    assert fingerprint(bucket.uri) == fingerprint(str(tmp_path / "photos"))
    store.requests.clear()
    fingerprint(bucket.uri)
    assert {asked.split()[0] for asked in store.requests} == {"GET"}  # the listing


# -- runs and searches ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The final files of the run that FLAGS says, in a folder."""
    folder = str(tmp_path_factory.mktemp("undisturbed"))
    return final_files(fit_without_ray(FitConfig.from_mapping({**FLAGS, "storage": folder})))


def test_run_ends_with_the_same_weights_and_asks_little(
    store: ObjectStore, undisturbed: dict[str, bytes]
) -> None:
    store.requests.clear()
    run = fit_without_ray(FitConfig.from_mapping({**FLAGS, "storage": f"s3://{BUCKET}/alone"}))
    asked = list(store.requests)
    assert final_files(run) == undisturbed
    assert not any(request.startswith(f"POST /{BUCKET}/") for request in asked)  # in parts
    assert len(asked) < 400  # two students, two cycles; design.md says how many with Ray


@pytest.mark.ray
def test_killed_run_is_resumed_to_the_same_weights_and_used(
    store: ObjectStore,
    undisturbed: dict[str, bytes],
    command: list[Command],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun = start(command, tmp_path, "--storage", RUNS, *as_flags(FLAGS))
    begun.wait_for("cycle 1 distil")
    kill(begun.process)
    storage = Storage.at(f"{RUNS}/killed")
    assert not storage.exists("result.json")
    resumed = start(command, tmp_path, "--storage", RUNS, "--resume")
    assert resumed.end() == 0, resumed.err
    assert final_files(storage) == undisturbed
    assert resumed.err == ""

    assert storage.list("tensorboard") == ["ensemble", "resnet14", "resnet8"]
    model = load_student(storage.uri, student="resnet8")
    assert len(model.classes) == 10
    assert main(["evaluate", "latest", "--storage", RUNS, "--format", "json"]) == 0
    assert '"resnet14"' in capsys.readouterr().out
    for folder in (begun.folder, resumed.folder):
        assert SECRET not in (folder / "out").read_text() + (folder / "err").read_text()
    assert main(["clean", "killed", "--storage", RUNS, "--all", "--yes"]) == 0
    assert not storage.exists("run.json")


@pytest.mark.ray
def test_killed_search_is_restored_from_the_store(store: ObjectStore, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", {"t": [2]}, epochs=6, td=2, cpus_per_worker=1)
    words = ["--storage", f"s3://{BUCKET}/searches", "--name", "killed"]
    begun = start_search("--space", space, *words)
    folder = Storage.at(f"s3://{BUCKET}/searches/killed")

    def trained() -> bool:
        assert begun.poll() is None, begun.communicate()[0]
        return any(folder.list(f"trials/{trial}/seed-0/history") for trial in folder.list("trials"))

    wait_until(trained, "a committed epoch", timeout_s=400)
    kill(begun)
    resumed = start_search("--resume", *words)
    told, _ = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, told
    points = json.loads(folder.read("search.json").to_pybytes())["points"]
    assert [point["status"] for point in points] == ["finished"]
    alone = {**TINY, "epochs": 6, "td": 2, "cpus_per_worker": 1, "t": 2, "name": "seed-0"}
    undisturbed = fit_without_ray(
        FitConfig.from_mapping({**alone, "storage": str(tmp_path / "alone")})
    )
    assert final_files(folder.sub(points[0]["runs"][0])) == final_files(undisturbed)
