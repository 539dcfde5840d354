"""Students in turns, on a real Ray: the same bytes as all at once, in any number of slots."""

from pathlib import Path

import pytest

from raymd.config import FitConfig
from raymd.storage import Storage
from tests.execution.commands import Command, as_flags, command, start
from tests.execution.conftest import fit_without_ray
from tests.training.conftest import final_files

__all__ = ["command"]

FLAGS = {
    "dataset": "digits",
    "subset": "400",
    "epochs": "5",
    "tin": "1",
    "td": "2",
    "precision": "fp32",
    "batch_size": "64",
    "name": "turns",
}


def flags(students: str, **more: str) -> list[str]:
    named = {"students": students, **FLAGS, **more}
    return as_flags(named)


def without_ray(students: str, folder: Path, **more: str) -> dict[str, bytes]:
    config = FitConfig.from_mapping(
        {"students": students, **FLAGS, **more, "storage": str(folder / "reference")}
    )
    return final_files(fit_without_ray(config))


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_students_in_turns_end_with_the_bytes_of_students_at_once(
    command: list[Command], tmp_path: Path
) -> None:
    students = "resnet8,resnet14,resnet8"
    run = start(command, tmp_path, *flags(students, slots="1", cpus_per_worker="1"))
    assert run.end() == 0, run.err
    assert (
        "3 students in turns, 1 worker of 3 at a time (as asked; --placement, --slots)" in run.out
    )
    storage = Storage.at(tmp_path / "runs" / "turns")
    assert final_files(storage) == without_ray(students, tmp_path)
    plan = storage.record("plan.json")
    assert plan is not None
    assert (plan["placement"], plan["slots"]) == ("sliced", 1)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eight_students_some_of_two_workers_share_two_places(
    command: list[Command], tmp_path: Path
) -> None:
    students = ",".join(["resnet8"] * 8)
    wide = {"student.resnet8-3.workers_per_student": "2", "student.resnet8-6.batch_size": "32"}
    run = start(command, tmp_path, *flags(students, slots="2", cpus_per_worker="0.5", **wide))
    assert run.end() == 0, run.err
    assert "8 students in turns, 2 workers of 9 at a time" in run.out
    assert run.out.count(" finished") == 8
