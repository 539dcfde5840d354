"""A result of whoever finished, put together from committed files."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from raymd.distillation.schedule import Position
from raymd.exchange.facts import Loss
from raymd.execution.collect import collect
from raymd.result import LostStudent, Result
from raymd.storage import Storage
from raymd.training.segment import run_segment
from tests.training.conftest import new_exchange, tiny_data, tiny_settings, tiny_tasks


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("os.fsync", lambda fd: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_lost_student_stands_in_the_result_and_in_no_later_teacher_or_ensemble(
    tmp_path: Path,
) -> None:
    settings = tiny_settings()
    data = tiny_data(settings)
    storage = Storage.at(tmp_path / "run")
    kept, lost = tiny_tasks(storage, settings, data=data)
    exchange = new_exchange([kept, lost])
    first, second = (Position(epoch) for epoch in kept.schedule.barriers)
    for task, stop in ((kept, first), (lost, first), (lost, second), (kept, kept.schedule.end)):
        if stop == kept.schedule.end:
            exchange.lose(Loss("tiny6", "its GPU burnt", epoch=3, step=2))
        run_segment(
            [task], start=Position(0), stop=stop, exchange=exchange, emit=lambda event: None,
            stopping=threading.Event(),
        )  # fmt: skip
    result = collect(storage, settings, data, seconds=1.0, object_store_peak_bytes=77)
    assert [student.id for student in result.students] == ["tiny4"]
    assert result.lost == (LostStudent("tiny6", "its GPU burnt", epoch=3, cycle=1),)
    assert result.ensemble.members == ("tiny4",)
    assert result.ensemble.last == result.students[0].last
    assert [list(cycle.weights) for cycle in result.cycles] == [["tiny4", "tiny6"], ["tiny4"]]
    assert result.cycles[1].weights == {"tiny4": 1.0}
    assert result.object_store_peak_bytes == 77
    assert Result.from_json(storage.read("result.json").to_pybytes().decode()) == result
