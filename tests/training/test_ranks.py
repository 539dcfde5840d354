"""One student on several workers: what they agree on, and that restarts change nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from raymd.settings import Settings
from raymd.storage import Storage
from raymd.training.ranks import ALONE
from tests.training.conftest import final_files, tiny_settings
from tests.training.damage import truncate
from tests.training.ranks_run import KILLED, run_ranks


def one_student(arch: str = "tiny4", *, workers: int, **changes: object) -> Settings:
    settings = tiny_settings(**{"epochs": 3, "tin": 1, "td": 1, **changes})
    student = replace(settings.students[0], id=arch, arch=arch, workers_per_student=workers)
    return replace(settings, students=(student,))


def test_alone_everything_is_free_and_unchanged():
    value = object()
    assert ALONE.any(True, False) == (True, False)
    assert (ALONE.sum(3), ALONE.gather(value), ALONE.from_first(value)) == (3, [value], value)
    assert list(ALONE.mine(range(3))) == [0, 1, 2]


@pytest.mark.parametrize("world_size", [2, 3])
def test_stopped_killed_and_damaged_workers_end_alike(tmp_path: Path, world_size: int):
    settings = one_student(workers=world_size, student={"ema": 0.9, "grad_clip": 1.0})
    assert run_ranks(tmp_path / "whole", settings, world_size=world_size) == [0] * world_size
    whole = final_files(Storage.at(tmp_path / "whole"))
    folder = tmp_path / "broken"
    # in the first epoch, with a step of the second checkpoint lost; then in a distillation epoch
    codes = run_ranks(folder, settings, world_size=world_size, asks=4, kill=True)
    assert codes[-1] == KILLED
    assert 0 not in codes
    assert run_ranks(folder, settings, world_size=world_size, asks=4) == [0] * world_size
    assert not (folder / "students" / "tiny4" / "last.safetensors").exists()
    # found by the first worker alone, and all go back
    truncate(max((folder / "students" / "tiny4" / "checkpoints").glob("*-weights.safetensors")))
    assert run_ranks(folder, settings, world_size=world_size) == [0] * world_size
    assert final_files(Storage.at(folder)) == whole


def test_two_workers_take_the_steps_of_one(tmp_path: Path):
    # 48 images in steps of 15 rows at most: two workers have unequal parts
    batches = {"batch_size": 15, "lr": 0.05}
    weights = []
    for workers in (1, 2):
        settings = one_student("plain", workers=workers, student=batches)
        assert set(run_ranks(tmp_path / str(workers), settings, world_size=workers)) == {0}
        file = tmp_path / str(workers) / "students" / "plain" / "last.safetensors"
        weights.append(load_file(file))
    for name, one in weights[0].items():
        torch.testing.assert_close(weights[1][name], one, rtol=1e-4, atol=1e-5)


def test_loss_that_is_no_number_ends_every_worker(tmp_path: Path):
    settings = one_student(workers=2, student={"lr": 1e30})
    assert run_ranks(tmp_path / "run", settings, world_size=2) == [1, 1]
