"""What a run needs against what a cluster has; the cluster is numbers, GPUs too."""

import json
import math
from typing import Any

import pytest

from raymd.errors import UserError
from raymd.execution.plan import Plan, make_plan, num_fitting

LAPTOP = {"CPU": 8.0, "memory": 1e10, "node:10.0.0.1": 1.0}
GPU_NODE = {"CPU": 16.0, "GPU": 4.0}


def ids(count: int) -> list[str]:
    return [f"resnet8-{n}" for n in range(1, count + 1)]


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
    plan = make_plan(ids(students), nodes=nodes)
    assert (plan.cpus_per_worker, plan.gpus_per_worker) == (cpus, gpus)
    assert plan.threads == threads
    assert num_fitting(plan.worker_resources, nodes) >= students


def test_default_fits_whatever_the_cluster_is() -> None:
    for students in range(1, 12):
        for sizes in [(1,), (2,), (3,), (1, 1), (1, 3), (2, 5), (1, 1, 7), (64,)]:
            nodes = [{"CPU": float(size)} for size in sizes]
            plan = make_plan(ids(students), nodes=nodes)
            assert num_fitting(plan.worker_resources, nodes) >= students, (students, sizes)
            if plan.cpus_per_worker >= 1:
                assert plan.cpus_per_worker == math.floor(plan.cpus_per_worker)


# -- what was asked for -----------------------------------------------------------------------


def test_asked_for_shares_are_taken_as_they_are() -> None:
    plan = make_plan(ids(8), nodes=[GPU_NODE], cpus_per_worker=1.5, gpus_per_worker=0.5)
    assert plan.worker_resources == {"CPU": 1.5, "GPU": 0.5}
    assert plan.threads == 1


def test_gpus_left_alone_are_not_reserved() -> None:
    plan = make_plan(ids(2), nodes=[GPU_NODE], gpus_per_worker=0)
    assert plan.worker_resources == {"CPU": 8.0}


def test_tenths_of_a_gpu_add_up_to_whole_ones() -> None:
    plan = make_plan(ids(40), nodes=[GPU_NODE], cpus_per_worker=0.1, gpus_per_worker=0.1)
    assert num_fitting(plan.worker_resources, [GPU_NODE]) == 40
    with pytest.raises(UserError):
        make_plan(ids(41), nodes=[GPU_NODE], cpus_per_worker=0.1, gpus_per_worker=0.1)


def test_threads_of_an_earlier_attempt_stay() -> None:
    plan = make_plan(ids(2), nodes=[{"CPU": 64.0}], threads=3)
    assert (plan.cpus_per_worker, plan.threads) == (32.0, 3)


# -- refusals ---------------------------------------------------------------------------------


def refusal(students: int, nodes: list[dict[str, float]], **asked: Any) -> str:
    with pytest.raises(UserError) as caught:
        make_plan(ids(students), nodes=nodes, **asked)
    text = str(caught.value)
    assert "--students" in text
    assert "--address" in text
    return text


def test_too_many_gpus_are_refused_with_numbers_and_remedy() -> None:
    text = refusal(5, [GPU_NODE])
    assert "all 5 students at once" in text
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
    flags = text.partition("Ask for less (")[2].partition(")")[0].split()
    assert flags
    remedy = {
        flag.removeprefix("--"): float(value)
        for flag, value in zip(flags[::2], flags[1::2], strict=True)
    }
    make_plan(ids(students), nodes=nodes, **{**asked, **remedy})


def test_parts_of_a_gpu_do_not_span_two() -> None:
    assert num_fitting({"CPU": 1.0, "GPU": 0.6}, [GPU_NODE]) == 4
    text = refusal(5, [GPU_NODE], gpus_per_worker=0.6)
    assert "hold 4." in text
    assert "(--gpus_per_worker 0.5)" in text


def test_no_node_at_all_is_refused_without_a_remedy_that_cannot_help() -> None:
    text = refusal(1, [])
    assert "0 CPUs and 0 GPUs on 0 nodes hold 0. Name fewer --students" in text


def test_plan_survives_plan_json() -> None:
    plan = make_plan(ids(2), nodes=[GPU_NODE])
    fields = json.loads(json.dumps(plan.to_dict()))
    assert Plan(**{**fields, "students": tuple(fields["students"])}) == plan
    assert fields["placement"] == "resident"
