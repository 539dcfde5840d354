import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from raymd.errors import UserError
from raymd.models import build_model
from raymd.storage import Storage
from raymd.training import building
from raymd.training.building import new_optimizer, training_network
from raymd.training.student import StudentTask
from tests.training.conftest import tiny_settings, tiny_tasks


def task_of(folder: Path, **student: object) -> StudentTask:
    task = tiny_tasks(Storage.at(folder), tiny_settings())[0]
    return replace(task, student=replace(task.student, **student))


def trained(task: StudentTask, *, fused: bool, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A channels_last network after five steps."""
    monkeypatch.setattr(building, "FUSED_DEVICES", ("cpu",) if fused else ())
    torch.manual_seed(0)
    model = build_model("resnet8", num_classes=3, in_channels=3, image_size=8)
    model.to(memory_format=torch.channels_last)
    optimizer = new_optimizer(task, model)
    assert optimizer.defaults["fused"] is fused
    for step in range(5):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(6, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fused_optimizer_takes_the_steps_of_the_plain_one(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(tmp_path, optimizer=optimizer, lr=1e-3)
    fused, plain = (trained(task, fused=is_on, monkeypatch=monkeypatch) for is_on in (True, False))
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_weights_that_lie_otherwise_than_their_gradients_are_not_fused(tmp_path: Path) -> None:
    model = nn.Linear(4, 4)
    assert new_optimizer(task_of(tmp_path), model).defaults["fused"]
    model.weight = nn.Parameter(torch.zeros(4, 8)[:, ::2])
    assert not new_optimizer(task_of(tmp_path), model).defaults["fused"]


def test_compiling_for_a_cpu_without_a_compiler_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    task = task_of(tmp_path, compile=True)
    with pytest.raises(UserError, match=r"no C\+\+ compiler on .* \(--compile false"):
        training_network(task, nn.Linear(2, 2))


def test_step_seeds_the_generator_that_dropout_draws_from(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    drawn = []
    for step in (0, 1, 0):
        task.seed_step(task.schedule.start._replace(step=step))
        drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
