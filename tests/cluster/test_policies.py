"""The policies beside aws.yaml allow what Ray calls, and nothing it does not call."""

import json
from fnmatch import fnmatchcase

import pytest

from tests.cluster.conftest import CLUSTER

pytestmark = pytest.mark.slow  # moto's AWS answers in tens of seconds

NAMES = ("launcher", "head", "worker")


def statements(name):
    policy = json.loads((CLUSTER / "aws" / f"{name}-policy.json").read_text())
    assert policy["Version"] == "2012-10-17"
    return policy["Statement"]


def actions(statement):
    listed = statement["Action"]
    return [listed] if isinstance(listed, str) else listed


def allowed(name):
    return {action for statement in statements(name) for action in actions(statement)}


def may_launch(name, booted, kind, resource, **context):
    """Whether a policy, as prepare fills it in, lets a launch use a resource of this kind."""
    account = "" if kind == "image" else "123456789012"
    arn = f"arn:aws:ec2:eu-west-1:{account}:{kind}/{resource}"
    allowing = []
    for statement in statements(name):
        listed = statement["Resource"]
        patterns = [listed] if isinstance(listed, str) else listed
        patterns = [each.replace("GROUP", booted.group["GroupId"]) for each in patterns]
        wanted = statement.get("Condition", {}).get("StringEquals", {})
        held = wanted.items() <= context.items()
        if "ec2:RunInstances" in actions(statement) and held:
            allowing.extend(pattern for pattern in patterns if fnmatchcase(arn, pattern))
    return bool(allowing)


def refused(calls, *, by):
    """Those of the calls that no allowed action matches."""
    return {call for call in calls if not any(fnmatchcase(call, pattern) for pattern in by)}


@pytest.mark.parametrize("who", ["launcher", "head"])
def test_policy_allows_every_call(who, booted):
    assert booted.calls[who]
    assert refused(booted.calls[who], by=allowed(who)) == set()


@pytest.mark.parametrize("who", ["launcher", "head"])
def test_policy_without_any_one_action_would_not_do(who, booted):
    for action in allowed(who) - {"iam:PassRole"}:
        assert refused(booted.calls[who], by=allowed(who) - {action}), f"{action} is never called"


@pytest.mark.parametrize(
    ("who", "node"), [("launcher", "head"), ("head", "gpu_spot"), ("head", "gpu")]
)
def test_launches_may_use_what_they_used(who, node, booted):
    launched = booted.nodes[node]
    tags = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in launched["Tags"]}
    assert may_launch(who, booted, "instance", launched["InstanceId"], **tags)
    assert may_launch(who, booted, "image", launched["ImageId"], **{"ec2:Owner": "amazon"})
    (group,) = launched["SecurityGroups"]
    (interface,) = launched["NetworkInterfaces"]
    (volume,) = booted.volumes[node]
    for kind, resource in {
        "key-pair": launched["KeyName"],
        "subnet": launched["SubnetId"],
        "security-group": group["GroupId"],
        "network-interface": interface["NetworkInterfaceId"],
        "volume": volume["VolumeId"],
    }.items():
        assert may_launch(who, booted, kind, resource), kind
    if "InstanceLifecycle" in launched:
        assert may_launch(who, booted, "spot-instances-request", "sir-1")


@pytest.mark.parametrize("who", ["launcher", "head"])
def test_launches_may_use_nothing_of_others(who, booted):
    assert not may_launch(who, booted, "instance", "i-1")
    other = {"aws:RequestTag/ray-cluster-name": "other"}
    assert not may_launch(who, booted, "instance", "i-1", **other)
    assert not may_launch(who, booted, "image", "ami-1", **{"ec2:Owner": "123456789012"})
    assert not may_launch(who, booted, "snapshot", "snap-1")
    assert not may_launch(who, booted, "key-pair", "mine")
    assert may_launch(who, booted, "security-group", "sg-1") == (who == "launcher")


def test_roles_are_handed_on_only_where_nodes_have_them(booted):
    def roles(who):
        (statement,) = (s for s in statements(who) if "iam:PassRole" in actions(s))
        assert statement["Condition"]["StringEquals"]["iam:PassedToService"] == "ec2.amazonaws.com"
        return statement["Resource"]

    profiles = {
        kind: node["node_config"]["IamInstanceProfile"]["Name"]
        for kind, node in booted.config["available_node_types"].items()
    }
    assert roles("launcher") == f"arn:aws:iam::*:role/{profiles.pop('head')}"
    (worker,) = set(profiles.values())
    assert roles("head") == f"arn:aws:iam::*:role/{worker}"


@pytest.mark.parametrize("name", NAMES)
def test_what_changes_or_ends_instances_is_bound_to_the_cluster(name, booted):
    for statement in statements(name):
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in actions(statement))
        if {"ec2:TerminateInstances", "ec2:CreateTags"} & set(actions(statement)):
            ((_, value),) = statement["Condition"]["StringEquals"].items()
            assert value in (booted.config["cluster_name"], "RunInstances")


def test_workers_reach_one_bucket_and_nothing_else():
    assert {action.partition(":")[0] for action in allowed("worker")} == {"s3"}
    resources = [statement["Resource"] for statement in statements("worker")]
    assert resources == ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"]
