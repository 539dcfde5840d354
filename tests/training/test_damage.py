"""Damaged checkpoints and final files, and full disks: found, told of, and without a trace in the
weights."""

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from raymd.distillation.schedule import Position
from raymd.errors import StorageError, StorageFullError
from raymd.storage import Storage
from raymd.training.checkpoint import checkpoint_record, committed_positions
from raymd.training.segment import run_segment
from raymd.training.student import StudentTask
from tests.training.conftest import (
    final_files,
    new_exchange,
    run_to,
    tiny_data,
    tiny_settings,
    tiny_tasks,
)
from tests.training.damage import DAMAGE, contents, flip_a_bit, truncate

SETTINGS = tiny_settings()
DATA = tiny_data(SETTINGS)
BARRIERS = [Position(epoch) for epoch in SETTINGS.schedule().barriers]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("os.fsync", lambda fd: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tasks_in(folder: Path) -> list[StudentTask]:
    return tiny_tasks(Storage.at(folder), SETTINGS, data=DATA)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_to(tasks_in(folder))
    torch.set_num_threads(threads)
    return folder


def first_to(folder: Path, stop: Position) -> None:
    """Only the first student goes on."""
    tasks = tasks_in(folder)
    run_segment(
        tasks[:1], start=Position(0), stop=stop, exchange=new_exchange(tasks), emit=lambda e: None,
        stopping=threading.Event(),
    )  # fmt: skip


def go_on(folder: Path) -> list[str]:
    """Run to the end; gives back what was told."""
    events: list[Any] = []
    run_to(tasks_in(folder), emit=events.append)
    return [event["text"] for event in events if event["event"] == "note"]


def checkpoints_of_first(folder: Path) -> list[Path]:
    """Records, oldest first."""
    task = tasks_in(folder)[0]
    positions = committed_positions(task.storage, task.folder)
    return [folder / checkpoint_record(task.folder, position) for position in positions]


def test_damage_to_any_file_of_a_checkpoint_changes_no_weight(tmp_path: Path, whole: Path) -> None:
    run_to(tasks_in(tmp_path / "run"), BARRIERS[1])
    checkpoints = tmp_path / "run/students/tiny4/checkpoints"
    newest = checkpoints_of_first(tmp_path / "run")[-1].stem
    names = sorted(path.name for path in checkpoints.iterdir() if path.name[0] == "0")
    assert len(names) >= 6
    for name in names:
        for kind, harm in DAMAGE.items():
            folder = tmp_path / f"{name}-{kind}"
            shutil.copytree(tmp_path / "run", folder)
            harm(folder / "students/tiny4/checkpoints" / name)
            notes = go_on(folder)
            assert final_files(Storage.at(folder)) == final_files(Storage.at(whole)), (name, kind)
            found = name.startswith(newest) and (name, kind) != (f"{newest}.json", "missing")
            assert len(notes) == found
            if found:
                assert notes[0].startswith("tiny4: the checkpoint at epoch 5, step 1 is damaged (")
                assert notes[0].endswith("); going on from epoch 4, step 3")


def test_damaged_checkpoints_are_removed_and_nobody_counts_them_again(tmp_path: Path) -> None:
    run_to(tasks_in(tmp_path), BARRIERS[0])
    older, newest = checkpoints_of_first(tmp_path)
    truncate(newest.with_name(newest.stem + "-weights.safetensors"))
    task = tasks_in(tmp_path)[0]
    leftover = older.with_name(".best-00000.safetensors.0123.tmp")
    leftover.write_bytes(b"half")
    first_to(tmp_path, Position(0, 2))  # restored, and nothing more to do
    assert committed_positions(task.storage, task.folder) == [Position(0, 2)]
    stems = {path.name.partition("-weights")[0] for path in older.parent.iterdir()}
    assert not any(stem.startswith(newest.stem) for stem in stems)
    assert not leftover.exists()


def test_student_goes_back_past_a_barrier_while_its_teacher_is_there(
    tmp_path: Path, whole: Path
) -> None:
    run_to(tasks_in(tmp_path), BARRIERS[0])
    first_to(tmp_path, BARRIERS[1])  # the second is still to distil from the first teacher
    for record in checkpoints_of_first(tmp_path)[-2:]:
        flip_a_bit(record)
    notes = go_on(tmp_path)
    assert notes[-1].endswith("going on from epoch 2, step 1")
    assert final_files(Storage.at(tmp_path)) == final_files(Storage.at(whole))


def test_student_without_any_checkpoint_begins_anew_while_its_first_teacher_is_there(
    tmp_path: Path, whole: Path
) -> None:
    run_to(tasks_in(tmp_path), BARRIERS[0])
    first_to(tmp_path, BARRIERS[1])
    records = checkpoints_of_first(tmp_path)
    assert len(records) == 3
    for record in records:
        truncate(record)
    notes = go_on(tmp_path)
    assert len(notes) == 3
    assert notes[-1].endswith("; beginning anew")
    assert final_files(Storage.at(tmp_path)) == final_files(Storage.at(whole))


def half_published(folder: Path) -> None:
    first_to(folder, BARRIERS[0])


def taught(folder: Path) -> None:
    run_to(tasks_in(folder), BARRIERS[0])


def half_published_again(folder: Path) -> None:
    taught(folder)
    first_to(folder, BARRIERS[1])


@pytest.mark.parametrize("begin", [half_published, taught, half_published_again])
def test_damage_to_any_file_of_the_exchange_changes_no_weight(
    tmp_path: Path, whole: Path, begin: Callable[[Path], None]
) -> None:
    begin(tmp_path / "run")
    for name in contents(tmp_path / "run"):
        if not name.startswith(("teacher/", "soft_labels/")):
            continue
        for kind, harm in DAMAGE.items():
            folder = tmp_path / f"{name.replace('/', '-')}-{kind}"
            shutil.copytree(tmp_path / "run", folder)
            harm(folder / name)
            notes = go_on(folder)
            assert final_files(Storage.at(folder)) == final_files(Storage.at(whole)), (name, kind)
            if name.startswith("teacher/cycle-000/all/"):
                assert notes[0].startswith("block 0 of teacher all, cycle 0, was damaged (")
                assert notes[0].endswith("; made again from the checkpoints it came from")


@pytest.mark.parametrize("harm", [truncate, Path.unlink])
def test_student_that_cannot_go_back_is_an_error_and_loses_nothing_more(
    tmp_path: Path, harm: Any
) -> None:
    run_to(tasks_in(tmp_path), BARRIERS[1])
    for record in checkpoints_of_first(tmp_path):
        harm(record)
    before = contents(tmp_path)
    expected = r"^tiny4 has no checkpoint to go on from \((.*damaged.*|none is left)\).* backup"
    with pytest.raises(StorageError, match=expected):
        go_on(tmp_path)
    assert contents(tmp_path) == before


def test_checkpoint_that_is_not_there_any_more_is_told_of(tmp_path: Path, whole: Path) -> None:
    run_to(tasks_in(tmp_path), BARRIERS[0])
    checkpoints_of_first(tmp_path)[-1].unlink()
    tasks, events = tasks_in(tmp_path), list[Any]()
    run_segment(
        tasks[:1], start=BARRIERS[0], stop=BARRIERS[0], exchange=new_exchange(tasks),
        emit=events.append, stopping=threading.Event(),
    )  # fmt: skip
    (note,) = (event["text"] for event in events if event["event"] == "note")
    assert note == (
        "tiny4: the checkpoint at epoch 2, step 1 is missing; going on from epoch 1, step 3"
    )
    go_on(tmp_path)
    assert final_files(Storage.at(tmp_path)) == final_files(Storage.at(whole))


def test_lost_best_weights_are_made_again_by_going_back(tmp_path: Path, whole: Path) -> None:
    run_to(tasks_in(tmp_path), BARRIERS[0])
    (best,) = (tmp_path / "students/tiny4/checkpoints").glob("best-*")
    flip_a_bit(best)
    (note,) = go_on(tmp_path)
    assert "does not match its checksum); going on from epoch 1, step 3" in note
    assert final_files(Storage.at(tmp_path)) == final_files(Storage.at(whole))


def test_best_weights_lost_for_good_cost_no_epoch_of_training(tmp_path: Path, whole: Path) -> None:
    run_to(tasks_in(tmp_path), BARRIERS[1])
    for best in (tmp_path / "students/tiny4/checkpoints").glob("best-*"):
        best.unlink()
    notes = go_on(tmp_path)
    assert notes[-1].endswith("going on from epoch 5, step 1 without the best weights before it")
    storage, name = Storage.at(tmp_path), "students/tiny4/last.safetensors"
    assert storage.read(name) == Storage.at(whole).read(name)
    record = storage.check_committed("students/tiny4/model.json")
    assert record is not None
    assert record["best_epoch"] in (3, 4, 5)


def test_damaged_final_files_are_written_again(tmp_path: Path, whole: Path) -> None:
    for name in ("model.json", *(f"{w}.safetensors" for w in ("last", "best", "predictions"))):
        folder = tmp_path / name
        shutil.copytree(whole, folder)
        expected = contents(folder)
        flip_a_bit(folder / "students/tiny4" / name)
        assert go_on(folder) == []
        assert contents(folder) == expected


def test_full_disk_stops_a_run_anywhere_and_room_lets_it_go_on(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0

    def fsync(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes == full_at:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr("os.fsync", fsync)
    for full_at in range(1, 200, 14):  # an odd number of which are of folders
        folder, writes = tmp_path / str(full_at), 0
        with pytest.raises(StorageFullError, match="Disk quota exceeded"):
            run_to(tasks_in(folder))
        assert not [name for name in contents(folder) if name.endswith(".tmp")]
        go_on(folder)
        assert final_files(Storage.at(folder)) == final_files(Storage.at(whole))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small filesystem here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_run_on_a_real_full_disk_goes_on_when_there_is_room(small_disk: Path, whole: Path) -> None:
    run, filler = small_disk / "run", small_disk / "filler"
    run_to(tasks_in(run), BARRIERS[0])
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 16 * 1024))
    committed = contents(run / "teacher")
    with pytest.raises(StorageFullError, match=r"No space left on device, [\d,]+ of 2,097,152"):
        go_on(run)
    assert contents(run / "teacher").items() >= committed.items()
    filler.unlink()
    assert go_on(run) == []
    assert final_files(Storage.at(run)) == final_files(Storage.at(whole))
