"""aws.yaml through Ray's own launcher, against moto."""

import copy

import botocore.exceptions
import pytest
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config

from raymd.execution.cluster import HEAD, grown
from raymd.execution.plan import make_plan
from tests.cluster.conftest import SSH_FROM, account, begin, launched, provider_of, read

pytestmark = pytest.mark.slow  # moto's AWS answers in tens of seconds

TYPES = {"head": "m7i.xlarge", "gpu_spot": "g6.4xlarge", "gpu": "g6.4xlarge"}
HEAD_NODE = {HEAD: 1.0, "memory": 1e9}


@pytest.fixture
def aws(tmp_path):
    with account(tmp_path):
        yield


def test_every_type_boots_as_the_instance_it_names(booted):
    assert {kind: node["InstanceType"] for kind, node in booted.nodes.items()} == TYPES


def test_only_the_spot_type_is_spot(booted):
    spot = {kind for kind, node in booted.nodes.items() if node.get("InstanceLifecycle") == "spot"}
    assert spot == {"gpu_spot"}


def test_head_and_workers_have_their_own_profiles(booted):
    profiles = {
        kind: node["IamInstanceProfile"]["Arn"].rpartition("/")[2]
        for kind, node in booted.nodes.items()
    }
    assert profiles == {"head": "raymd-head", "gpu_spot": "raymd-worker", "gpu": "raymd-worker"}


def test_metadata_needs_a_session_token(booted):
    for node in booted.nodes.values():
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert node["MetadataOptions"]["HttpPutResponseHopLimit"] == 1


def test_volumes_are_encrypted_gp3_and_go_with_their_node(booted):
    assert booted.volumes.keys() == booted.nodes.keys()
    for name, (volume,) in booted.volumes.items():
        assert (volume["VolumeType"], volume["Encrypted"]) == ("gp3", True)
        (mapping,) = booted.nodes[name]["BlockDeviceMappings"]
        assert mapping["Ebs"]["DeleteOnTermination"]


def test_nobody_but_whom_it_names_reaches_the_nodes(booted):
    rules = booted.group["IpPermissions"]
    by_address = [(r["FromPort"], r["ToPort"], r["IpRanges"]) for r in rules if r["IpRanges"]]
    assert by_address == [(22, 22, [{"CidrIp": SSH_FROM}])]
    others = [source["GroupId"] for rule in rules for source in rule["UserIdGroupPairs"]]
    assert others == [booted.group["GroupId"]]
    assert not any(rule["Ipv6Ranges"] or rule["PrefixListIds"] for rule in rules)


def test_ray_fills_in_what_the_nodes_have(booted):
    types = booted.config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    for kind in ("gpu", "gpu_spot"):
        resources = types[kind]["resources"]
        assert (resources["CPU"], resources["GPU"]) == (16, 1)
        assert resources["memory"] > 30 * 2**30
    assert types["gpu_spot"]["priority"] > types["gpu"].get("priority", 0)


def test_a_run_on_the_head_alone_plans_with_all_that_may_come_and_gets_it(booted):
    nodes = grown([HEAD_NODE], booted.config)
    assert len(nodes) == 1 + booted.config["max_workers"]
    plan = make_plan({"resnet50": 2, "resnet18": 1}, nodes=nodes)
    assert (plan.placement, plan.slots, plan.device) == ("resident", 3, "cuda")
    assert launched(booted.config, plan.bundles) == {"gpu_spot": 3}
    assert launched(booted.config, plan.bundles, lacking="gpu_spot") == {"gpu": 3}
    assert plan.worker_resources == {"CPU": 16.0, "GPU": 1.0}
    many = make_plan({f"resnet8-{i}": 1 for i in range(12)}, nodes=nodes)
    assert (many.placement, many.slots) == ("sliced", 8)


@pytest.mark.parametrize("path", [["InstanceMarketOption"], ["MetadataOptions", "HttpToken"]])
def test_misspelt_key_of_a_node_is_refused(path, booted, aws):
    wrong = copy.deepcopy(booted.config)
    *parents, key = path
    place = wrong["available_node_types"]["gpu"]["node_config"]
    for parent in parents:
        place = place[parent]
    place[key] = "required"
    with pytest.raises(botocore.exceptions.ParamValidationError, match=key):
        begin(provider_of(wrong), wrong, "gpu", kind="worker")


def test_misspelt_instance_type_is_refused(aws):
    wrong = read("aws.yaml")
    wrong["available_node_types"]["gpu"]["node_config"]["InstanceType"] = "g6.4xlrage"
    with pytest.raises(ValueError, match=r"g6\.4xlrage is not available"):
        AWSNodeProvider.fillout_available_node_types_resources(wrong)


def test_file_that_nobody_prepared_launches_nothing(aws, capsys):
    with pytest.raises(AssertionError):
        AWSNodeProvider.bootstrap_config(prepare_config(read("aws.yaml")))
    assert "Failed to detect a security group" in capsys.readouterr().err
