"""The clusters' files as Ray reads them, and an AWS of moto's in this process."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import moto
import pytest
import yaml
from ray.autoscaler._private.aws import config as ray_config
from ray.autoscaler._private.aws import utils as ray_utils
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler.tags import (
    TAG_RAY_LAUNCH_CONFIG,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ClusterResourceConstraint

from cluster.aws import prepare
from tests.docs.messages import ROOT

CLUSTER = ROOT / "cluster"
REGION = "eu-west-1"
SSH_FROM = "203.0.113.7/32"
FLAGS = ("--region", REGION, "--bucket", "photos", "--ssh_from", SSH_FROM)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
}
# one of those that moto knows
IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


def read(name: str) -> dict[str, Any]:
    """A cluster's file, as `ray up` reads it."""
    config: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return config


def launched(
    config: dict[str, Any], bundles: Sequence[Mapping[str, float]], *, lacking: str = ""
) -> dict[str, int]:
    """Nodes of each type that Ray's autoscaler starts beside the head, for what a run waits for.

    Args:
        config: The cluster's, with the node types' resources.
        bundles: As the admission asks for them by request_resources.
        lacking: A node type that could not be had just now.
    """
    scaling = AutoscalingConfig(config, skip_content_hash=True)
    requests = [ResourceRequestUtil.make(dict(bundle)) for bundle in bundles]
    wanted = ResourceRequestUtil.group_by_count(requests)
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=scaling.get_node_type_configs(),
            max_num_nodes=scaling.get_max_num_nodes(),
            cluster_resource_constraints=[ClusterResourceConstraint(resource_requests=wanted)],
            recoverable_resource_availabilities={lacking: 0.0},
        )
    )
    assert not reply.infeasible_cluster_resource_constraints
    return {request.instance_type: request.count for request in reply.to_launch}


def forget() -> None:
    """Ray keeps its clients of AWS; those of another moto know nothing of this one."""
    for cached in (
        ray_utils.resource_cache,
        ray_utils.client_cache,
        ray_config._get_subnets_or_die,
    ):
        cached.cache_clear()


@contextmanager
def account(home: Path) -> Iterator[None]:
    """An AWS account with nothing in it but what every one has, and a home of its own."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    with (
        patch.dict(os.environ, others | ENVIRONMENT | {"HOME": str(home)}, clear=True),
        patch("time.sleep"),
        patch.object(prepare, "IMAGE", IMAGE),
        moto.mock_aws(),
    ):
        boto3.setup_default_session()
        forget()
        yield
    forget()
    boto3.DEFAULT_SESSION = None


def fill_in(home: Path) -> dict[str, Any]:
    """aws.yaml as prepare leaves it, in ``home``."""
    path = home / "aws.yaml"
    path.write_text((CLUSTER / "aws.yaml").read_text())
    assert prepare.main([*FLAGS, "--yaml", str(path)]) == 0
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    return config


@dataclass(frozen=True)
class Booted:
    """What became of a cluster with one instance of each node type, which is down again.

    Attributes:
        config: As the head got it.
        nodes: What AWS said of each type's instance.
        volumes: And of each one's volumes.
        group: Their security group.
        calls: What the launcher and the head asked of AWS, as ``service:Operation``.
    """

    config: dict[str, Any]
    nodes: dict[str, dict[str, Any]]
    volumes: dict[str, list[dict[str, Any]]]
    group: dict[str, Any]
    calls: dict[str, set[str]]


@pytest.fixture(scope="package")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Booted:
    """Ray's own code, from the file to instances and back."""
    home = tmp_path_factory.mktemp("home")
    calls: dict[str, set[str]] = {"launcher": set(), "head": set()}
    with account(home):
        prepared = fill_in(home)
        with recording(calls["launcher"]):
            config = _bootstrap_config(prepared, no_config_cache=True)
            begin(provider_of(config), config, config["head_node_type"], kind="head")
        with recording(calls["head"]):
            provider = provider_of(config)
            for name in sorted(config["available_node_types"].keys() - {config["head_node_type"]}):
                begin(provider, config, name, kind="worker")
            seen = described()
            provider.terminate_nodes(provider.non_terminated_nodes({TAG_RAY_NODE_KIND: "worker"}))
        with recording(calls["launcher"]):
            provider = provider_of(config)
            provider.terminate_nodes(provider.non_terminated_nodes({}))
            assert provider.non_terminated_nodes({}) == []
    return Booted(config, *seen, calls)


def provider_of(config: dict[str, Any]) -> AWSNodeProvider:
    """What Ray launches nodes with."""
    return AWSNodeProvider(config["provider"], config["cluster_name"])


@contextmanager
def recording(calls: set[str]) -> Iterator[None]:
    """Note what is asked of AWS by clients made in the block."""

    def note(model: Any, **_: Any) -> None:
        calls.add(f"{model.service_model.service_name}:{model.name}")

    events = boto3.DEFAULT_SESSION.events  # clients take a copy when they are made
    events.register("before-call", note)
    forget()
    yield
    events.unregister("before-call", note)
    forget()


def begin(provider: AWSNodeProvider, config: dict[str, Any], name: str, *, kind: str) -> None:
    """Create a node of a type and tag it, as Ray does while it sets a node up."""
    tags = {
        TAG_RAY_NODE_KIND: kind,
        TAG_RAY_NODE_NAME: f"ray-raymd-{kind}",
        TAG_RAY_LAUNCH_CONFIG: "0",
        TAG_RAY_USER_NODE_TYPE: name,
    }
    created = provider.create_node(config["available_node_types"][name]["node_config"], tags, 1)
    assert created.keys() <= {*provider.non_terminated_nodes({})}
    for node in created:
        provider.set_node_tags(node, {TAG_RAY_NODE_STATUS: "up-to-date"})


def described() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Instances and volumes by node type, and the group of all; by clients that nobody records."""
    ec2 = boto3.Session().client("ec2", REGION)
    answer = ec2.describe_instances()["Reservations"]
    instances = [one for reservation in answer for one in reservation["Instances"]]
    tags = [{tag["Key"]: tag["Value"] for tag in instance["Tags"]} for instance in instances]
    nodes = {tag[TAG_RAY_USER_NODE_TYPE]: one for tag, one in zip(tags, instances, strict=True)}
    volumes = {
        name: ec2.describe_volumes(
            Filters=[{"Name": "attachment.instance-id", "Values": [node["InstanceId"]]}]
        )["Volumes"]
        for name, node in nodes.items()
    }
    ids = {group["GroupId"] for node in nodes.values() for group in node["SecurityGroups"]}
    (group,) = ec2.describe_security_groups(GroupIds=sorted(ids))["SecurityGroups"]
    return nodes, volumes, group
