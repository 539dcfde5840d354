"""Whole fits on images that stay encoded: JPEG files made up here, and 1,000 of ImageNet's."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from raymd.cli import main
from raymd.config import FitConfig
from raymd.execution.run import fit
from raymd.storage import Storage
from tests.data.photographs import fill_tree
from tests.execution.conftest import fit_without_ray
from tests.training.conftest import final_files

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "imagenet-sample"


def config(folder: Path, storage: Path, **changes) -> FitConfig:
    given = FitConfig(
        students="resnet8,resnet14", dataset="imagenet", data_dir=str(folder), image_size=16,
        epochs=2, tin=1, td=1, batch_size=16, lr=0.05, storage=str(storage), name="run",
        device="cpu", view="lines",
    )  # fmt: skip
    return replace(given, **changes)


@pytest.mark.slow
def test_a_fit_on_encoded_images_equals_one_without_ray(tmp_path, capsys):
    fill_tree(tmp_path / "in/train", images=40)
    fill_tree(tmp_path / "in/val", images=4, first=500)
    (tmp_path / "in/train/cat/007.jpg").write_bytes(b"\xff\xd8 nothing")
    given = config(tmp_path / "in", tmp_path / "with")
    output = io.StringIO()
    result = fit(given, console=Console(file=output, width=200))
    assert (result.num_train, result.num_val, result.num_test) == (72, 8, 8)
    text = output.getvalue()
    assert "1 image cannot be read, and a flat one stands in for it" in text
    alone = fit_without_ray(replace(given, storage=str(tmp_path / "without")))
    assert final_files(Storage.at(tmp_path / "with" / "run")) == final_files(alone)
    run = str(tmp_path / "with" / "run")
    assert main(["evaluate", run, "--no_latency", "--format", "csv"]) == 0
    assert "resnet14" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no {SAMPLE}")
def test_table_2s_pair_takes_a_short_cycle_on_real_images(tmp_path):
    given = config(
        SAMPLE, tmp_path, students="resnet18,squeezenet1_0", image_size=64, subset=100,
        workers_per_student=2,
    )  # fmt: skip
    output = io.StringIO()
    result = fit(given, console=Console(file=output, width=200))
    assert {student.id for student in result.students} == {"resnet18", "squeezenet1_0"}
    (cycle,) = result.cycles
    if not any(cycle.accuracies.values()):  # one image a class: what is held out was never seen
        assert set(cycle.weights.values()) == {0.5}
        assert "no student got anything right, so all count alike" in output.getvalue()
