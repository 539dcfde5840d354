"""Every benchmark runs to its table and its JSON, at a size that says nothing about speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ray]

BENCHES = {
    "train_step": "--arch resnet8 --batch_size 8 --steps 2 --pairs 1",
    "train_step dataloader": "--arch resnet8 --batch_size 8 --steps 2 --pairs 1 --rival dataloader",
    "method": "--students resnet8,resnet8 --subset 60 --epochs 3 --tin 1 --td 2 --pairs 1",
    "startup": "--students 1 --pairs 1",
}


@pytest.mark.parametrize("bench", BENCHES)
def test_benchmark_prints_a_table_and_writes_its_figures(bench: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    name, flags = bench.split()[0], BENCHES[bench].split()
    command = [sys.executable, "-m", f"tests.bench.{name}", *flags, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert figures["median_ratio"] > 0
    assert f"{figures['median_ratio']:.3f} (median of 1 pairs)" in done.stdout
