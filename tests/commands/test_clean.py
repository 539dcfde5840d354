"""`raymd clean`: lists and removes what interrupted runs left; never results or runs going on."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

import raymd
from raymd.cli import main

HEX = "0123456789abcdef" * 2
HOURS = 3600.0


def age(path: Path, seconds: float) -> None:
    """Make a file, or a folder with all in it, look as if written so long ago."""
    then = time.time() - seconds
    for entry in [path, *path.rglob("*")]:
        os.utime(entry, (then, then))


def snapshot(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this test's Ray, so that no other's remains are seen."""
    folder = tmp_path_factory.mktemp("machine")
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("raymd.execution.own_ray.other_folders", list)
    return folder


def clean(capsys, storage, *words):
    code = main(["clean", "--storage", str(storage), *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def listed(capsys, storage, *words):
    _, out, _ = clean(capsys, storage, *words, "--format", "json")
    document = json.loads(out)
    return [entry["name"] for entry in document["leftovers"]], document["going_on"]


@pytest.fixture
def storage(runs: Path, tmp_path: Path) -> Path:
    """A finished run with leftovers, one that crashed five hours ago, and one that is training."""
    folder = tmp_path / "runs"
    for name in ("finished", "crashed", "training"):
        shutil.copytree(runs / "first", folder / name)
        (folder / name / ".ray_train/attempt").mkdir(parents=True)
        (folder / name / ".ray_train/attempt/state.json").write_text("x" * 1000)
        (folder / name / "students/resnet8" / f".last.safetensors.{HEX}.tmp").write_text("half")
    for name in ("crashed", "training"):
        (folder / name / "result.json").unlink()
    age(folder, 5 * HOURS)
    (folder / "training/history/resnet8/part-00002.jsonl").write_text("{}\n")
    return folder


def test_nothing_is_removed_without_yes(capsys, storage):
    before = snapshot(storage)
    code, out, _ = clean(capsys, storage)
    assert code == 0
    assert "--yes removes what is listed" in out
    assert snapshot(storage) == before


def test_finished_runs_lose_what_only_unfinished_ones_need(capsys, storage):
    names, _ = listed(capsys, storage, "finished")
    assert sorted(names) == [
        "finished/.ray_train",
        "finished/soft_labels",
        "finished/students/resnet14/checkpoints",
        f"finished/students/resnet8/.last.safetensors.{HEX}.tmp",
        "finished/students/resnet8/checkpoints",
    ]


def test_crashed_runs_keep_what_resume_needs(capsys, storage):
    names, _ = listed(capsys, storage, "crashed")
    assert sorted(names) == [
        "crashed/.ray_train",
        f"crashed/students/resnet8/.last.safetensors.{HEX}.tmp",
    ]


def test_a_run_that_wrote_lately_is_left_alone_and_told(capsys, storage):
    names, going_on = listed(capsys, storage)
    assert not any(name.startswith("training/") for name in names)
    assert [entry["run"] for entry in going_on] == ["training"]
    _, out, _ = clean(capsys, storage)
    assert "left alone: training, which wrote" in out


def test_a_run_known_to_be_stopped_is_cleaned(capsys, storage):
    names, going_on = listed(capsys, storage, "training", "--idle_min", "0")
    assert "training/.ray_train" in names
    assert going_on == []


def test_rare_checkpoints_make_a_run_count_as_going_on_for_longer(capsys, storage):
    config = storage / "crashed/config.yaml"
    config.write_text(config.read_text().replace("checkpoint_every: 60s", "checkpoint_every: 4h"))
    age(storage / "crashed", 5 * HOURS)
    _, going_on = listed(capsys, storage, "crashed")
    assert [entry["run"] for entry in going_on] == ["crashed"]


def test_yes_removes_what_was_listed_and_results_stay(capsys, storage):
    names, _ = listed(capsys, storage)
    before = snapshot(storage)
    code, out, _ = clean(capsys, storage, "--yes")
    assert code == 0
    assert "removed" in out
    gone = {path for path in before if any(f"{path}/".startswith(f"{n}/") for n in names)}
    assert snapshot(storage) == sorted(set(before) - gone)
    assert raymd.load_student(storage / "finished").id in ("resnet8", "resnet14")
    assert listed(capsys, storage)[0] == []


def test_sizes_are_those_of_the_files(capsys, storage):
    _, out, _ = clean(capsys, storage, "crashed", "--format", "csv")
    assert "storage,crashed/.ray_train,Ray Train's scratch,1000,False" in out.splitlines()


def test_young_half_written_files_stay(capsys, storage):
    age(storage / "finished", 0)
    names, _ = listed(capsys, storage, "finished")
    assert not any(name.endswith(".tmp") for name in names)


def test_runs_that_were_never_begun_go_and_other_folders_stay(capsys, tmp_path):
    for name in ("20261122-225555-3f2a", "20261122-225556-3f2b", "photos", "named/.ray_train"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / f".probe-{HEX}").write_bytes(b"")
    (tmp_path / "notes.tmp").write_text("mine")
    (tmp_path / "20261122-225557-3f2c").write_text("a file of somebody's")
    age(tmp_path, 5 * HOURS)
    age(tmp_path / "20261122-225556-3f2b", 0)
    assert listed(capsys, tmp_path)[0] == ["20261122-225555-3f2a", "named", f".probe-{HEX}"]


def test_a_whole_run_goes_only_by_name_and_with_yes(capsys, storage):
    clean(capsys, storage, "--run", "finished", "--all")
    assert (storage / "finished/result.json").exists()
    code, _, _ = clean(capsys, storage, "--run", "finished", "--all", "--yes")
    assert (code, (storage / "finished").exists()) == (0, False)
    assert (storage / "crashed/run.json").exists()


def test_a_whole_run_that_may_be_going_on_is_refused(capsys, storage):
    code, _, err = clean(capsys, storage, "--run", "training", "--all", "--yes")
    assert code == 2
    assert "may be going on" in err
    assert (storage / "training/run.json").exists()


def test_a_run_that_was_stopped_is_over_at_once(capsys, storage):
    assert [run["run"] for run in listed(capsys, storage)[1]] == ["training"]
    (storage / "training/ended").write_bytes(b"")
    assert listed(capsys, storage)[1] == []


def test_a_name_that_is_no_run_is_refused(capsys, storage):
    code, _, err = clean(capsys, storage, "finishd", "--yes")
    assert code == 2
    assert "'finishd' is no run" in err


def test_an_empty_storage_has_nothing_to_clean(capsys, tmp_path):
    code, out, _ = clean(capsys, tmp_path / "nowhere")
    assert (code, out) == (0, f"nothing to clean in {tmp_path / 'nowhere'}\n")


def test_a_storage_given_as_a_uri_is_cleaned_too(capsys, storage):
    names, _ = listed(capsys, f"file://{storage}", "crashed")
    assert "crashed/.ray_train" in names


def test_what_cannot_be_removed_is_named_and_fails_the_command(capsys, storage, monkeypatch):
    from raymd.storage import Storage

    def refuse(self, name):
        raise PermissionError("not yours")

    monkeypatch.setattr(Storage, "delete", refuse)
    code, out, err = clean(capsys, storage, "crashed", "--yes")
    assert code == 1
    assert "crashed/.ray_train cannot be removed: not yours" in err
    assert out.endswith(f"0 B in {storage} removed\n")
