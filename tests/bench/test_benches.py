"""Each benchmark runs at a tiny size and writes JSON with its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAIR_KEYS = {"title", "unit", "figures", "ratio", "median_ratio", "settings", "environment"}

# module, flags of a tiny run, keys of its JSON
BENCHES = [
    ("imagenet", "--images 24 --size 80x60 --workers 1 --pairs 1", PAIR_KEYS),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flags", "keys"), BENCHES, ids=[bench[0] for bench in BENCHES])
def test_a_benchmark_runs_and_writes_its_figures(name, flags, keys, tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", f"tests.bench.{name}", *flags.split(), "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert keys <= document.keys()
    assert all(value > 0 for values in document["figures"].values() for value in values)
