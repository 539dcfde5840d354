"""Options of a student's training: that each does what it says, and survives a restart."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors

from raymd.config import CheckpointEvery
from raymd.distillation.encoding import decode_block
from raymd.distillation.methods import accuracy_weights
from raymd.distillation.schedule import Position
from raymd.exchange.blocks import read_block
from raymd.storage import Storage
from raymd.training.building import new_state
from raymd.training.checkpoint import committed_positions, load_weights
from raymd.training.evaluate import predict
from raymd.training.restore import restore
from raymd.training.segment import commit_due, run_segment
from raymd.training.step import train_step
from tests.training.conftest import final_files, new_exchange, run_to, tiny_settings, tiny_tasks

OPTIONS = [
    {"optimizer": "adamw", "lr": 0.01},
    {"lr_schedule": "cosine", "warmup_epochs": 1.5},
    {"ema": 0.9},
    {"grad_clip": 0.5, "label_smoothing": 0.1},
    {"channels_last": False},
]


def last_weights(storage: Storage, student: str = "tiny4") -> dict[str, torch.Tensor]:
    return load_safetensors(storage.read(f"students/{student}/last.safetensors").to_pybytes())


def stopped_in_the_middle(storage: Storage, **changes: Any) -> None:
    """Each student trains some steps of its first epoch, and the process is gone."""
    for task in tiny_tasks(storage, tiny_settings(**changes), every_steps=1):
        stopping = threading.Event()
        left = iter([False, False])
        stopping.is_set = lambda left=left: next(left, True)
        result = run_segment(
            [task], start=Position(0), stop=task.schedule.end, exchange=new_exchange([task]),
            emit=lambda event: None, stopping=stopping,
        )  # fmt: skip
        assert result.ending == "stopped"
        assert result.position.step > 0


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
def test_restart_in_mid_epoch_changes_no_bit_and_the_option_changes_the_weights(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    whole, broken, plain = (Storage.at(tmp_path / name) for name in ("whole", "broken", "plain"))
    run_to(tiny_tasks(whole, tiny_settings(student=options)))
    stopped_in_the_middle(broken, student=options)
    run_to(tiny_tasks(broken, tiny_settings(student=options)))
    assert final_files(broken) == final_files(whole)
    if options != {"channels_last": False}:
        run_to(tiny_tasks(plain, tiny_settings()))
        assert final_files(plain) != final_files(whole)


@pytest.mark.parametrize("augment", [("mixup",), ("crop-flip", "mixup"), ("randaugment",)])
def test_augmentation_repeats_after_a_restart(tmp_path: Path, augment: tuple[str, ...]) -> None:
    whole, broken = (Storage.at(tmp_path / name) for name in ("whole", "broken"))
    run_to(tiny_tasks(whole, tiny_settings(augment=augment)))
    stopped_in_the_middle(broken, augment=augment)
    run_to(tiny_tasks(broken, tiny_settings(augment=augment)))
    assert final_files(broken) == final_files(whole)


def test_averaged_weights_are_kept_and_the_trained_ones_published(storage: Storage) -> None:
    settings = tiny_settings(epochs=2, td=1, student={"ema": 0.5})
    tasks = tiny_tasks(storage, settings)
    run_to(tasks, stop=Position(1))
    task = tasks[0]
    (name,) = [n for n in storage.list(f"{task.folder}/checkpoints") if n.startswith("00001-0")
               and n.endswith("averaged.safetensors")]  # fmt: skip
    averaged = load_safetensors(storage.read(f"{task.folder}/checkpoints/{name}").to_pybytes())
    trained = load_weights(task, Position(1))
    assert not torch.equal(averaged["head.weight"], trained["head.weight"])
    record = storage.record(f"{task.folder}/checkpoints/00001-000000.json")
    state = restore(task, start=Position(1))
    assert torch.equal(state.kept.state_dict()["head.weight"], averaged["head.weight"])
    assert torch.equal(state.model.state_dict()["head.weight"], trained["head.weight"])
    assert record["averaged_steps"] == 3
    # the teacher is made of what the trained weights say, at the accuracy that they have
    probs_NK = predict(task, state.model, task.data.train, t=task.settings.t)
    teacher = decode_block(read_block(storage, "teacher/cycle-000/all", block=0))[1]
    other = restore(tasks[1], start=Position(1))
    probs_too = predict(tasks[1], other.model, task.data.train, t=task.settings.t)
    weights = accuracy_weights({"tiny4": state.accuracy, "tiny6": other.accuracy})
    expected = weights["tiny4"] * probs_NK + weights["tiny6"] * probs_too
    np.testing.assert_allclose(teacher, expected, atol=1e-3)


def test_averaging_follows_its_equation(storage: Storage) -> None:
    task = tiny_tasks(storage, tiny_settings(student={"ema": 0.75}))[0]
    state = new_state(task)
    epoch, expected = task.schedule.epochs[0], None
    for batch in task.loader().batches(0):
        train_step(task, state, epoch, batch, None)
        now = state.model.head.weight.detach().clone()
        expected = now if expected is None else 0.75 * expected + 0.25 * now
    torch.testing.assert_close(state.kept.head.weight, expected)
    assert torch.equal(state.kept.bn.running_mean, state.model.bn.running_mean)


def test_gradient_clip_bounds_the_step(storage: Storage) -> None:
    options = {"grad_clip": 0.01, "weight_decay": 0.0, "momentum": 0.0, "lr": 1.0}
    task = tiny_tasks(storage, tiny_settings(student=options))[0]
    state = new_state(task)
    before = [p.detach().clone() for p in state.model.parameters()]
    train_step(task, state, task.schedule.epochs[0], next(task.loader().batches(0)), None)
    moved = [(p.detach() - b).norm() for p, b in zip(state.model.parameters(), before, strict=True)]
    assert float(torch.stack(moved).norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("every", "steps", "epochs", "due"),
    [
        (CheckpointEvery(steps=5), 4, 0, False),
        (CheckpointEvery(steps=5), 5, 0, True),
        (CheckpointEvery(epochs=2), 99, 1, False),
        (CheckpointEvery(epochs=2), 0, 2, True),
        (CheckpointEvery(seconds=3600), 99, 9, False),
        (CheckpointEvery(seconds=1e-9), 1, 0, True),
    ],
)
def test_commit_is_due_by_steps_epochs_or_time(
    storage: Storage, every: CheckpointEvery, steps: int, epochs: int, due: bool
) -> None:
    task = replace(tiny_tasks(storage, tiny_settings())[0], checkpoint_every=every)
    state = new_state(task)
    state.steps_since_commit, state.epochs_since_commit = steps, epochs
    assert commit_due(task, state) is due


def test_checkpoint_of_every_epoch_is_there(storage: Storage) -> None:
    settings = tiny_settings(method="independent", epochs=3)
    task = replace(tiny_tasks(storage, settings)[0], checkpoint_every=CheckpointEvery(epochs=1))
    seen = set()
    run_segment(
        [task], start=Position(0), stop=task.schedule.end, exchange=new_exchange([task]),
        emit=lambda event: seen.update(committed_positions(storage, task.folder)),
        stopping=threading.Event(),
    )  # fmt: skip
    assert seen == {Position(1), Position(2), Position(3)}


def test_students_begin_with_the_weights_they_are_told(tmp_path: Path) -> None:
    first, second = Storage.at(tmp_path / "first"), Storage.at(tmp_path / "second")
    run_to(tiny_tasks(first, tiny_settings(epochs=1)))
    said = []
    options = {"init_from": first.uri, "lr": 1e-12}
    run_to(tiny_tasks(second, tiny_settings(epochs=1, student=options)), emit=said.append)
    best = load_safetensors(first.read("students/tiny4/best.safetensors").to_pybytes())
    torch.testing.assert_close(last_weights(second)["head.weight"], best["head.weight"])
    assert any("begins with" in event.get("text", "") for event in said)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("default")
def test_compiled_network_restarts_to_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = (Storage.at(tmp_path / name) for name in ("whole", "broken"))
    options = {"compile": True}
    run_to(tiny_tasks(whole, tiny_settings(student=options)))
    stopped_in_the_middle(broken, student=options)
    run_to(tiny_tasks(broken, tiny_settings(student=options)))
    assert final_files(broken) == final_files(whole)
