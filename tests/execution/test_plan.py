"""What a run needs against what a cluster has; the cluster is numbers, GPUs too."""

import json
import math
from functools import partial
from typing import Any

import pytest

from raymd.errors import UserError
from raymd.execution.plan import (
    Plan,
    check_slots,
    check_workers,
    choose_device,
    make_plan,
    num_fitting,
)

LAPTOP = {"CPU": 8.0, "memory": 1e10, "node:10.0.0.1": 1.0}
TWO_CPUS = {"CPU": 2.0}
GPU_NODE = {"CPU": 16.0, "GPU": 4.0}

resident_plan = partial(make_plan, placement="resident")


def ids(count: int) -> dict[str, int]:
    """So many students of one worker each."""
    return {f"resnet8-{n}": 1 for n in range(1, count + 1)}


# -- defaults ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("students", "nodes", "cpus", "gpus", "threads"),
    [
        (2, [LAPTOP], 4, 0, 4),
        (3, [LAPTOP], 2, 0, 2),  # whole CPUs: two stay free
        (1, [LAPTOP], 8, 0, 8),
        (8, [LAPTOP], 1, 0, 1),
        (2, [GPU_NODE], 8, 1, 8),
        (4, [GPU_NODE], 4, 1, 4),
        (2, [{"CPU": 1.0}], 0.5, 0, 1),
        (3, [{"CPU": 2.0}], 0.6666, 0, 1),
        (16, [{"CPU": 2.0}], 0.125, 0, 1),
        # a worker lies on one node, and none has more than 4
        (2, [{"CPU": 4.0}, {"CPU": 4.0}], 4, 0, 4),
        (1, [{"CPU": 4.0}, {"CPU": 2.0}], 4, 0, 4),
        (3, [{"CPU": 4.0}, {"CPU": 4.0}], 2, 0, 2),
        (4, [{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 1.0}], 0.5, 0, 1),
        # both GPUs are on the small node, so its CPUs are what can be shared
        (2, [{"CPU": 2.0, "GPU": 2.0}, {"CPU": 14.0}], 1, 1, 1),
        (2, [{"CPU": 1.0, "GPU": 2.0}, {"CPU": 7.0}], 0.5, 1, 1),
    ],
)
def test_default_is_the_largest_equal_share_with_which_all_fit(
    students: int, nodes: list[dict[str, float]], cpus: float, gpus: float, threads: int
) -> None:
    plan = resident_plan(ids(students), nodes=nodes)
    assert (plan.cpus_per_worker, plan.gpus_per_worker) == (cpus, gpus)
    assert plan.threads == threads
    assert num_fitting(plan.worker_resources, nodes) >= students


def test_default_fits_whatever_the_cluster_is() -> None:
    for students in range(1, 12):
        for sizes in [(1,), (2,), (3,), (1, 1), (1, 3), (2, 5), (1, 1, 7), (64,)]:
            nodes = [{"CPU": float(size)} for size in sizes]
            plan = resident_plan(ids(students), nodes=nodes)
            assert num_fitting(plan.worker_resources, nodes) >= students, (students, sizes)
            if plan.cpus_per_worker >= 1:
                assert plan.cpus_per_worker == math.floor(plan.cpus_per_worker)


@pytest.mark.parametrize(
    ("workers", "nodes", "cpus", "gpus"),
    [
        ((2, 2), [LAPTOP], 2, 0),
        ((3, 1), [LAPTOP], 2, 0),
        ((2,), [LAPTOP], 4, 0),
        ((2, 2), [GPU_NODE], 4, 1),
        # a student's workers may lie on two nodes
        ((4,), [{"CPU": 2.0}, {"CPU": 2.0}], 1, 0),
        ((2, 1), [{"CPU": 4.0}, {"CPU": 4.0}], 2, 0),
        ((4, 4), [{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}], 2, 1),
    ],
)
def test_default_share_counts_all_workers_of_all_students(
    workers: tuple[int, ...], nodes: list[dict[str, float]], cpus: float, gpus: float
) -> None:
    by_student = {f"s{n}": count for n, count in enumerate(workers)}
    plan = resident_plan(by_student, nodes=nodes)
    assert (plan.cpus_per_worker, plan.gpus_per_worker) == (cpus, gpus)
    assert (plan.workers, plan.num_workers) == (by_student, sum(workers))
    assert plan.students == tuple(by_student)


# -- device -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "nodes", "gpus", "resolved"),
    [
        ("auto", [LAPTOP], None, "cpu"),
        ("auto", [GPU_NODE], None, "cuda"),
        ("auto", [GPU_NODE], 0, "cpu"),
        ("auto", [LAPTOP, GPU_NODE], 0.5, "cuda"),
        ("cpu", [GPU_NODE], None, "cpu"),
        ("cpu", [GPU_NODE], 0, "cpu"),
        ("cuda", [GPU_NODE], None, "cuda"),
        ("mps", [LAPTOP], None, "mps"),
        ("mps", [LAPTOP], 0, "mps"),
    ],
)
def test_device_follows_what_was_asked_and_what_is_there(
    device: str, nodes: list[dict[str, float]], gpus: float | None, resolved: str
) -> None:
    assert choose_device(device, nodes=nodes, gpus_per_worker=gpus) == resolved
    plan = resident_plan(ids(2), nodes=nodes, device=device, gpus_per_worker=gpus)
    assert plan.device == resolved
    assert (plan.gpus_per_worker > 0) == (resolved == "cuda")


def test_cuda_without_a_gpu_is_refused_with_what_is_there_and_the_flags() -> None:
    with pytest.raises(UserError, match="8 CPUs and 0 GPUs on 1 node") as caught:
        resident_plan(ids(2), nodes=[LAPTOP], device="cuda")
    assert "--device cpu" in str(caught.value)
    assert "--address" in str(caught.value)


def test_mps_on_several_machines_is_refused() -> None:
    with pytest.raises(UserError, match=r"one machine.*2 nodes.*--device cpu"):
        resident_plan(ids(2), nodes=[LAPTOP, LAPTOP], device="mps")


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cpu", 1), ("mps", 0.5)])
def test_gpus_that_contradict_the_device_are_refused(device: str, gpus: float) -> None:
    with pytest.raises(UserError, match=rf"gpus_per_worker {gpus:g} with device {device}"):
        resident_plan(ids(1), nodes=[GPU_NODE], device=device, gpus_per_worker=gpus)


# -- what was asked for -----------------------------------------------------------------------


def test_asked_for_shares_are_taken_as_they_are() -> None:
    plan = resident_plan(ids(8), nodes=[GPU_NODE], cpus_per_worker=1.5, gpus_per_worker=0.5)
    assert plan.worker_resources == {"CPU": 1.5, "GPU": 0.5}
    assert plan.threads == 1


def test_gpus_left_alone_are_not_reserved() -> None:
    plan = resident_plan(ids(2), nodes=[GPU_NODE], gpus_per_worker=0)
    assert plan.worker_resources == {"CPU": 8.0}


def test_tenths_of_a_gpu_add_up_to_whole_ones() -> None:
    plan = resident_plan(ids(40), nodes=[GPU_NODE], cpus_per_worker=0.1, gpus_per_worker=0.1)
    assert num_fitting(plan.worker_resources, [GPU_NODE]) == 40
    with pytest.raises(UserError):
        resident_plan(ids(41), nodes=[GPU_NODE], cpus_per_worker=0.1, gpus_per_worker=0.1)


def test_threads_of_an_earlier_attempt_stay() -> None:
    plan = resident_plan(ids(2), nodes=[{"CPU": 64.0}], threads=3)
    assert (plan.cpus_per_worker, plan.threads) == (32.0, 3)


# -- refusals ---------------------------------------------------------------------------------


def refusal(students: int, nodes: list[dict[str, float]], **asked: Any) -> str:
    with pytest.raises(UserError) as caught:
        resident_plan(ids(students), nodes=nodes, **asked)
    text = str(caught.value)
    assert "--students" in text
    assert "--address" in text
    return text


def test_too_many_gpus_are_refused_with_numbers_and_remedy() -> None:
    text = refusal(5, [GPU_NODE])
    assert "the 5 workers of 5 students at once" in text
    assert "3 CPUs and 1 GPUs, 16 CPUs and 4 GPUs on 1 node hold 4." in text
    # not 0.8, of which four GPUs hold four: a part of a GPU is a part of one GPU
    assert "(--gpus_per_worker 0.5)" in text


def test_too_many_cpus_are_refused_with_numbers_and_remedy() -> None:
    text = refusal(3, [LAPTOP], cpus_per_worker=4)
    assert "each needs 4 CPUs and 0 GPUs, 8 CPUs and 0 GPUs on 1 node hold 2." in text
    assert "(--cpus_per_worker 2)" in text


def test_gpus_where_there_are_none_are_refused_with_the_way_out() -> None:
    text = refusal(2, [LAPTOP], gpus_per_worker=1)
    assert "8 CPUs and 0 GPUs on 1 node hold 0." in text
    assert "(--gpus_per_worker 0)" in text


def test_worker_larger_than_any_node_is_refused() -> None:
    text = refusal(1, [{"CPU": 4.0}, {"CPU": 4.0}], cpus_per_worker=6)
    assert "8 CPUs and 0 GPUs on 2 nodes hold 0." in text
    assert "(--cpus_per_worker 4)" in text


@pytest.mark.parametrize(
    ("students", "nodes", "asked"),
    [
        (5, [GPU_NODE], {}),
        (3, [LAPTOP], {"cpus_per_worker": 4}),
        (9, [LAPTOP], {"cpus_per_worker": 1}),
        (2, [LAPTOP], {"gpus_per_worker": 1}),
        (4, [{"CPU": 1.0}] * 3, {"cpus_per_worker": 1}),
        (1, [{"CPU": 4.0}, {"CPU": 4.0}], {"cpus_per_worker": 6}),
        (3, [{"CPU": 8.0, "GPU": 1.0}], {"cpus_per_worker": 4, "gpus_per_worker": 1}),
        (6, [GPU_NODE, {"CPU": 1.0, "GPU": 1.0}], {"cpus_per_worker": 4}),
    ],
)
def test_following_the_remedy_works(
    students: int, nodes: list[dict[str, float]], asked: dict[str, Any]
) -> None:
    text = refusal(students, nodes, **asked)
    flags = text.lower().partition("ask for less (")[2].partition(")")[0].split()
    if "--placement sliced" in text:
        make_plan(ids(students), nodes=nodes, **asked)
    assert flags
    remedy = {
        flag.removeprefix("--"): float(value)
        for flag, value in zip(flags[::2], flags[1::2], strict=True)
    }
    resident_plan(ids(students), nodes=nodes, **{**asked, **remedy})


def test_parts_of_a_gpu_do_not_span_two() -> None:
    assert num_fitting({"CPU": 1.0, "GPU": 0.6}, [GPU_NODE]) == 4
    text = refusal(5, [GPU_NODE], gpus_per_worker=0.6)
    assert "hold 4." in text
    assert "(--gpus_per_worker 0.5)" in text


def test_no_node_at_all_is_refused_without_a_remedy_that_cannot_help() -> None:
    text = refusal(1, [])
    assert "0 CPUs and 0 GPUs on 0 nodes hold 0. Name fewer --students" in text


def test_too_many_workers_are_refused_with_how_many_fit() -> None:
    with pytest.raises(UserError) as caught:
        resident_plan({"resnet8": 4, "vgg11": 2}, nodes=[GPU_NODE])
    text = str(caught.value)
    assert "the 6 workers of 2 students at once" in text
    assert "hold 4." in text
    # no part of a GPU: the workers of resnet8 need one each
    assert "(--workers_per_student 2)" in text
    resident_plan({"resnet8": 2, "vgg11": 2}, nodes=[GPU_NODE])


def test_cuda_asked_for_is_not_answered_with_going_without_gpus() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}]
    with pytest.raises(UserError) as caught:
        resident_plan({"a": 1, "b": 1, "c": 1}, nodes=nodes, device="cuda")
    assert "(--gpus_per_worker 0.5)" in str(caught.value)
    with pytest.raises(UserError) as caught:
        resident_plan({"a": 2, "b": 1}, nodes=nodes, device="cuda")
    assert "gpus_per_worker" not in str(caught.value)
    assert "(--workers_per_student 1)" in str(caught.value)


def test_part_of_a_gpu_for_several_workers_of_a_student_is_refused() -> None:
    with pytest.raises(UserError, match=r"2 workers of resnet8") as caught:
        resident_plan({"vgg11": 1, "resnet8": 2}, nodes=[GPU_NODE], gpus_per_worker=0.5)
    assert "--gpus_per_worker 1, or --workers_per_student 1" in str(caught.value)
    resident_plan({"vgg11": 1, "resnet8": 1}, nodes=[GPU_NODE], gpus_per_worker=0.5)


def test_steps_with_fewer_images_than_workers_are_refused() -> None:
    sizes = {"a": 4, "b": 64}
    check_workers({"a": 4, "b": 8}, batch_sizes=sizes, num_samples=1000)
    with pytest.raises(UserError, match=r"b: its 8 workers would share steps of 5 of 5 ") as caught:
        check_workers({"a": 1, "b": 8}, batch_sizes=sizes, num_samples=5)
    assert "at most 5 (--workers_per_student)" in str(caught.value)
    # five images in two steps: the smaller has two
    with pytest.raises(UserError, match=r"steps of 2 of 5 .*--batch_size \(now 4\)"):
        check_workers({"a": 3, "b": 1}, batch_sizes=sizes, num_samples=5)


def test_plan_survives_plan_json() -> None:
    plan = resident_plan({"resnet8": 2, "vgg11": 1}, nodes=[GPU_NODE])
    fields = json.loads(json.dumps(plan.to_dict()))
    assert Plan(**fields) == plan
    assert (fields["placement"], fields["device"]) == ("resident", "cuda")


# -- placement ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("students", "nodes", "asked", "placement", "slots", "cpus"),
    [
        (2, [LAPTOP], {}, "resident", 2, 4),
        (8, [LAPTOP], {}, "resident", 8, 1),
        # no CPU is shared: students that do not fit take turns
        (9, [LAPTOP], {}, "sliced", 8, 1),
        (8, [TWO_CPUS], {}, "sliced", 2, 1),
        (2, [{"CPU": 1.0}], {}, "sliced", 1, 1),
        (8, [TWO_CPUS], {"cpus_per_worker": 0.25}, "resident", 8, 0.25),
        (8, [TWO_CPUS], {"cpus_per_worker": 2}, "sliced", 1, 2),
        (8, [LAPTOP], {"slots": 2}, "sliced", 2, 1),  # the same threads as with 8
        (2, [LAPTOP], {"slots": 5}, "resident", 2, 4),
        (2, [LAPTOP], {"placement": "sliced"}, "sliced", 2, 4),
        (5, [GPU_NODE], {}, "sliced", 4, 4),
        (5, [GPU_NODE], {"gpus_per_worker": 0.5}, "resident", 5, 3),
        (3, [{"CPU": 1.0, "GPU": 2.0}], {}, "sliced", 2, 0.5),
    ],
)
def test_students_take_turns_where_they_do_not_fit(
    students: int, nodes: list[dict[str, float]], asked: dict[str, Any], placement: str,
    slots: int, cpus: float,
) -> None:  # fmt: skip
    plan = make_plan(ids(students), nodes=nodes, **asked)
    assert (plan.placement, plan.slots, plan.cpus_per_worker) == (placement, slots, cpus)
    assert num_fitting(plan.worker_resources, nodes) >= slots
    assert plan.bundles == [plan.worker_resources] * slots


def test_all_workers_of_a_student_run_at_a_time() -> None:
    plan = make_plan({"a": 3, "b": 1, "c": 3}, nodes=[{"CPU": 4.0}])
    assert (plan.placement, plan.slots) == ("sliced", 4)
    with pytest.raises(UserError, match=r"slots 2: the 3 workers of a .* \(--slots, --workers"):
        check_slots({"a": 3, "b": 1}, slots=2, placement="auto")
    with pytest.raises(UserError, match=r"hold the 3 workers of a at once.*hold 2") as caught:
        make_plan({"a": 3, "b": 1}, nodes=[TWO_CPUS], cpus_per_worker=1)
    assert "(--cpus_per_worker 0.6666, or --workers_per_student 2)" in str(caught.value)


def test_slots_too_few_for_resident_students_are_refused() -> None:
    with pytest.raises(UserError, match=r"slots 2 with placement resident: all 3 .*--placement"):
        check_slots(ids(3), slots=2, placement="resident")
