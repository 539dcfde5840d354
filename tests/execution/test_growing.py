"""A run on a cluster that `ray up` has just made: a head without CPUs, and nodes that may come."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.execution.commands import Command, as_flags, command, start
from tests.execution.hosts import Hosts, several_hosts

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


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", token_hex(32))  # there is none in this home
    (tmp_path / "ray_bootstrap_config.yaml").write_text(json.dumps(CLUSTER))
    with several_hosts(0) as hosts:
        yield hosts


def grow(hosts: Hosts) -> None:
    """Do as the autoscaler does."""
    hosts.add(num_cpus=1)
    hosts.add(num_cpus=1)


def test_run_waits_for_the_nodes_that_it_was_planned_with(
    head: Hosts, command: list[Command], tmp_path: Path
) -> None:
    run = start(command, tmp_path, *as_flags(FLAGS | {"address": head.address}))
    run.wait_for("for 2 workers of 1 CPU at once; the cluster has nothing on 1 node")
    run.wait_for("an autoscaler has been asked to")
    assert "2 students at once, each 1 CPU" in run.out
    grow(head)
    assert run.end() == 0, run.err
    assert "Traceback" not in run.err


def test_plan_counts_the_nodes_that_came_for_it(
    head: Hosts, command: list[Command], tmp_path: Path
) -> None:
    plan = start(command, tmp_path, *as_flags(FLAGS | {"address": head.address}), "--plan")
    plan.wait_for("taking a few steps")
    grow(head)
    assert plan.end() == 0, plan.err
    there = re.findall(
        r"(?:(\d) x )?1 CPUs, 0 GPUs, \S+ \S+ \(1 worker\)", " ".join(plan.out.split())
    )
    assert sum(int(count or 1) for count in there) == 2, plan.out
