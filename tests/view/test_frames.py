"""Tables for pandas."""

import subprocess
import sys

import pytest

from raymd.result import EnsembleResult
from raymd.view.frames import cycles_frame, history_frame, students_frame
from tests.view.examples import epoch, published, result, scores, student


def without_held_out():
    ensemble = EnsembleResult(
        members=("a",), weights=(1.0,), last=scores(3, None), best=scores(3, None)
    )
    return result(
        students=(student("a", val=None),), ensemble=ensemble, best_student="a", num_val=0
    )


def test_students_stand_in_order_and_the_ensemble_last():
    frame = students_frame(result()).set_index("student")
    assert list(frame.index) == ["densenet100-2", "vgg19", "ensemble"]
    row = frame.loc["vgg19"]
    assert (row["arch"], row["parameters"], row["epochs"], row["best_epoch"]) == (
        "resnet18",
        20_040_522,
        24,
        20,
    )
    assert row["test_last"] == 350 / 360
    assert row["val_best"] == 130 / 144
    assert row["test_last_low"] < row["test_last"] < row["test_last_high"]
    assert frame.loc["ensemble", "parameters"] == 20_809_684
    assert frame.loc["ensemble", "test_best"] == 346 / 360


def test_what_a_run_without_held_out_images_lacks_is_missing():
    row = students_frame(without_held_out()).set_index("student").loc["a"]
    assert row[["best_epoch", "val_last", "test_best"]].isna().all()
    assert row["test_last"] == 340 / 360


def test_history_has_a_row_for_each_student_and_epoch():
    events = [epoch(index=0), epoch("b", 0), published(), epoch(index=2, val_accuracy=None)]
    frame = history_frame(events)
    assert list(frame["student"]) == ["resnet18", "b", "resnet18"]
    assert frame.loc[2, "kd_loss"] == 0.133
    assert frame["kd_loss"].isna().tolist() == [True, True, False]
    assert "event" not in frame.columns
    pivot = frame.pivot(index="epoch", columns="student", values="task_loss")
    assert pivot.shape == (2, 2)


def test_cycles_have_a_row_for_each_student():
    frame = cycles_frame(result()).set_index(["cycle", "student"])
    assert frame.loc[(0, "vgg19"), "weight"] == 0.5
    assert frame.loc[(0, "vgg19"), "accuracy"] == 0.9
    assert frame["accuracy"].isna().sum() == 1


@pytest.mark.parametrize("frame", [history_frame([]), cycles_frame(result(cycles=()))])
def test_table_of_nothing_has_its_columns(frame):
    assert len(frame) == 0
    assert "student" in frame.columns


def test_views_load_without_torch_ray_and_the_libraries_of_their_pictures():
    code = (
        "import importlib, pkgutil, sys, raymd.view as view\n"
        "for module in pkgutil.iter_modules(view.__path__):\n"
        "    importlib.import_module(f'raymd.view.{module.name}')\n"
        "heavy = {'torch', 'ray', 'pandas', 'plotly', 'tensorboardX', 'wandb'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
