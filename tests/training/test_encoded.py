"""Training on images that stay encoded: stopped anywhere it goes on to the same bytes."""

import threading
from pathlib import Path

import pytest
from safetensors.torch import load as load_safetensors

from raymd.data import load_dataset
from raymd.data.encoded import EncodedSplit
from raymd.data.splits import Prepared
from raymd.deploy import load_student
from raymd.distillation.schedule import Position
from raymd.settings import Settings
from raymd.storage import Storage
from raymd.training.segment import run_segment
from raymd.training.student import prepare_for
from tests.data.photographs import fill_tree, photograph
from tests.training.conftest import final_files, new_exchange, run_to, tiny_settings, tiny_tasks

SIDE = 24


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    fill_tree(folder / "train", classes=("a", "b", "c"), images=40)
    fill_tree(folder / "val", classes=("a", "b", "c"), images=4, first=500)
    # one that cannot be read, on which no run ends
    (folder / "train" / "b" / "004.jpg").write_bytes(b"\xff\xd8 nothing")
    return folder


def settings(**changes) -> Settings:
    return tiny_settings(dataset="imagenet", image_size=SIDE, epochs=3, views=2, **changes)


def prepared(tree: Path, **changes) -> Prepared:
    made = settings(**changes)
    return prepare_for(made, load_dataset("imagenet", data_dir=tree, image_size=SIDE))


def test_a_run_stopped_after_every_step_ends_with_the_same_bytes(tree, tmp_path, monkeypatch):
    monkeypatch.setattr("raymd.training.progress.PROGRESS_S", 0.0)
    stops = 0
    data = prepared(tree)
    assert isinstance(data.train, EncodedSplit)
    whole = Storage.at(tmp_path / "whole")
    told: list[str] = []
    tasks = tiny_tasks(whole, settings(), data=data)
    run_to(tasks, emit=lambda event: told.append(event.get("text", "")))
    stopped = Storage.at(tmp_path / "stopped")
    tasks = tiny_tasks(stopped, settings(), data=prepared(tree))
    exchange, schedule = new_exchange(tasks), tasks[0].schedule
    for end in [Position(epoch) for epoch in schedule.barriers] + [schedule.end]:
        for task in tasks:
            ending = "stopped"
            while ending == "stopped":
                stopping = threading.Event()
                ending = run_segment(
                    [task], start=schedule.start, stop=end, exchange=exchange,
                    emit=lambda e, s=stopping: s.set() if e["event"] == "progress" else None,
                    stopping=stopping,
                ).ending  # fmt: skip
                stops += ending == "stopped"
    assert stops > 10
    assert final_files(stopped) == final_files(whole)
    notes = [text for text in told if "cannot be read" in text]
    assert notes[0].startswith("tiny4: 1 image cannot be read, and a flat one stands in for it: ")
    assert "004.jpg" in notes[0]


def test_a_finished_student_reads_files_as_training_did(tree, tmp_path):
    storage = Storage.at(tmp_path / "run")
    run_to(tiny_tasks(storage, settings(), data=prepared(tree)))
    student = load_student(storage.uri, student="tiny4", weights="last")
    assert (student.image_size, student.geometry.width) == (SIDE, round(SIDE * 256 / 224))
    written = storage.read("students/tiny4/predictions.safetensors").to_pybytes()
    predicted = load_safetensors(written)
    file = sorted((tree / "val").rglob("*.jpg"))[0]
    probs_K = student(student.read(file).unsqueeze(0)).softmax(-1)[0]
    # training crops and resizes in one go, this in two
    assert (probs_K - predicted["last_test"][0]).abs().max() < 0.02
    assert student.preprocess(photograph(1)).shape == (3, SIDE, SIDE)


def test_nobody_right_means_that_all_count_alike_which_is_said_once(tree, tmp_path, monkeypatch):
    monkeypatch.setattr("raymd.training.segment.count_correct", lambda *_: 0)
    told: list[str] = []
    tasks = tiny_tasks(Storage.at(tmp_path / "run"), settings(), data=prepared(tree))
    run_to(tasks, emit=lambda event: told.append(event.get("text", "")))
    assert [text for text in told if "count alike" in text] == [
        "cycle 1: no student got anything right, so all count alike (Eq. 8)"
    ]
