"""Leases: first come first served, all or none, on the nodes that there are."""

import pytest

from raymd.execution.leases import Lease, Leases, fits

CPU = {"CPU": 1.0}


def cpus(*amounts: float) -> list[dict[str, float]]:
    """Nodes with so many CPUs."""
    return [{"CPU": amount} for amount in amounts]


def leases_on(*nodes: dict[str, float]) -> Leases:
    leases = Leases()
    leases.nodes = nodes
    return leases


def ask(leases: Leases, job: str, num_workers: int, *, at: float, worker=CPU) -> Lease:
    leases.put(Lease(job, f"run-{job}", (worker,) * num_workers, at))
    return leases.get(job)


def granted(leases: Leases, *, at: float = 100.0) -> list[str]:
    return [lease.job for lease in leases.grant(at=at)]


def test_job_that_fits_is_granted_once():
    leases = leases_on(*cpus(2))
    ask(leases, "a", 2, at=1)
    assert granted(leases, at=5.0) == ["a"]
    assert leases.get("a").granted_at == 5.0
    assert granted(leases) == []


def test_jobs_are_granted_in_the_order_they_asked():
    leases = leases_on(*cpus(2))
    for job, at in (("c", 3), ("a", 1), ("b", 2)):
        ask(leases, job, 1, at=at)
    assert granted(leases) == ["a", "b"]
    leases.drop("a")
    assert granted(leases) == ["c"]


def test_job_gets_all_of_its_workers_or_none():
    leases = leases_on(*cpus(3))
    ask(leases, "a", 2, at=1)
    ask(leases, "b", 2, at=2)
    assert granted(leases) == ["a"]
    assert leases.get("b").granted_at is None
    leases.drop("a")
    assert granted(leases) == ["b"]


def test_large_job_is_not_overtaken_by_small_ones():
    leases = leases_on(*cpus(4))
    ask(leases, "small-0", 1, at=0)
    assert granted(leases) == ["small-0"]
    ask(leases, "large", 4, at=1)
    for number in range(1, 4):
        ask(leases, f"small-{number}", 1, at=1 + number)
    assert granted(leases) == []
    leases.drop("small-0")
    assert granted(leases) == ["large"]
    leases.drop("large")
    assert granted(leases) == ["small-1", "small-2", "small-3"]


def test_job_that_stops_waiting_lets_the_next_one_in():
    leases = leases_on(*cpus(1))
    ask(leases, "a", 2, at=1)
    ask(leases, "b", 1, at=2)
    assert granted(leases) == []
    leases.drop("a")
    assert granted(leases) == ["b"]


def test_added_nodes_let_waiting_jobs_in():
    leases = leases_on(*cpus(2))
    ask(leases, "a", 3, at=1)
    assert granted(leases) == []
    leases.nodes = tuple(cpus(2, 1))
    assert granted(leases) == ["a"]


def test_leases_outlast_a_lost_node_but_nothing_is_granted_beside_them():
    leases = leases_on(*cpus(2, 2))
    ask(leases, "a", 3, at=1)
    granted(leases)
    leases.nodes = tuple(cpus(2))
    ask(leases, "b", 1, at=2)
    assert granted(leases) == []
    assert [lease.job for lease in leases.held] == ["a"]


def test_what_monitors_remember_makes_the_same_leases_and_queue():
    leases = leases_on(*cpus(2))
    for at, (job, workers) in enumerate([("a", 2), ("b", 1), ("c", 2), ("d", 1)]):
        ask(leases, job, workers, at=at)
    granted(leases)
    remembered = [leases.get(job).to_dict() for job in "dbca"]
    again = leases_on(*cpus(2))
    for lease in remembered:
        again.put(Lease.from_dict(lease))
    assert again.held == leases.held
    assert again.waiting == leases.waiting
    again.drop("a")
    assert granted(again) == ["b"]


def test_asking_anew_goes_to_the_end_of_the_queue():
    leases = leases_on(*cpus(2))
    ask(leases, "a", 2, at=1)
    granted(leases)
    ask(leases, "b", 1, at=2)
    ask(leases, "a", 2, at=3)
    assert granted(leases) == ["b"]


def test_cluster_is_to_grow_by_what_the_head_of_the_queue_lacks():
    leases = leases_on(*cpus(2))
    ask(leases, "a", 2, at=1)
    granted(leases)
    assert leases.lacking() == ()
    ask(leases, "b", 3, at=2, worker={"CPU": 2.0})
    ask(leases, "c", 1, at=3)
    assert leases.lacking() == (CPU,) * 2 + ({"CPU": 2.0},) * 3
    leases.drop("b")
    leases.drop("c")
    assert leases.lacking() == ()


@pytest.mark.parametrize(
    ("worker", "num_workers", "nodes", "fitting"),
    [
        ({"CPU": 2.0}, 2, cpus(3, 1), False),  # a worker lies on one node
        ({"CPU": 2.0}, 2, cpus(3, 2), True),
        ({"CPU": 0.3333}, 3, cpus(1), True),
        ({"CPU": 0.1}, 10, cpus(1), True),  # sums of tenths are no whole numbers
        ({"CPU": 0.1}, 11, cpus(1), False),
        ({"GPU": 0.6}, 2, [{"GPU": 2.0}], True),
        ({"GPU": 0.6}, 3, [{"GPU": 2.0}], False),  # a part of a GPU is a part of one GPU
        ({"GPU": 2.0}, 2, [{"GPU": 3.0}, {"GPU": 1.0}], False),
        ({"GPU": 0.5}, 3, [{"GPU": 1.5}], True),
        ({"GPU": 1.0}, 2, [{"GPU": 1.5}], False),
        ({"TPU": 1.0}, 1, cpus(4), False),
        ({"CPU": 1.0}, 1, [], False),
    ],
)
def test_equal_workers_fit_on_nodes(worker, num_workers, nodes, fitting):
    assert fits([worker] * num_workers, nodes) is fitting


def test_large_workers_are_placed_before_small_ones():
    bundles = [*[CPU] * 3, {"CPU": 3.0}]
    assert fits(bundles, cpus(3, 3))
    assert not fits([*bundles, CPU], cpus(3, 3))


def test_workers_without_a_gpu_leave_the_cpus_beside_gpus_free():
    gpu_node, cpu_node = {"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0}
    gpu_worker = {"CPU": 2.0, "GPU": 1.0}
    assert fits([CPU, CPU, gpu_worker], [gpu_node, cpu_node])
    leases = leases_on(gpu_node, cpu_node)
    ask(leases, "cpus", 2, at=1)
    ask(leases, "gpu", 1, at=2, worker=gpu_worker)
    assert granted(leases) == ["cpus", "gpu"]


def test_parts_of_gpus_share_one_so_that_another_stays_whole():
    assert fits([{"GPU": 1.0}, {"GPU": 0.5}, {"GPU": 0.25}, {"GPU": 0.25}], [{"GPU": 2.0}])


def test_waiting_job_is_told_who_holds_what_and_since_when():
    leases = leases_on(*cpus(2, 2))
    ask(leases, "a", 1, at=0, worker={"CPU": 2.0})
    granted(leases, at=10)
    ask(leases, "b", 2, at=60, worker={"CPU": 2.0})
    ask(leases, "c", 1, at=80)
    assert granted(leases) == []
    assert leases.explain("c", now=200.0) == (
        "run-c asked 2:00 ago for 1 worker of 1 CPU at once; the cluster has 4 CPUs on 2 nodes; "
        "run-a has held 1 worker of 2 CPUs for 3:10; "
        "before it, run-b asked 2:20 ago for 2 workers of 2 CPUs. "
        "It begins once enough of that is given back, or nodes are added"
    )


def test_job_larger_than_the_cluster_is_told_what_would_help():
    leases = leases_on(*cpus(2))
    ask(leases, "a", 4, at=0, worker={"CPU": 1.0, "GPU": 0.5})
    text = leases.explain("a", now=0.0)
    assert "4 workers of 1 CPU and 0.5 GPUs at once; the cluster has 2 CPUs on 1 node." in text
    assert "too small: add nodes" in text
    assert "--placement sliced" in text


def test_job_behind_one_larger_than_the_cluster_is_told_of_it():
    leases = leases_on(*cpus(2))
    ask(leases, "a", 4, at=0)
    ask(leases, "b", 1, at=1)
    assert leases.explain("b", now=2.0).endswith(
        "run-a is too large for the cluster: add nodes, or stop that run"
    )
