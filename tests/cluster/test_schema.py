"""Every cluster file against Ray's own schema."""

import copy
import re
import subprocess
import tomllib

import pytest
import ray
from jsonschema import ValidationError
from packaging.requirements import Requirement
from ray.autoscaler._private.util import _get_default_config, prepare_config, validate_config

from tests.cluster.conftest import CLUSTER, read
from tests.docs.messages import ROOT

FILES = sorted(path.name for path in CLUSTER.glob("*.yaml"))
CLOUDS = ("aws.yaml", "gcp.yaml")


@pytest.mark.parametrize("name", FILES)
def test_file_is_what_ray_up_takes(name):
    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("key", ["max_worker", "file_mount", "setup_command"])
def test_misspelt_key_is_refused(name, key):
    with pytest.raises(ValidationError, match=key):
        validate_config(prepare_config(read(name) | {key: 1}))


@pytest.mark.parametrize("name", CLOUDS)
def test_misspelt_key_of_a_node_type_is_refused(name):
    config = read(name)
    for kind in config["available_node_types"]:
        wrong = copy.deepcopy(config)
        wrong["available_node_types"][kind]["min_worker"] = 0
        with pytest.raises(ValidationError, match="min_worker"):
            validate_config(prepare_config(wrong))


@pytest.mark.parametrize("name", CLOUDS)
def test_nothing_is_left_to_rays_defaults(name):
    config = read(name)
    defaults = _get_default_config(config["provider"])
    # what Ray's file sets and ours does not would be taken from there
    assert {key for key, value in defaults.items() if value} - config.keys() == set()
    for part in ("provider", "auth"):
        left = defaults[part].keys() - config[part].keys()
        assert left <= {"availability_zone"}, f"{part}: {left}"


def pins():
    """Versions by package, of constraints.txt."""
    lines = (CLUSTER / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    return {each.name: str(each.specifier).removeprefix("==") for each in requirements}


@pytest.mark.parametrize("name", FILES)
def test_nodes_have_the_pinned_versions(name):
    config = read(name)
    (local,) = (config["file_mounts"][key] for key in config["file_mounts"] if "constraints" in key)
    assert local == "cluster/constraints.txt"
    (install,) = (each for each in config["setup_commands"] if " -e " in each)
    assert install.endswith(" -c ~/raymd/constraints.txt")


def test_what_is_pinned_is_allowed_and_of_this_ray():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [
        each for extra in ("timm", "tune") for each in project["optional-dependencies"][extra]
    ]
    allowed = {r.name: r.specifier for r in map(Requirement, [*project["dependencies"], *extras])}
    pinned = pins()
    assert {"ray", "torch", "torchvision", "numpy", "pyarrow", "timm"} == pinned.keys()
    assert pinned["ray"] == ray.__version__
    for name, version in pinned.items():
        assert allowed[name].contains(version)
        assert "+" not in version  # such a build is on no index


def test_an_environments_own_versions_are_constraints_too(tmp_path):
    """The command in constraints.txt, on what pip can print."""
    text = (CLUSTER / "constraints.txt").read_text()
    (command,) = re.findall(r"^#   pip freeze \| (.+) > cluster/constraints.txt$", text, re.M)
    frozen = (
        "ray==2.60.0\ntorch==2.14.1+cpu\n-e git+https://host/raymd@1a2b#egg=raymd\nx @ file:///x\n"
    )
    done = subprocess.run(["sh", "-c", command], input=frozen, capture_output=True, text=True)
    assert done.stdout == "ray==2.60.0\ntorch==2.14.1\n"


@pytest.mark.parametrize("name", CLOUDS)
def test_nodes_are_started_with_token_files_and_a_private_dashboard(name):
    config = read(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert config["setup_commands"][0] == "chmod 600 ~/.ray/auth_token"
    for role in ("head", "worker"):
        start = config[f"{role}_start_ray_commands"][-1]
        assert "RAY_AUTH_MODE=token" in start
        assert "ulimit -n $(ulimit -Hn)" in start
    head = config["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head


@pytest.mark.parametrize("name", CLOUDS)
def test_what_is_mounted_is_there_and_enough_to_install(name):
    mounts = read(name)["file_mounts"]
    ours = {remote: local for remote, local in mounts.items() if remote.startswith("~/raymd/")}
    assert all((ROOT / local).exists() for local in ours.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"raymd", "pyproject.toml", project["readme"], *project["license-files"]}
    needed |= {"cluster/constraints.txt"}
    assert set(ours.values()) == needed
