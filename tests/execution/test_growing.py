"""A run on a cluster that `ray up` has just made: a head without CPUs, and nodes that may come."""

import json
from pathlib import Path

import pytest

from tests.execution.commands import Command, as_flags, command, start
from tests.execution.conftest import wait_until
from tests.execution.hosts import several_hosts

__all__ = ["command"]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

CLUSTER = {
    "max_workers": 2,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 1}, "max_workers": 2},
    },
}
FLAGS = {
    "students": "resnet8,resnet8",
    "dataset": "digits",
    "subset": "400",
    "epochs": "3",
    "tin": "1",
    "td": "2",
    "precision": "fp32",
    "view": "lines",
}


def test_plan_and_run_wait_for_the_nodes_that_they_count_on(
    command: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ray_bootstrap_config.yaml").write_text(json.dumps(CLUSTER))
    with several_hosts(0) as hosts:
        flags = as_flags(FLAGS | {"address": hosts.address, "name": "a"})
        run = start(command, tmp_path, *flags)
        run.wait_for("for 2 workers of 1 CPU at once; the cluster has nothing on 1 node")
        run.wait_for("an autoscaler has been asked to")
        assert "2 students at once, each 1 CPU" in run.out
        hosts.add(num_cpus=1)
        hosts.add(num_cpus=1)
        assert run.end() == 0, run.err
        assert "Traceback" not in run.err
    with several_hosts(0) as hosts:
        flags = as_flags(FLAGS | {"address": hosts.address, "name": "b", "view": "json"})
        plan = start(command, tmp_path, *flags, "--plan")
        wait_until(lambda: "taking a few steps" in plan.out + plan.err, "a plan")
        hosts.add(num_cpus=1)
        hosts.add(num_cpus=1)
        assert plan.end() == 0, plan.err
        nodes = json.loads(plan.out.splitlines()[-1])["nodes"]
        assert sorted(node["workers"] for node in nodes) == [0, 1, 1]
