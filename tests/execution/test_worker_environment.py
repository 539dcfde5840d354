from types import SimpleNamespace
from typing import Any

import pytest

from raymd.execution import slots
from raymd.execution.plan import make_plan
from raymd.execution.worker_environment import KEPT_PAGES, worker_environment
from raymd.storage import Storage


@pytest.fixture(autouse=True)
def no_choice_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEPT_PAGES:
        monkeypatch.delenv(name, raising=False)


def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_environment() == KEPT_PAGES
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    assert "MALLOC_ARENA_MAX" not in worker_environment()
    assert len(worker_environment()) == len(KEPT_PAGES) - 1


def test_workers_of_a_slot_are_started_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    started: list[Any] = []

    class Trainer:
        def __init__(self, loop: Any, **options: Any) -> None:
            started.append(options["run_config"].worker_runtime_env)

        def fit(self) -> None:
            pass

    monkeypatch.setattr(slots, "Trainer", Trainer)
    work: Any = SimpleNamespace(storage=Storage.at(tmp_path))
    plan = make_plan({"a": 1}, nodes=[{"CPU": 2.0}])
    slots.SlotThread(0, work, plan, num_workers=1).run()
    assert started == [{"env_vars": KEPT_PAGES}]
