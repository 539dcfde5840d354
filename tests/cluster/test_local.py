"""cluster/local.yaml: Ray takes it, and nothing is left to Ray's defaults."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
DEFAULTS = Path(ray.__file__).parent / "autoscaler" / "local" / "defaults.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster" / "local.yaml").read_text())


def test_ray_takes_it(config: dict[str, Any]) -> None:
    validate_config(prepare_config(config))


def test_ray_refuses_a_misspelt_key(config: dict[str, Any]) -> None:
    config["setup_comands"] = config.pop("setup_commands")
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config(config))


def test_nothing_is_left_to_rays_defaults(config: dict[str, Any]) -> None:
    defaults = yaml.safe_load(DEFAULTS.read_text())
    assert defaults.keys() - config.keys() == {"docker"}


def test_what_is_mounted_is_there_and_is_what_an_installation_needs(config: dict[str, Any]) -> None:
    sources = [Path(source) for source in config["file_mounts"].values()]
    assert all((ROOT / source).exists() for source in sources if not str(source).startswith("~"))
    assert {"raymd", "pyproject.toml", "README.md", "LICENSE"} <= {str(path) for path in sources}


def test_the_head_is_started_with_its_address(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "ray_bootstrap_config.yaml").write_text(json.dumps(prepare_config(config)))
    programs = tmp_path / "raymd-env" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "ray").write_text('#!/bin/sh\necho "$@"\n')
    (programs / "ray").chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{programs}:/usr/bin:/bin"}
    start = ["bash", "-c", config["head_start_ray_commands"][-1]]
    done = subprocess.run(start, env=environment, capture_output=True, text=True, check=True)
    assert f"--head --node-ip-address={config['provider']['head_ip']} " in done.stdout


def test_every_node_asks_for_the_token_and_the_dashboard_is_on_localhost(
    config: dict[str, Any],
) -> None:
    head, worker = (config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker"))
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--dashboard-host=127.0.0.1" in head
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
