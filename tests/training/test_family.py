"""Every method and option of teaching, without Ray: it trains, resumes, does what it says."""

from typing import Any

import pytest

from raymd.distillation.methods import METHODS
from raymd.distillation.schedule import Position
from raymd.exchange.damaged import DamagedTeacherError
from raymd.frozen import TeacherConfig
from raymd.storage import Storage
from raymd.training import teachers
from raymd.training.frozen import keep_frozen, teacher_file
from tests.training.conftest import final_files, run_to, tiny_settings, tiny_tasks

OPTIONS: list[dict[str, Any]] = [
    *({"method": name} for name in sorted(METHODS)),
    {"teacher": "live"},
    {"views": 3},
    {"publish": "ema", "teacher": "live", "student": {"ema": 0.9}},
    {"method": "ec-dnn", "data_split": "disjoint", "relabel_fraction": 0.5},
    {"method": "md", "teachers": 1},
    {"soft_labels": "top_k:2", "soft_label_dtype": "float32"},
]
MORE_OPTIONS: list[dict[str, Any]] = [
    {"publish": "ema", "student": {"ema": 0.9}},
    {"weights": "uniform"},
    {"weights": "inverse_loss"},
    {"correct_only": True},
    {"alpha_floor": 0.5},
    {"kd_ramp": 1},
    {"kd_until": "last_drop"},
    {"kd_until": "3"},
    {"method": "independent", "loss_scale": 2.0},
    {"method": "dml", "dml_update": "simultaneous"},
    {"method": "codistill", "teacher": "live", "refresh_epochs": 2},
    {"method": "md", "teachers": 1, "teacher": "live"},
    {"method": "kd-stored", "views": 2},
    {"method": "codistill", "soft_labels": "top_k:1"},
]


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    # no test here cuts the power, and hundreds of fsyncs take seconds
    monkeypatch.setattr("os.fsync", lambda fd: None)


def name_of(options: dict[str, Any]) -> str:
    return "-".join(f"{k}={v}" for k, v in options.items())


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    storage = Storage.at(tmp_path_factory.mktemp("teacher") / "run")
    run_to(tiny_tasks(storage, tiny_settings(method="independent", epochs=2, seed=9)))
    return storage.uri


def tasks_of(storage: Storage, options: dict[str, Any], teacher_run: str) -> list[Any]:
    options = dict(options)
    taught_by_frozen = METHODS[options.get("method", "md")].taught_by == "teachers"
    num_teachers = options.pop("teachers", 1 if taught_by_frozen else 0)
    teachers = tuple(
        TeacherConfig(id=f"teacher{i}", arch="tiny6", source=teacher_run)
        for i in range(num_teachers)
    )
    settings = tiny_settings(**options, teachers=teachers)
    settings.check()
    tasks = tiny_tasks(storage, settings)
    keep_frozen(storage, settings, tasks[0].data)
    return tasks


@pytest.mark.parametrize(
    "options",
    [*OPTIONS, *(pytest.param(more, marks=pytest.mark.slow) for more in MORE_OPTIONS)],
    ids=name_of,
)
def test_run_that_is_left_and_resumed_ends_with_the_same_bytes(
    options: dict[str, Any], tmp_path: Any, teacher_run: str
) -> None:
    whole = Storage.at(tmp_path / "whole")
    run_to(tasks_of(whole, options, teacher_run))
    parts = Storage.at(tmp_path / "parts")
    tasks = tasks_of(parts, options, teacher_run)
    for epoch in (1, 4):
        run_to(tasks, Position(epoch))
    run_to(tasks)
    assert final_files(parts) == final_files(whole)
    assert {name.partition("/")[0] for name in final_files(whole)} >= {"students"}


def test_live_teacher_waits_for_weights_that_are_being_mended(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, teacher_run: str
) -> None:
    monkeypatch.setattr(teachers, "MENDING_S", 0.0)
    storage = Storage.at(tmp_path / "run")
    tasks = tasks_of(storage, {"method": "kd"}, teacher_run)
    storage.write(teacher_file("teacher0"), b"altered")
    with pytest.raises(DamagedTeacherError, match=r"teacher0.*tiny4 is taught by it"):
        run_to(tasks)
