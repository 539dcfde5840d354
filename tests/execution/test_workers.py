"""One student on two workers, on a real Ray: one of them killed in a distillation epoch."""

from pathlib import Path

import pytest

from raymd.storage import Storage
from tests.execution.commands import Command, command, start
from tests.execution.conftest import titled
from tests.execution.test_resume import new_run
from tests.training.conftest import final_files

__all__ = ["command"]

FLAGS = ["--students", "resnet8", "--workers_per_student", "2", "--checkpoint_every", "5steps"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_of_two_changes_no_bit(command: list[Command], tmp_path: Path) -> None:
    whole = start(command, tmp_path, *new_run(), *FLAGS, "--storage", str(tmp_path / "whole"))
    assert whole.end() == 0, whole.err
    run = start(command, tmp_path, *new_run(), *FLAGS)
    run.wait_for("cycle 1 distil", times=2)
    workers = titled("ray::RayTrainWorker", run.process.pid)
    assert len(workers) == 2
    workers[-1].kill()
    assert run.end() == 0, run.err
    assert " restarted at epoch" in run.out
    assert "2 workers" in run.out
    folders = [Storage.at(tmp_path / name / "killed") for name in ("whole", "runs")]
    assert final_files(folders[1]) == final_files(folders[0])


# a network of the user's own, in the folder that the command is typed in
NETS = """
import torch
import torch.distributed as dist

class Failing(torch.nn.Module):
    def __init__(self, num_classes, in_channels, image_size):
        super().__init__()
        self.head = torch.nn.Linear(in_channels * image_size**2, num_classes)
        self.steps = 0

    def forward(self, images):
        self.steps += self.training
        if self.steps > 5 and dist.is_initialized() and dist.get_rank() == 1:
            raise ValueError("the second worker cannot go on")
        return self.head(images.flatten(1))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_worker_that_cannot_go_on_ends_its_student_at_once_with_the_reason(
    command: list[Command], tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    run = start(command, tmp_path, *new_run(), *FLAGS, "--students", "nets:Failing")
    assert run.end() == 1
    assert "ValueError: the second worker cannot go on" in run.err
    assert "failure-worker-1.txt" in run.err
    assert "restarted" not in run.out
    assert run.err.count("\n") == 1


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_diverging_student_of_two_workers_ends_the_run_with_its_reason(
    command: list[Command], tmp_path: Path
) -> None:
    run = start(command, tmp_path, *new_run(), *FLAGS, "--lr", "1e30")
    assert run.end() == 1
    assert "resnet8 diverged: the loss is not a number at epoch 1" in run.err
    assert "restarted" not in run.out
    assert run.err.count("\n") == 1
