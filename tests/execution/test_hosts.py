"""Three nodes: students apart, a node lost and replaced, and storage that a node does not share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.execution.cluster import alive_nodes
from raymd.execution.shared_storage import check_begun, check_shared
from raymd.storage import Storage
from tests.execution.commands import Command, as_flags, command, start
from tests.execution.conftest import fit_without_ray, titled
from tests.execution.hosts import Hosts, node_with_other_storage, several_hosts
from tests.training.conftest import final_files

__all__ = ["command"]

FLAGS = {
    "students": "resnet8,resnet8,resnet8",
    "dataset": "digits",
    "epochs": "14",
    "tin": "1",
    "td": "6",
    "precision": "fp32",
    "lr": "0.02",
    "batch_size": "64",
    "cpus_per_worker": "1",
    "checkpoint_every": "2s",
    "name": "hosts",
}

can_mount = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="a node with other storage is made by a mount namespace, which takes root",
)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with several_hosts(1, 1, 1) as three:
        yield three


@pytest.fixture
def joined(hosts: Hosts) -> Iterator[Hosts]:
    ray.init(address=hosts.address, log_to_driver=False)
    try:
        yield hosts
    finally:
        ray.shutdown()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    (tmp_path / "runs").mkdir()
    return Storage.at(tmp_path / "runs")


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_storage_that_all_nodes_see_is_taken_and_left_as_it_was(
    joined: Hosts, storage: Storage
) -> None:
    assert len(alive_nodes()) == 3
    check_shared(storage, alive_nodes())
    assert storage.list() == []


@pytest.mark.ray
@can_mount
@pytest.mark.timeout(600)
def test_storage_that_one_node_does_not_share_is_refused(joined: Hosts, storage: Storage) -> None:
    with node_with_other_storage(joined, Path(storage.uri)):
        with pytest.raises(UserError, match=r"\(--storage\) is not shared with node .*s3://"):
            check_shared(storage, alive_nodes())
        assert storage.list() == []


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_node_that_does_not_answer_in_time_is_named(joined: Hosts, storage: Storage) -> None:
    with pytest.raises(UserError, match=r"1 more node.*no answer within 0 s"):
        check_shared(storage, alive_nodes(), timeout_s=0)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_only_nodes_that_could_hold_a_worker_are_asked(joined: Hosts, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unwritable = Storage.at(tmp_path / "file" / "runs")
    here = ray.get_runtime_context().get_node_id()
    bare = [
        node if node["NodeID"] == here else {**node, "Resources": {"memory": 1}}
        for node in alive_nodes()
    ]
    check_shared(unwritable, bare)


def test_worker_that_does_not_see_its_run_says_so(storage: Storage) -> None:
    with pytest.raises(UserError, match=r"is not to be seen from node .*s3://"):
        check_begun(storage)
    storage.commit("run.json", {})
    check_begun(storage)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_node_lost_and_replaced_in_mid_run_changes_no_bit(
    hosts: Hosts, command: list[Command], tmp_path: Path
) -> None:
    flags = as_flags(FLAGS)
    run = start(command, tmp_path, "--address", hosts.address, *flags)
    run.wait_for("cycle 1 distil")
    # each student has a node, so blocks of two nodes cross to wherever they are merged
    nodes = {node: titled("ray::RayTrainWorker", raylet) for node, raylet in hosts.nodes.items()}
    assert [len(workers) for workers in nodes.values()] == [1, 1, 1]
    hosts.kill(list(hosts.nodes)[1])
    hosts.add(num_cpus=1)
    assert run.end() == 0, run.err
    assert " restarted at epoch " in run.out
    alone = fit_without_ray(FitConfig.from_mapping({**FLAGS, "storage": str(tmp_path / "alone")}))
    assert final_files(Storage.at(tmp_path / "runs" / "hosts")) == final_files(alone)
