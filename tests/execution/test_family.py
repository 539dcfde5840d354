"""md's relatives on a real Ray: the same bytes as without it, whoever shares workers with whom."""

import os
import signal
from pathlib import Path

import pytest

from raymd.config import FitConfig
from raymd.storage import Storage
from tests.execution.commands import Command, as_flags, command, start
from tests.execution.conftest import fit_without_ray, titled
from tests.training.conftest import final_files

__all__ = ["command"]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

FLAGS = {
    "students": "resnet8,resnet14",
    "dataset": "digits",
    "subset": "300",
    "epochs": "4",
    "tin": "1",
    "td": "1",
    "precision": "fp32",
    "batch_size": "64",
    "cpus_per_worker": "1",
    "name": "run",
}


def without_ray(folder: Path, **more: str) -> Storage:
    config = FitConfig.from_mapping({**FLAGS, **more, "storage": str(folder / "reference")})
    return fit_without_ray(config)


@pytest.mark.slow
def test_cohort_killed_in_the_middle_ends_with_the_bytes_of_a_run_without_ray(
    command: list[Command], tmp_path: Path
) -> None:
    method = {"method": "dml", "checkpoint_every": "2steps"}
    run = start(command, tmp_path, *as_flags({**FLAGS, **method}))
    run.wait_for("resnet14  epoch 2/4")
    os.kill(titled("ray::RayTrainWorker", run.process.pid)[0].pid, signal.SIGKILL)
    assert run.end() == 0, run.err
    assert "2 students in step on the same workers" in run.out
    assert "restarted" in run.out
    reference = without_ray(tmp_path, **method)
    assert final_files(Storage.at(tmp_path / "runs" / "run")) == final_files(reference)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"method": "md", "slots": "1", "views": "0"},
        {"method": "md", "teacher": "live"},
        {"method": "kd-stored", "views": "2", "slots": "1"},
        {"method": "md", "soft_labels": "top_k:2", "soft_label_dtype": "float32"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_frozen_teachers_teach_alike_with_and_without_ray(
    options: dict[str, str], command: list[Command], tmp_path: Path
) -> None:
    alone = {"students": "resnet20", "method": "independent", "epochs": "1"}
    teacher = fit_without_ray(
        FitConfig.from_mapping({**FLAGS, **alone, "storage": str(tmp_path / "teacher")})
    )
    options = {**options, "teachers": f"resnet20:{teacher.uri}"}
    run = start(command, tmp_path, *as_flags({**FLAGS, **options}))
    assert run.end() == 0, run.err
    assert "frozen teacher resnet20: resnet20 of " in run.out
    reference = without_ray(tmp_path, **options)
    assert final_files(Storage.at(tmp_path / "runs" / "run")) == final_files(reference)


@pytest.mark.slow
def test_cohort_of_two_workers_is_stopped_and_resumed(
    command: list[Command], tmp_path: Path
) -> None:
    several = {"method": "dml", "workers_per_student": "2", "cpus_per_worker": "0.5"}
    whole = start(command, tmp_path, *as_flags({**FLAGS, **several, "name": "whole"}))
    assert whole.end() == 0, whole.err
    run = start(command, tmp_path, *as_flags({**FLAGS, **several, "checkpoint_every": "2steps"}))
    run.wait_for("resnet14  epoch 2/4")
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == 130, run.err
    again = start(command, tmp_path, "--resume", "--name", "run", "--view", "lines")
    assert again.end() == 0, again.err
    runs = Storage.at(tmp_path / "runs")
    assert final_files(runs.sub("run")) == final_files(runs.sub("whole"))
