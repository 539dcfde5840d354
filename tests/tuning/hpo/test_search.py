"""Searches on a real Ray: a grid, an early end that leaves nothing, a kill that is made good."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray._private.state import actors
from ray.util.placement_group import placement_group_table

from raymd.config import FitConfig
from raymd.point import TRIALS
from raymd.storage import Storage
from tests.execution.conftest import descendants, fit_without_ray, small_ray, wait_until
from tests.training.conftest import final_files
from tuning.search import main

import psutil  # isort: skip  # ray brings it along, so it is there after ray

__all__ = ["small_ray"]

TINY = {
    "students": "resnet8", "dataset": "digits", "subset": 120, "epochs": 2, "tin": 1, "td": 1,
    "precision": "fp32", "batch_size": 32,
}  # fmt: skip
GONE_S = 60.0
OURS = ("PointTrial", "Monitor", "Aggregator", "TrainController", "RayTrainWorker")


def write_space(path: Path, search: dict[str, Any], **fixed: Any) -> str:
    path.write_text(yaml.safe_dump({"search": search, "fixed": {**TINY, **fixed}}))
    return str(path)


def outcome(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "search.json").read_text())


def left() -> list[str]:
    """What is left of trials in the Ray that is connected."""
    groups = [g for g in placement_group_table().values() if g["state"] != "REMOVED"]
    names = [a["ActorClassName"] for a in actors().values() if a["State"] != "DEAD"]
    return [*(g["placement_group_id"] for g in groups), *(n for n in names if n in OURS)]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_grid_ends_with_a_table_and_counts_what_diverged(
    tmp_path: Path, small_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    space = write_space(tmp_path / "space.yaml", {"lr": [0.05, 1e30]})
    code = main(["--space", space, "--storage", str(tmp_path), "--name", "grid"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "chosen: lr 0.05" in told
    assert "1 of 1 seed diverged" in told
    good, bad = outcome(tmp_path / "grid")["points"]
    assert (good["status"], bad["status"], bad["num_diverged"]) == ("finished", "diverged", 1)
    assert "the loss is not a number" in bad["seeds"][0]["reason"]
    result = json.loads((tmp_path / "grid" / good["runs"][0] / "result.json").read_text())
    assert good["objective"]["mean"] == result["students"][0]["last"]["val"]["accuracy"]
    wait_until(lambda: not left(), "an end of all trials", timeout_s=GONE_S)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_point_that_is_ended_early_leaves_nothing(tmp_path: Path, small_ray: None) -> None:
    space = write_space(
        tmp_path / "space.yaml", {"lr": [0.02, 1e-7]}, students="resnet8,resnet8", subset=400,
        epochs=10, tin=2,
    )  # fmt: skip
    words = ["--space", space, "--storage", str(tmp_path), "--name", "asha"]
    assert main([*words, "--scheduler", "asha", "--max_concurrent", "1"]) == 0
    good, bad = outcome(tmp_path / "asha")["points"]
    assert (good["status"], bad["status"]) == ("finished", "stopped")
    assert bad["stopped_after_epochs"] == 3
    wait_until(lambda: not left(), "an end of all trials", timeout_s=GONE_S)
    wait_until(lambda: ray.available_resources().get("CPU") == 2.0, "free CPUs", timeout_s=GONE_S)
    stopped = Storage.at(tmp_path / "asha" / bad["runs"][0])
    assert not stopped.exists("result.json")
    assert not stopped.exists("soft_labels")
    assert not any(stopped.list(f"students/{s}/checkpoints") for s in stopped.list("students"))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    settings = {"epochs": 8, "td": 3, "subset": 300, "cpus_per_worker": 1}
    space = write_space(tmp_path / "space.yaml", {"t": [2, 4]}, **settings)
    words = ["--storage", str(tmp_path), "--name", "killed"]
    words += ["--space", space, "--max_concurrent", "1", "--resume", "auto"]
    begun = start(*words)
    told = ""
    while "epoch 2/8" not in told:
        assert begun.stdout is not None
        line = begun.stdout.readline()
        assert line, told
        told += line
    others = descendants(begun.pid)
    os.kill(begun.pid, signal.SIGKILL)
    begun.communicate()
    psutil.wait_procs(others, timeout=GONE_S)

    resumed = start(*words)
    told, _ = resumed.communicate(timeout=800)
    assert resumed.returncode == 0, told
    points = outcome(tmp_path / "killed")["points"]
    assert [point["status"] for point in points] == ["finished", "finished"]
    assert len(list((tmp_path / "killed" / TRIALS).iterdir())) == 2
    killed = min(points, key=lambda point: point["values"]["t"])
    alone = {**TINY, **settings, "t": killed["values"]["t"], "name": "seed-0"}
    undisturbed = fit_without_ray(
        FitConfig.from_mapping({**alone, "storage": str(tmp_path / "alone")})
    )
    run = Storage.at(tmp_path / "killed" / killed["runs"][0])
    assert final_files(run) == final_files(undisturbed)


def start(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tuning.search", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
