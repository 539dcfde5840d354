"""One small fit on a real Ray, looked at from all sides: its result, its files, what it leaves."""

import io
import json
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import ray
from rich.console import Console

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.config import FitConfig
from raymd.execution.run import fit
from raymd.result import Result
from raymd.storage import Storage
from raymd.view.events import decode_history, merge_history
from tests.execution.conftest import descendants, fit_without_ray, title
from tests.training.conftest import final_files

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

EPOCHS = 4
STUDENTS = ("resnet8", "resnet8-2")


@dataclass(frozen=True)
class Fitted:
    """What the one fit of this file gave."""

    config: FitConfig
    result: Result
    storage: Storage
    text: str
    left_running: list[str]


class ProcessCensus(threading.Thread):
    """Takes down every process that appears below this one; Ray's lose their parent at its end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: dict[int, psutil.Process] = {}
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.3):
            self.seen |= {process.pid: process for process in descendants()}

    def still_running(self, *, timeout_s: float) -> list[str]:
        """Titles of those that have not ended, after giving them a while."""
        self.done.set()
        self.join()
        _, alive = psutil.wait_procs(list(self.seen.values()), timeout=timeout_s)
        return [title(process) for process in alive if title(process)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    config = FitConfig(
        students=("resnet8", "resnet8"),
        subset=300,
        epochs=EPOCHS,
        tin=1,
        td=1,
        precision="fp32",
        cpus_per_worker=0.5,  # one thread, however many CPUs there are
        storage=str(tmp_path_factory.mktemp("fit")),
        name="small",
    )
    text = io.StringIO()
    census = ProcessCensus()
    census.start()
    result = fit(config, console=Console(file=text, width=120))
    left = census.still_running(timeout_s=180)  # Ray's agents poll, slowly on a loaded machine
    storage = Storage.at(config.storage).sub("small")
    return Fitted(config, result, storage, text.getvalue(), left)


def test_result_json_is_the_result_and_valid(fitted: Fitted) -> None:
    text = fitted.storage.read("result.json").to_pybytes().decode()
    assert Result.from_json(text) == fitted.result
    result = fitted.result
    assert [student.id for student in result.students] == list(STUDENTS)
    assert (result.num_train, result.num_val, result.num_test) == (270, 30, 360)
    assert [cycle.cycle for cycle in result.cycles] == [0, 1]
    for cycle in result.cycles:
        assert sum(cycle.weights.values()) == pytest.approx(1.0)
        assert set(cycle.weights) == set(STUDENTS)
    assert result.best_student in STUDENTS
    assert all(student.last.test.total == 360 for student in result.students)
    assert json.loads(text)["environment"]["ray"] == ray.__version__


def test_weights_are_those_of_a_run_without_ray(fitted: Fitted, tmp_path: Path) -> None:
    """The strongest test: whatever Ray does, not one bit of any file follows from it."""
    config = replace(fitted.config, storage=str(tmp_path))
    assert final_files(fitted.storage) == final_files(fit_without_ray(config))


def test_loaded_student_classifies_as_the_result_says_without_ray(fitted: Fitted) -> None:
    code = textwrap.dedent("""
        import json, sys
        sys.modules["ray"] = None  # importing it fails from here on
        import raymd, torch
        from raymd.data import load_dataset
        test = load_dataset("digits").test
        correct = {}
        with torch.inference_mode():
            for student in ("resnet8", "resnet8-2", "best"):
                for weights in ("best", "last"):
                    model = raymd.load_student(sys.argv[1], student=student, weights=weights)
                    hits_N = model(test.images).argmax(-1) == test.labels
                    correct[f"{model.id} {weights} {student == 'best'}"] = int(hits_N.sum())
        print(json.dumps(correct))
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, fitted.storage.uri], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    expected = {}
    for student in fitted.result.students:
        assert student.best is not None
        expected[f"{student.id} best False"] = student.best.test.correct
        expected[f"{student.id} last False"] = student.last.test.correct
        if student.id == fitted.result.best_student:
            expected[f"{student.id} best True"] = student.best.test.correct
            expected[f"{student.id} last True"] = student.last.test.correct
    assert json.loads(done.stdout) == expected


def test_history_tells_of_every_epoch_of_every_student_once(fitted: Fitted) -> None:
    assert fitted.storage.list("history") == list(STUDENTS)
    for student in STUDENTS:
        parts = [
            decode_history(fitted.storage.read(f"history/{student}/{name}").to_pybytes(), name=name)
            for name in fitted.storage.list(f"history/{student}")
        ]
        records = merge_history(parts)
        assert [record["epoch"] for record in records] == list(range(EPOCHS))
        phases = [record["phase"] for record in records]
        assert phases == ["independent", "distillation"] * (EPOCHS // 2)
        assert [record["kd_loss"] is None for record in records] == [True, False] * (EPOCHS // 2)
        assert all(record["kd_loss"] >= 0 for record in records[1::2])


def test_run_directory_holds_what_is_of_use_and_no_more(fitted: Fitted) -> None:
    assert sorted(fitted.storage.list()) == sorted([
        "config.yaml", "history", "plan.json", "result.json", "run.json", "students", "teacher",
        "tensorboard",
    ])  # fmt: skip
    for student in STUDENTS:
        assert fitted.storage.list(f"students/{student}") == [
            "best.safetensors", "last.safetensors", "model.json", "predictions.safetensors",
        ]  # fmt: skip
    everything = [str(path) for path in Path(fitted.storage.uri).rglob("*")]
    assert [path for path in everything if ".tmp" in path or ".ray_train" in path] == []


def test_plan_records_what_the_weights_depend_on(fitted: Fitted) -> None:
    plan = fitted.storage.record("plan.json")
    assert plan is not None
    assert plan["threads"] == 1
    assert plan["cpus_per_worker"] == 0.5
    assert plan["placement"] == "resident"
    assert plan["workers"] == dict.fromkeys(STUDENTS, 1)
    assert plan["device"] == "cpu"


def test_nothing_of_ray_is_left_running(fitted: Fitted) -> None:
    assert fitted.left_running == []
    assert not ray.is_initialized()


def test_lines_tell_of_every_epoch(fitted: Fitted) -> None:
    lines = fitted.text.splitlines()
    for student in STUDENTS:
        told = [line for line in lines if line.startswith(f"{student} ") and "held-out" in line]
        assert len(told) == EPOCHS
    assert any("1 threads" in line or "1 thread" in line for line in lines)


def test_resuming_a_finished_run_shows_its_result_at_once(fitted: Fitted) -> None:
    text = io.StringIO()

    told: list[str] = []
    again = fit(
        replace(fitted.config, resume="true"),
        console=Console(file=text, width=120),
        on_event=lambda event: told.append(event["event"]),
    )
    assert told == ["run_started", "run_finished"]
    assert again == fitted.result
    assert "finished already" in text.getvalue()
    assert not ray.is_initialized()
