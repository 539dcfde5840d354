"""gcp.yaml through Ray's own launcher, against a Google Cloud that writes down what it is asked.

What instances are asked for is held against the description of the API that Google's client brings.
"""

import copy
import json
from pathlib import Path
from typing import Any

import googleapiclient
import httplib2
import pytest
import yaml
from googleapiclient import discovery
from ray.autoscaler._private.gcp import config as ray_config
from ray.autoscaler._private.gcp.node import GCPCompute
from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME

from raymd.execution.cluster import HEAD, grown
from raymd.execution.plan import make_plan
from tests.cluster.conftest import CLUSTER, launched, read

DESCRIBED = Path(googleapiclient.__file__).parent / "discovery_cache/documents/compute.v1.json"
SCHEMAS = json.loads(DESCRIBED.read_text())["schemas"]
ACCOUNT = {"email": "ray-autoscaler-sa-v1@photos-1.iam.gserviceaccount.com"}
ANSWERS = {
    "/projects/photos-1:getIamPolicy": {"bindings": []},
    "/projects/photos-1:setIamPolicy": {},
    "cloudresourcemanager.googleapis.com/v1/projects/photos-1": {
        "projectId": "photos-1",
        "lifecycleState": "ACTIVE",
    },
    "/serviceAccounts/": ACCOUNT | {"projectId": "photos-1"},
    "compute/v1/projects/photos-1?": {"name": "photos-1", "commonInstanceMetadata": {}},
    "/setCommonInstanceMetadata": {"name": "operation"},
    "/instances": {"name": "operation"},
    "/operations/": {"status": "DONE"},
}


class Google:
    """An httplib2.Http: answers anything of ANSWERS, and keeps what is to be made."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def request(self, uri: str, method: str = "GET", body: str | None = None, **_: Any) -> Any:
        (answer,) = [answer for part, answer in ANSWERS.items() if part in uri][:1]
        if method == "POST" and "/instances?" in uri:
            self.bodies.append(json.loads(body or ""))
        return httplib2.Response({"status": "200"}), json.dumps(answer).encode()


def filled():
    """gcp.yaml after the `sed` on its top."""
    return yaml.safe_load((CLUSTER / "gcp.yaml").read_text().replace("PROJECT-ID", "photos-1"))


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """What Google is asked to make for each node type."""
    google = Google()

    def build(service, version):
        return lambda credentials=None: discovery.build(service, version, http=google)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr("time.sleep", lambda seconds: None)
        patch.setattr(ray_config, "_create_crm", build("cloudresourcemanager", "v1"))
        patch.setattr(ray_config, "_create_iam", build("iam", "v1"))
        patch.setattr(ray_config, "_create_compute", build("compute", "v1"))
        patch.setattr(GCPCompute, "get_new_authorized_http", lambda self, http: google)
        config = GCPNodeProvider.bootstrap_config(prepare_config(filled()))
        provider = GCPNodeProvider(config["provider"], config["cluster_name"])
        for name, kind in config["available_node_types"].items():
            tags = {TAG_RAY_NODE_NAME: "ray-raymd-node", TAG_RAY_NODE_KIND: "worker"}
            # as get_or_create_head_node does it: the file's settings go over those of bootstrap
            base = config["head_node"] if name == config["head_node_type"] else {}
            provider.create_node(base | kind["node_config"], tags, 1)
    return dict(zip(config["available_node_types"], google.bodies, strict=True))


def unknown(value, schema, place=""):
    """Keys and values that the API's description has no place for."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"]]
    if isinstance(value, list):
        return [u for each in value for u in unknown(each, schema["items"], f"{place}[]")]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value}"]
    if not isinstance(value, dict) or "additionalProperties" in schema:
        return []
    known = schema.get("properties", {})
    wrong = [f"{place}.{key}" for key in value.keys() - known.keys()]
    inner = [unknown(value[key], known[key], f"{place}.{key}") for key in value.keys() & known]
    return wrong + [each for found in inner for each in found]


def test_instances_are_what_the_api_describes(bodies):
    assert bodies.keys() == {"head", "gpu_spot", "gpu"}
    for body in bodies.values():
        assert unknown(body, {"$ref": "Instance"}) == []


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (["machineTyp"], "n2", ".machineTyp"),
        (["scheduling", "provisionModel"], "SPOT", ".scheduling.provisionModel"),
        (["scheduling", "provisioningModel"], "CHEAP", ".scheduling.provisioningModel: CHEAP"),
        (["disks", 0, "autodelete"], True, ".disks[].autodelete"),
    ],
)
def test_misspelt_keys_and_values_are_found(path, value, found, bodies):
    place = wrong = copy.deepcopy(bodies["gpu_spot"])
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert unknown(wrong, {"$ref": "Instance"}) == [found]


def test_file_without_a_project_is_refused():
    projects = discovery.build("compute", "v1", http=Google()).projects()
    with pytest.raises(TypeError, match='"PROJECT-ID" does not match'):
        projects.get(project=read("gcp.yaml")["provider"]["project_id"])


def test_only_the_spot_type_is_spot(bodies):
    models = {
        kind: body.get("scheduling", {}).get("provisioningModel") for kind, body in bodies.items()
    }
    assert models == {"head": None, "gpu_spot": "SPOT", "gpu": "STANDARD"}
    # a machine with a GPU cannot be moved to another host while it runs
    assert bodies["gpu"]["scheduling"]["onHostMaintenance"] == "TERMINATE"


def test_head_and_workers_have_accounts_of_their_own(bodies):
    accounts = {
        kind: body["serviceAccounts"][0]["email"].partition("@")[0] for kind, body in bodies.items()
    }
    assert accounts == {"head": "raymd-head", "gpu_spot": "raymd-worker", "gpu": "raymd-worker"}


def test_nodes_lie_in_a_network_of_their_own(bodies):
    for body in bodies.values():
        (interface,) = body["networkInterfaces"]
        assert interface["subnetwork"].endswith("/subnetworks/raymd")


def test_region_and_zone_agree_everywhere(bodies):
    provider = filled()["provider"]
    zone = provider["availability_zone"]
    assert zone.startswith(provider["region"])
    for body in bodies.values():
        assert f"/regions/{provider['region']}/" in body["networkInterfaces"][0]["subnetwork"]
        assert body["machineType"].startswith(f"zones/{zone}/")
        (disk,) = body["disks"]
        assert disk["initializeParams"]["diskType"].startswith(f"zones/{zone}/")


def test_a_run_on_the_head_alone_plans_with_all_that_may_come_and_gets_it():
    config = prepare_config(filled())
    nodes = grown([{HEAD: 1.0, "memory": 1e9}], config)
    assert len(nodes) == 1 + config["max_workers"]
    plan = make_plan({"resnet50": 2, "resnet18": 1}, nodes=nodes)
    assert (plan.placement, plan.slots, plan.device) == ("resident", 3, "cuda")
    assert launched(config, plan.bundles) == {"gpu_spot": 3}
    assert launched(config, plan.bundles, lacking="gpu_spot") == {"gpu": 3}
