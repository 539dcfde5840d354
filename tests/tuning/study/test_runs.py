"""Real runs of tiny studies: on one Ray, and in the background."""

import json
import subprocess
import sys
import time

import pytest

from raymd.storage import Storage
from tests.tuning.study.fakes import point, small_study
from tuning.study import background
from tuning.study.report import document
from tuning.study.running import Runner, read_all

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
PATIENCE_S = 400


def test_a_study_trains_counts_what_diverges_and_is_read_again(tmp_path):
    tiny = {"students": ("resnet8",), "subset": 120, "device": "cpu"}
    study = small_study(
        independent=point(**tiny), md=point("md", **tiny), wild=point(**tiny, lr=1e30)
    )  # fmt: skip
    base, lines = Storage.at(tmp_path), []
    Runner(study, (0,), base, announce=lines.append).run()
    outcomes = read_all(study, (0,), base)
    assert outcomes.of(study.groups[0].variants["wild"])[0].diverged is not None
    found = document(study, outcomes)
    alone, md = found["groups"][0]["lines"]
    assert 0 < alone["last"]["mean"] < 100
    assert md["difference"]["n"] == 1
    # the same seed: bit-identical until the first distillation
    first = [outcomes.of(p)[0].result.history()[0] for p in study.points()[:2]]
    assert first[0]["task_loss"] == first[1]["task_loss"]
    assert found["groups"][0]["equal_compute"][0]["device_seconds"]["mean"] > 0
    Runner(study, (0,), base, announce=lambda text: pytest.fail(text)).run()


def test_a_study_in_the_background_comes_to_its_end(tmp_path):
    words = ["figure2", "--scale", "smoke", "--seeds", "1", "--epochs", "2", "--device", "cpu"]
    command = [sys.executable, "-m", "tuning.paper", *words, "--storage", str(tmp_path)]
    begun = subprocess.run(
        [*command, "--background"], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert begun.returncode == 0, begun.stderr
    assert "goes on in the background" in begun.stdout
    (folder,) = tmp_path.glob("figure2-smoke-digits*")
    until = time.monotonic() + PATIENCE_S
    while background.is_running(folder) and time.monotonic() < until:
        time.sleep(1)
    log = (folder / background.LOG).read_text()
    assert "all numbers: " in log, log
    data = json.loads((folder / "figure2.json").read_text())
    assert sum(data["softmax"]["1"]) == pytest.approx(1)
    # t = 3 flattens
    assert max(data["softmax"]["3"]) < max(data["softmax"]["1"])
    assert (folder / "figure2.html").stat().st_size > 100_000
