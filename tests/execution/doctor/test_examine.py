"""A cluster of three nodes examined for real: one that sees other storage, one that is silent."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from raymd.cli import main
from raymd.execution.doctor import examine as examine_module
from raymd.execution.doctor.checks import CHECKS
from raymd.execution.doctor.examine import Examination, examine
from raymd.execution.doctor.finding import CLUSTER, Finding
from tests.execution.hosts import Hosts, node_with_other_storage, several_hosts
from tests.execution.test_hosts import can_mount

BETWEEN = ("clock", "object store", "network", "storage")

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with several_hosts(1, 1, 1) as three:
        yield three


def of(examination: Examination, check: str) -> dict[str, Finding]:
    """A check's findings by node."""
    return {one.node: one for one in examination.findings if one.check == check}


def test_all_nodes_of_a_cluster_are_examined_and_nothing_is_left(
    hosts: Hosts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    words = ["doctor", "--address", hosts.address, "--storage", str(folder), "--json"]
    code = main(words)
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert len(set(said["nodes"])) == 3
    checks = {(one["node"], one["check"]): one for one in said["findings"]}
    for node in said["nodes"]:
        assert {check for where, check in checks if where == node} == {
            *(check.name for check in CHECKS), *BETWEEN
        }  # fmt: skip
        assert checks[node, "versions"]["level"] == "ok"
        assert checks[node, "storage"]["level"] in ("ok", "warning")  # a slow disk, or a full one
        assert " from " in checks[node, "network"]["found"]
    assert checks[CLUSTER, "resources"]["found"].startswith("3 nodes, 3 CPUs")
    assert code == (1 if said["problems"] else 0)
    assert "asking 3 nodes" in err
    assert not folder.exists()


@can_mount
def test_node_with_other_storage_is_named_and_the_others_are_well(
    hosts: Hosts, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    ray.init(address=hosts.address, log_to_driver=False)
    try:
        with node_with_other_storage(hosts, tmp_path / "runs"):
            found = of(examine(str(tmp_path / "runs")), "storage")
    finally:
        ray.shutdown()
    assert len(found) == 4
    (bad,) = [one for one in found.values() if one.level == "problem"]
    assert "it sees another folder there" in bad.found
    assert "s3://" in bad.remedy
    assert list((tmp_path / "runs").iterdir()) == []


def test_storage_that_the_driver_cannot_write_is_a_problem_of_every_node(
    hosts: Hosts, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    examination = examine(str(tmp_path / "file" / "runs"), address=hosts.address)
    found = of(examination, "storage").values()
    assert {one.level for one in found} == {"problem"}
    assert all("the driver cannot write there" in one.found for one in found)


def test_silent_node_is_a_finding_and_the_others_are_examined(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine_module, "START_S", 15.0)
    raylet = list(hosts.nodes.values())[-1]
    os.kill(raylet, signal.SIGSTOP)
    try:
        examination = examine(str(tmp_path), address=hosts.address)
    finally:
        os.kill(raylet, signal.SIGCONT)
    (silent,) = of(examination, "answer").values()
    assert (silent.level, silent.found) == ("problem", "no answer within 15 s")
    assert len(of(examination, "versions")) == 2
    assert len(of(examination, "network")) == 2
