"""Damaged blocks are made again from checkpoints, byte for byte, whoever does it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raymd.distillation.schedule import Position
from raymd.errors import StorageError
from raymd.exchange.damaged import Damaged
from raymd.storage import Storage
from raymd.training.rebuild import rebuild
from raymd.training.segment import run_segment
from raymd.training.student import StudentTask
from tests.training.conftest import new_exchange, run_to, tiny_data, tiny_settings, tiny_tasks
from tests.training.damage import DAMAGE, contents, flip_a_bit, truncate

NUM_BLOCKS = 3


def mixed_settings() -> Any:
    """Two students that differ in what decides a block's bytes: precision, averaging, layout."""
    settings = tiny_settings()
    first, second = settings.students
    return replace(
        settings,
        students=(replace(first, precision="bf16"), replace(second, ema=0.9, channels_last=False)),
    )


SETTINGS = mixed_settings()
DATA = tiny_data(SETTINGS)
BARRIERS = [Position(epoch) for epoch in SETTINGS.schedule().barriers]


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("raymd.distillation.soft_labels.BLOCK_BYTES", 2 * 3 * 20)
    monkeypatch.setattr("os.fsync", lambda fd: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tasks(tmp_path: Path) -> list[StudentTask]:
    tasks = tiny_tasks(Storage.at(tmp_path / "run"), SETTINGS, data=DATA)
    assert tasks[0].layout.num_blocks == NUM_BLOCKS
    return tasks


def only(task: StudentTask, tasks: list[StudentTask], *, stop: Position) -> None:
    run_segment(
        [task], start=Position(0), stop=stop, exchange=new_exchange(tasks), emit=lambda e: None,
        stopping=threading.Event(),
    )  # fmt: skip


@pytest.mark.parametrize("owner", [0, 1])
@pytest.mark.parametrize("kind", DAMAGE)
def test_students_block_is_made_again_by_the_other_student(
    tasks: list[StudentTask], owner: int, kind: str
) -> None:
    only(tasks[owner], tasks, stop=BARRIERS[0])
    run = Path(tasks[0].storage.uri)
    before = contents(run)
    student, notes = tasks[owner].student.id, list[Any]()
    for block in range(NUM_BLOCKS):
        file = run / f"soft_labels/cycle-000/{student}/block-{block:05d}.arrow"
        for damaged_file in (file, file.with_suffix(".json")):
            DAMAGE[kind](damaged_file)
            damaged = Damaged(0, "student", student, block, "a reason")
            data = rebuild(tasks[1 - owner], notes.append, damaged)
            assert data.tobytes() == file.read_bytes()
            assert contents(run) == before
    assert [note["text"] for note in notes[:1]] == [
        f"block 0 of student {student}, cycle 0, was damaged (a reason); made again from the"
        " checkpoints it came from"
    ]
    assert len(notes) == 2 * NUM_BLOCKS


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
def test_teachers_block_is_made_again_though_raw_blocks_are_gone(
    tasks: list[StudentTask], harm: Callable[[Path], None]
) -> None:
    run_to(tasks, BARRIERS[0])
    only(tasks[0], tasks, stop=BARRIERS[1])  # its newest checkpoint is of the next cycle
    run = Path(tasks[0].storage.uri)
    before = contents(run)
    for block, task in [(0, tasks[0]), (1, tasks[1]), (2, tasks[0])]:
        file = run / f"teacher/cycle-000/all/block-{block:05d}.arrow"
        harm(file)
        data = rebuild(task, lambda e: None, Damaged(0, "teacher", "all", block))
        assert data.tobytes() == file.read_bytes()
        assert contents(run) == before


def test_teacher_uses_the_raw_blocks_that_are_intact(tasks: list[StudentTask]) -> None:
    only(tasks[0], tasks, stop=BARRIERS[0])
    only(tasks[1], tasks, stop=BARRIERS[0])
    run = Path(tasks[0].storage.uri)
    complete = contents(run)
    assert not any(name.startswith("soft_labels") for name in complete)
    rebuild(tasks[0], lambda e: None, Damaged(0, "student", "tiny4", 0))
    for file in (run / "students/tiny4/checkpoints").glob("00001-000000*"):
        file.unlink()  # from here on tiny4's block is nowhere else
    assert (run / "soft_labels/cycle-000/tiny4/block-00000.arrow").exists()
    teacher = "teacher/cycle-000/all/block-00000.arrow"
    truncate(run / teacher)
    data = rebuild(tasks[1], lambda e: None, Damaged(0, "teacher", "all", 0))
    assert data.tobytes() == complete[teacher] == (run / teacher).read_bytes()


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("suffix", [".json", "-weights.safetensors"])
def test_checkpoint_that_is_damaged_too_is_named(
    tasks: list[StudentTask], harm: Callable[[Path], None], suffix: str
) -> None:
    run_to(tasks, BARRIERS[0])
    file = f"students/tiny4/checkpoints/00001-000000{suffix}"
    harm(Path(tasks[0].storage.uri) / file)
    expected = rf"block 1 of teacher all, cycle 0, is damaged and cannot .*{file}.* backup"
    with pytest.raises(StorageError, match=expected):
        rebuild(tasks[1], lambda e: None, Damaged(0, "teacher", "all", 1))


def test_checkpoint_of_other_weights_is_refused(tasks: list[StudentTask]) -> None:
    run_to(tasks, BARRIERS[0])
    storage, stem = tasks[0].storage, "students/tiny4/checkpoints/00001-000000"
    record = storage.record(f"{stem}.json")
    assert record is not None
    other = storage.read("students/tiny6/checkpoints/00001-000000-weights.safetensors")
    storage.commit(f"{stem}.json", record, files={f"{stem}-weights.safetensors": other})
    with pytest.raises(StorageError, match=r"00001-000000\.json is not what cycle 0 was made from"):
        rebuild(tasks[1], lambda e: None, Damaged(0, "teacher", "all", 0))


def test_other_bytes_than_the_first_ones_are_told_of(tasks: list[StudentTask]) -> None:
    only(tasks[0], tasks, stop=BARRIERS[0])
    storage, notes = tasks[0].storage, list[Any]()
    block = "soft_labels/cycle-000/tiny4/block-00000"
    record = storage.record(f"{block}.json")
    assert record is not None
    storage.commit(f"{block}.json", record, files={f"{block}.arrow": b"of another processor"})
    flip_a_bit(Path(storage.uri) / f"{block}.arrow")
    rebuild(tasks[1], notes.append, Damaged(0, "student", "tiny4", 0))
    assert "with other last digits: another processor" in notes[0]["text"]
