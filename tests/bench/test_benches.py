"""Benchmarks run at a tiny size and write what docs/performance.md is written from.

Not those that time whole fits: method, startup.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.fresh import ROOT

TINY = ["--rows", "600", "--classes", "20"]
STORE = ["--store_gb", "0.2"]
STEP = ["--arch", "resnet8", "--batch_size", "8", "--steps", "2", "--pairs", "1"]
ALWAYS = {"title", "settings", "environment"}

BENCHES = [
    ("exchange", [*TINY, *STORE, "--pairs", "1"], {"figures", "ratios"}),
    ("exchange", [*TINY, *STORE, "--pairs", "1", "--overlap", "--busy"], {"figures", "ratios"}),
    (
        "teacher",
        [*TINY, *STORE, "--pairs", "1", "--step_batch", "2"],
        {"figures", "median_ratio", "private_growth_bytes", "shared_growth_bytes"},
    ),
    (
        "growth",
        ["--axis", "rows", "--rows", "1e4,2e4", "--nodes", "2", "--repeats", "1",
         "--store_gb", "0.3"],
        {"points", "growth"},
    ),
    (
        "imagenet",
        ["--images", "24", "--size", "80x60", "--workers", "1", "--pairs", "1"],
        {"figures", "median_ratio"},
    ),
    ("train_step", STEP, {"figures", "median_ratio"}),
    ("train_step", [*STEP, "--rival", "dataloader"], {"figures", "median_ratio"}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "arguments", "keys"), BENCHES, ids=[f"{b[0]}-{i}" for i, b in enumerate(BENCHES)]
)
def test_benchmark_runs_and_writes_its_figures(
    name: str, arguments: list[str], keys: set[str], tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", f"tests.bench.{name}", *arguments, "--json", str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    document = json.loads(file.read_text())
    assert document.keys() >= keys | ALWAYS
