"""What an autoscaling cluster can grow to, from the configuration that `ray up` leaves behind."""

from pathlib import Path
from typing import Any

import pytest

from raymd.execution import cluster
from raymd.execution.cluster import HEAD, cluster_config, grown

CONFIG: dict[str, Any] = {
    "max_workers": 6,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 4},
        "spot": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 9},
    },
}
HEAD_NODE = {HEAD: 1.0, "memory": 1e9}


def test_cluster_grows_to_its_node_types_within_its_own_limit() -> None:
    nodes = grown([HEAD_NODE], CONFIG)
    assert nodes == [HEAD_NODE, *[{"CPU": 8, "GPU": 1}] * 4, *[{"CPU": 4, "GPU": 1}] * 2]


def test_cluster_without_configuration_stays_as_it_is() -> None:
    assert grown([HEAD_NODE, {"CPU": 4.0}], None) == [HEAD_NODE, {"CPU": 4.0}]


def test_file_of_another_cluster_on_this_machine_is_left_alone() -> None:
    # a laptop that was a head once joins another cluster: no node of that is seen as its head
    assert grown([{"CPU": 4.0}], CONFIG) == [{"CPU": 4.0}]


def test_cluster_larger_than_its_configuration_says_is_taken_as_it_is() -> None:
    nodes = [HEAD_NODE, *[{"CPU": 4.0}] * 9]
    assert grown(nodes, CONFIG) == nodes


def test_configuration_is_read_where_ray_up_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "BOOTSTRAP", tmp_path / "config.yaml")
    assert cluster_config() is None
    (tmp_path / "config.yaml").write_text("max_workers: 3\n")
    assert cluster_config() == {"max_workers": 3}
