"""What a run would do and take: cycles, times and suggestions as numbers, steps of tiny networks,
and twice the whole of it on a small Ray."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from raymd.config import FitConfig
from raymd.distillation.methods import get_method
from raymd.distillation.schedule import Position, Schedule, build_schedule
from raymd.errors import RaymdError, UserError
from raymd.exchange.memory import exchange_bytes
from raymd.execution import measure, preview
from raymd.execution.cluster import plan_of
from raymd.execution.foresight import Foresight
from raymd.execution.measure import StepMeasure, measure_steps, rows_of_step, sample_of
from raymd.execution.opening import open_run
from raymd.execution.plan import Plan, make_plan
from raymd.execution.preview import show_plan
from raymd.execution.suggestion import share_out, suggest_workers
from raymd.execution.timetable import find_cycles, find_drops, list_schedule, time_left
from raymd.execution.timing import Measured, batches
from raymd.runs import begin
from raymd.settings import StudentConfig
from raymd.storage import Storage
from raymd.training.student import StudentTask
from raymd.view.preview import CyclesPreview, Preview, StudentPreview, Suggestion
from raymd.view.text import num_bytes
from tests.execution.test_dispatch import SCHEDULE, Play, dispatch
from tests.training.conftest import run_to, tiny_data, tiny_settings
from tests.view.test_plan_table import student as student_preview

STUDENT = StudentConfig(id="tiny4", arch="tiny4", lr=0.1, batch_size=16)


def schedule(epochs: int, *, tin: int = 2, td: int = 3, **changes: Any) -> Schedule:
    fields: dict[str, Any] = {"method": "md", "lr_drop": "exact", **changes}
    fields["method"] = get_method(fields["method"])
    return build_schedule(epochs=epochs, tin=tin, td=td, **fields)


# -- phases -----------------------------------------------------------------------------------


def test_equal_cycles_are_counted_together_and_a_cut_one_apart() -> None:
    assert [*find_cycles(schedule(15))] == [CyclesPreview(3, 2, 3)]
    cut = CyclesPreview(1, 2, 2, is_cut=True)
    assert [*find_cycles(schedule(14))] == [CyclesPreview(2, 2, 3), cut]
    assert [*find_cycles(schedule(11))][1] == CyclesPreview(1, 1, 0, is_cut=True)


def test_first_cycle_that_is_cut_is_told_as_cut() -> None:
    assert [*find_cycles(schedule(4), cycle_epochs=5)] == [CyclesPreview(1, 2, 2, is_cut=True)]


def test_run_without_a_barrier_is_all_alone() -> None:
    assert [*find_cycles(schedule(2))] == [CyclesPreview(1, 2, 0)]
    assert [*find_cycles(schedule(20, method="independent"))] == [CyclesPreview(1, 20, 0)]
    assert [*find_cycles(schedule(20, method="dml"))] == [CyclesPreview(1, 0, 20)]


def test_drops_inside_distillation_are_marked() -> None:
    # 50 % and 75 % of 20 are epochs 10 (a cycle's first) and 15 (another's)
    assert [(d.epoch, d.inside) for d in find_drops(schedule(20))] == [(11, False), (16, False)]
    drops = find_drops(schedule(16))
    assert [(d.epoch, d.inside) for d in drops] == [(9, True), (13, True)]
    assert [d.factor for d in drops] == pytest.approx([0.1, 0.01])


# -- time -------------------------------------------------------------------------------------


def pace(epoch_s: float, publish_s: float = 0.0, **changes: Any) -> StudentPreview:
    return student_preview(epoch_s=epoch_s, publish_s=publish_s, steps=10, **changes)


def test_time_is_that_of_the_slowest_in_each_part_between_barriers() -> None:
    # 10 epochs; barriers before epochs 2 and 7
    assert time_left(schedule(10), [pace(1.0)]) == pytest.approx(10.0)
    assert time_left(schedule(10), [pace(1.0, 4.0)]) == pytest.approx(18.0)
    assert time_left(schedule(10), [pace(1.0, 4.0), pace(2.0, 0.5)]) == pytest.approx(
        max(2 + 4, 4 + 0.5) + max(5 + 4, 10 + 0.5) + max(3, 6)
    )


def test_time_left_of_a_resumed_run_begins_where_each_student_stands() -> None:
    ahead, behind = pace(1.0, 4.0, epoch=7), pace(2.0, 0.5, epoch=6, step=5)
    # what is left before the barrier at 7: publishing, and half an epoch of the other
    expected = max(4.0, 0.5 * 2 + 0.5) + max(3.0, 6.0)
    assert time_left(schedule(10), [ahead, behind]) == pytest.approx(expected)
    assert time_left(schedule(10), [pace(1.0, 4.0, epoch=10)]) == 0.0


def test_turns_begin_with_the_longest_as_soon_as_there_is_room() -> None:
    assert list_schedule([(2, 1), (3, 1), (4, 1)], slots=2) == 5
    assert list_schedule([(5, 1), (3, 2), (1, 1)], slots=2) == 8
    assert list_schedule([(2, 1), (3, 1), (4, 1)], slots=3) == 4
    assert list_schedule([(2, 1), (3, 1), (4, 1)], slots=1) == 9


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_time_of_students_in_turns_is_that_of_the_driver_without_starts(slots: int) -> None:
    epoch_s = {"a": 1.0, "b": 2.5, "c": 3.0, "d": 4.0, "e": 7.0}
    one = dispatch(dict.fromkeys(epoch_s, 1), slots=slots)
    one.cost = lambda segment: epoch_s[segment.student] * (segment.stop.epoch - segment.start.epoch)
    students = [pace(seconds, id=student, workers=1) for student, seconds in epoch_s.items()]
    assert time_left(SCHEDULE, students, slots=slots) == pytest.approx(Play(one).run())


def test_students_are_timed_as_many_at_once_as_there_are_slots() -> None:
    workers = {"a": 1, "b": 2, "c": 1, "d": 3, "e": 1}
    assert batches(workers, slots=3) == [["a", "b"], ["c", "e"], ["d"]]
    assert batches(workers, slots=8) == [["a", "b", "c", "d", "e"]]


# -- suggestions ------------------------------------------------------------------------------


def suggest(
    epoch_s: Mapping[str, float], plan: Plan, nodes: list[dict[str, float]], **asked: Any
) -> Suggestion | None:
    fields = {"batch_sizes": dict.fromkeys(epoch_s, 64), "cpus_asked": False, **asked}
    return suggest_workers(epoch_s, plan, nodes=nodes, **fields)


def test_free_gpus_go_to_the_slowest_student() -> None:
    nodes = [{"CPU": 16.0, "GPU": 4.0}]
    plan = make_plan({"fast": 1, "slow": 1}, nodes=nodes)
    found = suggest({"fast": 10.0, "slow": 60.0}, plan, nodes)
    assert found is not None
    assert found.workers == {"fast": 1, "slow": 3}
    assert found.flags == "--student.slow.workers_per_student 3"
    assert (found.before_s, found.after_s) == (60.0, pytest.approx(20.0))


def test_workers_of_unequal_students_are_moved_where_none_is_free() -> None:
    nodes = [{"CPU": 8.0}]
    plan = make_plan({"fast": 2, "slow": 2}, nodes=nodes, cpus_per_worker=2)
    found = suggest({"fast": 10.0, "slow": 60.0}, plan, nodes, cpus_asked=True)
    assert found is not None
    assert found.workers == {"fast": 1, "slow": 3}
    assert found.flags == (
        "--student.fast.workers_per_student 1 --student.slow.workers_per_student 3"
    )
    assert found.after_s == pytest.approx(40.0)


def test_more_workers_of_fewer_cpus_are_reckoned_with_their_speed() -> None:
    nodes = [{"CPU": 4.0}]
    plan = make_plan({"fast": 1, "slow": 1}, nodes=nodes)
    found = suggest({"fast": 10.0, "slow": 60.0}, plan, nodes)
    assert found is not None
    # four workers of one CPU, half as quick as the two of two
    assert found.workers == {"fast": 1, "slow": 3}
    assert found.after_s == pytest.approx(60.0 * 2 / 3)


def test_nothing_is_suggested_where_nothing_is_won() -> None:
    laptop = [{"CPU": 2.0}]
    assert suggest({"a": 5.0, "b": 5.2}, make_plan({"a": 1, "b": 1}, nodes=laptop), laptop) is None
    gpus = [{"CPU": 8.0, "GPU": 2.0}]
    shared = make_plan({"a": 1, "b": 1}, nodes=gpus, gpus_per_worker=0.5)
    assert suggest({"a": 5.0, "b": 50.0}, shared, gpus) is None


def test_no_student_gets_more_workers_than_a_batch_has_images() -> None:
    alone_s = {"a": 1.0, "b": 100.0}
    assert share_out(alone_s, 8, limits={"a": 64, "b": 64}) == {"a": 1, "b": 7}
    assert share_out(alone_s, 8, limits={"a": 64, "b": 3}) == {"a": 1, "b": 3}


# -- measuring --------------------------------------------------------------------------------


def test_rows_of_a_step_are_those_of_the_loader_over_the_workers() -> None:
    assert rows_of_step(48, STUDENT) == 16
    assert rows_of_step(40, STUDENT) == 14  # three steps of 14, 13 and 13
    assert rows_of_step(40, replace(STUDENT, workers_per_student=4)) == 4


@pytest.mark.parametrize(("optimizer", "copies"), [("sgd", 1), ("adamw", 2)])
def test_measured_bytes_follow_network_and_optimizer(optimizer: Any, copies: int) -> None:
    settings = tiny_settings()
    data = tiny_data(settings)
    asked = replace(STUDENT, optimizer=optimizer)
    found = measure_steps(asked, settings=settings, data=sample_of(data, rows=16), rows=16)
    # 3*4*9+4 of the convolution, 8 of BatchNorm, 4*3+3 of the head
    assert found.parameters == 135
    assert found.weight_bytes == 4 * 135 + 4 * 8 + 8  # running statistics; a count of int64
    assert found.gradient_bytes == 4 * 135
    assert found.optimizer_bytes - copies * 4 * 135 in (0, 4 * 6)  # AdamW counts steps
    assert found.step_images == 16
    assert found.step_s > 0
    assert found.forward_s > 0
    assert found.peak_bytes > 0


def test_slow_steps_are_timed_fewer_times(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny_settings()
    taken: list[int] = []
    real = measure.train_step

    def counted(*args: Any) -> torch.Tensor:
        taken.append(1)
        return real(*args)

    monkeypatch.setattr(measure, "train_step", counted)
    data = tiny_data(settings)
    measure_steps(STUDENT, settings=settings, data=data, rows=8, steps=5)
    assert len(taken) == 1 + 5
    taken.clear()
    monkeypatch.setattr(measure, "LONGEST_S", 1e-9)
    measure_steps(STUDENT, settings=settings, data=data, rows=8, steps=5)
    assert len(taken) == 2  # LONGEST_S has gone by: one step to warm up, one timed


def test_large_network_counts_its_activations() -> None:
    settings = tiny_settings()
    student = replace(STUDENT, id="resnet18", arch="resnet18")
    found = measure_steps(student, settings=settings, data=tiny_data(settings), rows=48, steps=1)
    assert found.parameters > 11_000_000
    assert found.activation_bytes is not None
    assert 2_000_000 < found.activation_bytes < 1_000_000_000


class Failing(nn.Module):
    """Works on the two images that a network is tried on when it is built, and on no more."""

    def __init__(self, failure: Callable[[], object], num_classes: int) -> None:
        super().__init__()
        self.failure = failure
        self.head = nn.Linear(3, num_classes)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        if len(images_BCHW) > 2:
            self.failure()
        return self.head(images_BCHW.mean(dim=(2, 3)))


def greedy(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return Failing(lambda: torch.empty(2**60), num_classes)


def mistaken(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return Failing(lambda: torch.zeros(2) @ torch.zeros(3), num_classes)


def measure_failing(name: str) -> None:
    settings = tiny_settings()
    student = replace(STUDENT, id=name, arch=f"{__name__}:{name}")
    measure_steps(student, settings=settings, data=tiny_data(settings), rows=8)


def test_too_little_memory_is_refused_with_the_flags() -> None:
    with pytest.raises(UserError, match=r"greedy: no memory for a step of 8 images") as caught:
        measure_failing("greedy")
    assert "--batch_size" in str(caught.value)
    assert "--workers_per_student" in str(caught.value)


def test_network_that_cannot_be_trained_is_named() -> None:
    with pytest.raises(RaymdError, match=r"mistaken cannot take a step: RuntimeError"):
        measure_failing("mistaken")


# -- refusals before Ray ----------------------------------------------------------------------


def fit_config(folder: Path, **changes: Any) -> FitConfig:
    fields: dict[str, Any] = {
        "students": ("resnet8", "resnet14"), "subset": 300, "epochs": 5, "tin": 1, "td": 1,
        "batch_size": 32, "cpus_per_worker": 1, "storage": str(folder / "new" / "runs"),
    }  # fmt: skip
    return FitConfig(**{**fields, **changes})


def test_storage_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--storage"):
        preview.preview(fit_config(tmp_path, storage=str(tmp_path / "file" / "runs")))
    with pytest.raises(UserError, match="--resume"):
        preview.preview(fit_config(tmp_path, resume="true"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# -- foreseen of figures ----------------------------------------------------------------------


def foreseen(folder: Path, *, object_store_bytes: int = 10**9, **changes: Any) -> Preview:
    config = fit_config(folder, **changes)
    run = open_run(config, lambda _: None)
    resources = {
        "CPU": 2.0, "memory": 10.0**10, "object_store_memory": float(object_store_bytes)
    }  # fmt: skip
    node = {"NodeID": "one", "Resources": resources}
    plan = plan_of(config, run, [node], announce=print)
    step = StepMeasure(0.1, 32, 0.001, 1000, 4000, 4000, 4000, None, 10**8)
    measured = Measured(dict.fromkeys(plan.students, step), {"one": plan.slots}, 0.0)
    return Foresight(config, run, plan, "here", [node], measured, 5.0).preview()


def test_soft_labels_larger_than_the_object_store_are_warned_of(tmp_path: Path) -> None:
    assert foreseen(tmp_path).warnings == ()
    found = foreseen(tmp_path, object_store_bytes=30_000)
    assert found.soft_labels is not None
    assert found.soft_labels.live_bytes == exchange_bytes(270, 10, 2)
    images = 270 * (8 * 8 + 8)  # with their labels
    (warning,) = found.warnings
    assert warning.startswith("the object store holds 30.0 kB")
    assert num_bytes(found.soft_labels.live_bytes + images) in warning


@pytest.mark.parametrize(
    ("asked", "placement", "slots", "why"),
    [
        ({}, "resident", 2, "all fit at once"),
        ({"placement": "sliced"}, "sliced", 2, "as asked (--placement)"),
        ({"slots": 1}, "sliced", 1, "as asked (--slots)"),
        ({"cpus_per_worker": 2}, "sliced", 1, "more do not fit"),
    ],
)
def test_plan_says_how_students_are_placed_and_why(
    tmp_path: Path, asked: dict[str, Any], placement: str, slots: int, why: str
) -> None:
    found = foreseen(tmp_path, **asked)
    assert (found.placement, found.slots, found.why_placed) == (placement, slots, why)
    assert (found.resident_s is None) == (placement == "resident")
    assert ("what turns take to begin" in found.left_out) == (placement == "sliced")


# -- all of it, on Ray ------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("small_ray")
class TestOnRay:
    def test_preview_tells_all_and_leaves_nothing(self, tmp_path: Path) -> None:
        text = io.StringIO()
        config = fit_config(tmp_path, view="json")
        found = show_plan(config, console=Console(file=text))
        assert json.loads(text.getvalue()) == found.to_dict()
        assert [*tmp_path.iterdir()] == []
        assert [(s.id, s.steps, s.epoch) for s in found.students] == [
            ("resnet8", 9, 0), ("resnet14", 9, 0),
        ]  # fmt: skip
        small, large = found.students
        assert small.parameters < large.parameters
        assert 0 < small.step_s < 9 * small.step_s < small.epoch_s
        assert small.images_per_s == pytest.approx(270 / (9 * small.step_s))
        assert found.cycles == (CyclesPreview(2, 1, 1), CyclesPreview(1, 1, 0, is_cut=True))
        assert found.soft_labels is not None
        assert found.soft_labels.publication_bytes == 270 * 10 * 2
        assert found.soft_labels.live_bytes == 4 * 270 * 10 * 2
        assert [(node.cpus, node.workers) for node in found.nodes] == [(2.0, 2)]
        assert (found.placement, found.slots, found.resident_s) == ("resident", 2, None)
        assert found.left_s > found.startup_s + max(s.left_s for s in found.students) - 1e-6

    def test_students_in_turns_are_timed_in_turns_and_their_times_add_up(
        self, tmp_path: Path
    ) -> None:
        found = preview.preview(fit_config(tmp_path, cpus_per_worker=2.0))
        assert (found.placement, found.slots, found.why_placed) == ("sliced", 1, "more do not fit")
        assert [node.workers for node in found.nodes] == [1]
        assert found.resident_s is not None
        assert found.left_s - found.startup_s == pytest.approx(
            sum(s.left_s for s in found.students)
        )
        assert found.resident_s < found.left_s
        assert found.suggestion is None
        with pytest.raises(UserError, match="the 2 workers of 2 students at once"):
            preview.preview(fit_config(tmp_path, cpus_per_worker=2.0, placement="resident"))

    def test_preview_of_a_stopped_run_tells_the_rest_of_it(self, tmp_path: Path) -> None:
        storage = Storage.at(tmp_path)
        config = fit_config(tmp_path, storage=storage.uri, name="stopped", view="lines")
        run = open_run(config, lambda _: None)
        begin(run.storage, config=config, settings=run.settings, fingerprint=run.data.fingerprint)
        tasks = [
            StudentTask(s, run.settings, run.data, run.storage, run.name)
            for s in run.settings.students
        ]
        run_to(tasks, Position(3))
        before = sorted(str(path) for path in tmp_path.rglob("*"))
        text = io.StringIO()
        resumed = replace(config, resume="true")
        found = show_plan(resumed, console=Console(file=text, width=100))
        assert sorted(str(path) for path in tmp_path.rglob("*")) == before
        assert [(s.epoch, s.step) for s in found.students] == [(3, 0), (3, 0)]
        slowest = max(found.students, key=lambda s: s.epoch_s)
        assert found.left_s - found.startup_s == pytest.approx(
            2 * slowest.epoch_s + max(s.publish_s for s in found.students)
        )
        assert "resnet8 at epoch 4, step 1, resnet14 at epoch 4, step 1" in " ".join(
            text.getvalue().split()
        )
        assert found.suggestion is None
