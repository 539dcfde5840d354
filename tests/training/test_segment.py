"""run_segment ended at every commit point, and what a whole run leaves behind."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors

from raymd.data.dataset import Dataset
from raymd.distillation.encoding import decode_block
from raymd.distillation.losses import soft_labels
from raymd.distillation.schedule import Position
from raymd.errors import NonFiniteLossError
from raymd.exchange import names
from raymd.exchange.blocks import read_block, read_roster
from raymd.storage import Storage
from raymd.training.building import new_model
from raymd.training.checkpoint import checkpoint_record, committed_positions, load_weights
from raymd.training.segment import run_segment
from tests.training.conftest import (
    final_files,
    new_exchange,
    random_dataset,
    run_to,
    tiny_data,
    tiny_settings,
    tiny_tasks,
)


class Killed(BaseException):
    """The process died here."""


class KillSwitch:
    """Counts writes and deletions and dies at one of them, before or after it happens."""

    def __init__(self) -> None:
        self.count = 0
        self.at: int | None = None
        self.after = False

    def passes(self, action: Any) -> None:
        self.count += 1
        mine = self.at == self.count
        if mine and not self.after:
            raise Killed
        action()
        if mine:
            raise Killed


@pytest.fixture
def kill_switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[KillSwitch]:
    switch = KillSwitch()
    write, delete = Storage.write, Storage.delete
    monkeypatch.setattr(Storage, "write", lambda *a: switch.passes(lambda: write(*a)))
    monkeypatch.setattr(Storage, "delete", lambda *a: switch.passes(lambda: delete(*a)))
    monkeypatch.setattr("os.fsync", lambda fd: None)  # 10,000 of them take minutes
    return switch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _undisturbed(
    folder: Path, kill_switch: KillSwitch, **changes: Any
) -> tuple[dict[str, bytes], int]:
    storage = Storage.at(folder)
    kill_switch.count = 0
    run_to(tiny_tasks(storage, tiny_settings(**changes)))
    return final_files(storage), kill_switch.count


@pytest.mark.parametrize("method", ["md", pytest.param("dml", marks=pytest.mark.slow)])
def test_a_run_killed_at_any_commit_point_ends_bit_identical(
    method: str, tmp_path: Path, kill_switch: KillSwitch
) -> None:
    expected, commits = _undisturbed(tmp_path / "whole", kill_switch, method=method)
    assert commits > 60
    settings = tiny_settings(method=method)
    data = tiny_data(settings)
    every = 1 if method == "md" else 4  # both write alike
    for at in range(1, commits + 1, every):
        storage = Storage.at(tmp_path / f"killed-{at}")
        kill_switch.count, kill_switch.at, kill_switch.after = 0, at, at % 3 == 0
        with pytest.raises(Killed):
            run_to(tiny_tasks(storage, settings, data=data))
        kill_switch.at = None
        run_to(tiny_tasks(storage, settings, data=data))
        assert final_files(storage) == expected, f"killed at commit {at} of {commits}"


def test_a_run_killed_again_and_again_ends_bit_identical(
    tmp_path: Path, kill_switch: KillSwitch
) -> None:
    expected, _ = _undisturbed(tmp_path / "whole", kill_switch)
    storage = Storage.at(tmp_path / "killed")
    data = tiny_data(tiny_settings())
    kills = 0
    while True:
        # Eleven writes are more than one checkpoint takes, so each life gets a step further.
        kill_switch.count, kill_switch.at, kill_switch.after = 0, 11, kills % 2 == 0
        try:
            run_to(tiny_tasks(storage, tiny_settings(), data=data))
            break
        except Killed:
            kills += 1
    assert kills >= 5
    assert final_files(storage) == expected


def test_checkpoint_cadence_changes_no_weight(tmp_path: Path) -> None:
    results = []
    for every_steps in (1, 5, 1000):
        storage = Storage.at(tmp_path / str(every_steps))
        run_to(tiny_tasks(storage, tiny_settings(), every_steps=every_steps))
        results.append(final_files(storage))
    assert results[0] == results[1] == results[2]


def test_md_and_independent_are_bit_identical_until_the_first_distillation_step(
    tmp_path: Path,
) -> None:
    weights = {}
    for method in ("md", "independent"):
        storage = Storage.at(tmp_path / method)
        settings = tiny_settings(method=method, tin=2, td=2)
        tasks = tiny_tasks(storage, settings)
        exchange = new_exchange(tasks)
        for stop in (Position(2), Position(3)):
            for task in tasks:
                run_segment(
                    [task], start=Position(0), stop=stop, exchange=exchange, emit=lambda e: None,
                    stopping=threading.Event(),
                )  # fmt: skip
                weights[method, task.student.id, stop.epoch] = load_weights(task, stop)
    for student in ("tiny4", "tiny6"):
        md, independent = weights["md", student, 2], weights["independent", student, 2]
        assert all(torch.equal(md[key], independent[key]) for key in md)
        md, independent = weights["md", student, 3], weights["independent", student, 3]
        assert any(not torch.equal(md[key], independent[key]) for key in md)


def test_teacher_equals_the_weighted_mean_recomputed_from_publish_time_checkpoints(
    storage: Storage,
) -> None:
    settings = tiny_settings()
    tasks = tiny_tasks(storage, settings)
    barrier = Position(tasks[0].schedule.barriers[0])
    run_to(tasks, barrier)
    block = read_block(storage, f"{names.teacher_folder(0)}/all", block=0)
    assert block is not None
    metadata, teacher_NK = decode_block(block)
    roster = read_roster(storage, 0)
    assert roster is not None
    accuracies = {p.student: p.accuracy for p in roster.publications}
    mean_NK = torch.zeros(len(tasks[0].data.train), 3)
    for task in tasks:
        model, _ = new_model(task)
        model.load_state_dict(load_weights(task, barrier))
        model.eval()
        images = task.data.train.images.float() / 255
        logits_NK = model((images - 0.5) / 0.25).detach()
        mean_NK += (
            accuracies[task.student.id]
            / sum(accuracies.values())
            * soft_labels(logits_NK, t=settings.t)
        )
    assert np.abs(teacher_NK.astype(np.float32) - mean_NK.numpy()).max() < 1e-3
    assert metadata["t"] == settings.t
    assert metadata["fingerprint"] == tasks[0].data.fingerprint


def test_garbage_in_the_test_labels_changes_no_weight(tmp_path: Path) -> None:
    def weights(dataset: Dataset, folder: str) -> dict[str, bytes]:
        storage = Storage.at(tmp_path / folder)
        settings = tiny_settings()
        run_to(tiny_tasks(storage, settings, data=tiny_data(settings, dataset)))
        return {k: v for k, v in final_files(storage).items() if "predictions" not in k}

    assert weights(random_dataset(), "a") == weights(random_dataset(test_seed=99), "b")


def test_one_student_alone_is_its_own_teacher(storage: Storage) -> None:
    settings = tiny_settings(students=tiny_settings().students[:1])
    events: list[dict[str, Any]] = []
    run_to(tiny_tasks(storage, settings), emit=events.append)
    taught = [event for event in events if event["event"] == "taught"]
    assert [event["weights"] for event in taught] == [{"tiny4": 1.0}, {"tiny4": 1.0}]
    first = next(e for e in events if e["event"] == "epoch" and e["phase"] == "distillation")
    assert 0 <= first["kd_loss"] < 0.5


def test_without_a_held_out_slice_training_accuracy_weighs_and_best_is_last(
    storage: Storage,
) -> None:
    settings = tiny_settings(val_fraction=0.0)
    events: list[dict[str, Any]] = []
    run_to(tiny_tasks(storage, settings), emit=events.append)
    published = [e for e in events if e["event"] == "published" and e["cycle"] == 1]
    before = {
        e["student"]: e["train_accuracy"]
        for e in events
        if e["event"] == "epoch" and e["epoch"] == 3
    }
    assert {e["student"]: e["accuracy"] for e in published} == before
    for student in ("tiny4", "tiny6"):
        best, last = (
            storage.read(f"students/{student}/{name}.safetensors").to_pybytes()
            for name in ("best", "last")
        )
        assert best == last


def test_best_weights_are_those_of_the_best_held_out_epoch(storage: Storage) -> None:
    events: list[dict[str, Any]] = []
    run_to(tiny_tasks(storage, tiny_settings()), emit=events.append)
    for student in ("tiny4", "tiny6"):
        accuracies = [
            e["val_accuracy"] for e in events if e["event"] == "epoch" and e["student"] == student
        ]
        record = storage.record(f"students/{student}/model.json")
        assert record is not None
        assert record["best_epoch"] == accuracies.index(max(accuracies))
        scores = record["scores"]
        assert scores["best"]["val"]["correct"] == round(max(accuracies) * 12)
        assert scores["last"]["val"]["correct"] == round(accuracies[-1] * 12)


def test_a_stopped_student_has_committed_and_goes_on(storage: Storage) -> None:
    tasks = tiny_tasks(storage, tiny_settings(), every_steps=1000)
    stopping = threading.Event()
    steps = 0
    original = torch.optim.SGD.step

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2:
            stopping.set()
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        result = run_segment(
            tasks[:1], start=Position(0), stop=tasks[0].schedule.end,
            exchange=new_exchange(tasks), emit=lambda e: None, stopping=stopping,
        )  # fmt: skip
    assert result.ending == "stopped"
    assert result.position == Position(0, 2)
    assert committed_positions(storage, tasks[0].folder)[-1] == Position(0, 2)


def test_history_holds_each_epoch_of_each_student_once_it_is_merged(storage: Storage) -> None:
    from raymd.view.events import decode_history, merge_history

    run_to(tiny_tasks(storage, tiny_settings()))
    for student in ("tiny4", "tiny6"):
        parts = [
            decode_history(storage.read(f"history/{student}/{name}").to_pybytes(), name=name)
            for name in storage.list(f"history/{student}")
        ]
        records = merge_history(parts)
        assert [record["epoch"] for record in records] == list(range(6))


def test_old_checkpoints_go_and_the_one_published_from_stays(storage: Storage) -> None:
    tasks = tiny_tasks(storage, tiny_settings(tin=1, td=3, epochs=9))
    run_to(tasks)
    positions = committed_positions(storage, tasks[0].folder)
    assert Position(5) in positions  # the last barrier
    assert Position(1) not in positions  # the one before
    assert len(positions) == 3
    named = {
        file
        for position in positions
        for file in (storage.record(checkpoint_record(tasks[0].folder, position)) or {})["files"]
    }
    there = {
        f"{tasks[0].folder}/checkpoints/{n}" for n in storage.list(f"{tasks[0].folder}/checkpoints")
    }
    assert {name for name in there if not name.endswith(".json")} == named


def test_a_diverging_student_says_who_where_and_what_to_try(storage: Storage) -> None:
    from dataclasses import replace

    settings = tiny_settings()
    students = tuple(replace(s, lr=1e30) for s in settings.students)
    with pytest.raises(NonFiniteLossError, match=r"tiny4 diverged.*epoch 1, step \d.*--lr"):
        run_to(tiny_tasks(storage, replace(settings, students=students)))


def test_bf16_trains_and_its_losses_are_float32(storage: Storage) -> None:
    events: list[dict[str, Any]] = []
    run_to(tiny_tasks(storage, tiny_settings(student={"precision": "bf16"})), emit=events.append)
    assert all(np.isfinite(e["loss"]) for e in events if e["event"] == "epoch")
    weights = load_safetensors(storage.read("students/tiny4/last.safetensors").to_pybytes())
    assert weights["head.weight"].dtype == torch.float32
