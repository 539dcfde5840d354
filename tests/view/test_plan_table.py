"""A preview on a terminal of 80 columns and as JSON; no Ray, no torch."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from raymd.view.plan_table import describe_cycles, short_count, short_time, show_preview
from raymd.view.preview import (
    CyclesPreview,
    DiskPreview,
    DropPreview,
    NodePreview,
    Preview,
    SoftLabelsPreview,
    StudentPreview,
    Suggestion,
)


def student(**changes: Any) -> StudentPreview:
    fields: dict[str, Any] = {
        "id": "resnet50", "arch": "resnet50", "workers": 2, "batch_size": 128, "precision": "bf16",
        "lr_schedule": "step", "warmup_epochs": 0.0, "parameters": 23_519_690,
        "weight_bytes": 94_000_000, "gradient_bytes": 94_000_000, "optimizer_bytes": 94_000_000,
        "activation_bytes": 1_500_000_000, "peak_bytes": 2_100_000_000, "device_bytes": None,
        "step_s": 0.25, "images_per_s": 512.0, "steps": 352, "epoch_s": 90.0, "publish_s": 30.0,
        "left_s": 30_000.0, "checkpoint_bytes": 188_000_000,
    }  # fmt: skip
    return StudentPreview(**{**fields, **changes})


def example(**changes: Any) -> Preview:
    small = student(id="resnet18", arch="resnet18", workers=1, step_s=0.012, activation_bytes=None)
    fields: dict[str, Any] = {
        "run": "/data/runs/a", "resumed": False, "cluster": "a Ray of its own on this machine",
        "device": "cpu", "cpus_per_worker": 2.0, "gpus_per_worker": 0.0, "threads": 2,
        "placement": "resident", "slots": 3, "why_placed": "all fit at once",
        "students": (small, student()), "epochs": 320, "cycles": (CyclesPreview(8, 10, 30),),
        "drops": (DropPreview(161, 0.1, inside=False), DropPreview(251, 0.01, inside=True)),
        "nodes": (
            NodePreview(4.0, 0.0, 16_000_000_000, 2), NodePreview(2.0, 0.0, 8_000_000_000, 1),
        ),
        "soft_labels": SoftLabelsPreview(900_000, 2_700_000, 200_000_000),
        "disk": DiskPreview(1_200_000_000, 300_000_000, 56_000_000_000),
        "startup_s": 25.0, "left_s": 30_600.0, "resident_s": None,
        "left_out": ("merging teachers", "exchange among workers"),
        "suggestion": None, "warnings": (),
    }  # fmt: skip
    return Preview(**{**fields, **changes})


def shown(preview: Preview, *, width: int = 200) -> str:
    text = io.StringIO()
    show_preview(Console(file=text, width=width), preview)
    return text.getvalue()


def words(preview: Preview) -> str:
    """What is shown, as one line."""
    return " ".join(shown(preview).split())


def test_everything_fits_80_columns_on_a_wider_console() -> None:
    long_id = student(id="timm-vit_small_patch16_224.augreg_in21k_ft_in1k", workers=8)
    preview = example(
        students=(long_id, student()), warnings=("x" * 200,), run="/" + "d" * 150,
        suggestion=Suggestion({"a": 2}, "--student.a.workers_per_student 2 " * 4, 90.0, 50.0),
    )  # fmt: skip
    assert max(map(len, shown(preview).splitlines())) <= 80


def test_students_are_shown_with_size_pace_and_time() -> None:
    lines = {line.split()[0]: line for line in shown(example()).splitlines() if line.strip()}
    assert lines["resnet50"].split() == [
        "resnet50", "x2", "23.5", "M", "282.0", "MB", "1.5", "GB", "250", "ms", "512",
        "1:30", "8:20", "h",
    ]  # fmt: skip
    assert lines["resnet18"].split()[5:8] == ["-", "12", "ms"]


def test_lines_hold_schedule_bytes_resources_and_time() -> None:
    text = words(example())
    assert "320 epochs: 8 cycles of 10 alone + 30 distilling" in text
    assert "times 0.1 from epoch 161 and times 0.01 from epoch 251 (inside distillation)" in text
    assert "900.0 kB a student and cycle; 2.7 MB with teachers at once" in text
    assert "3 workers at once, each 2 CPUs, 2 threads, on cpu" in text
    assert "4 CPUs, 0 GPUs, 16.0 GB (2 workers); 2 CPUs, 0 GPUs, 8.0 GB (1 worker)" in text
    assert "about 1.2 GB at most, 300.0 MB at the end; 56.0 GB free" in text
    assert "about 8:30 h, 25 s of it to start" in text
    assert "without merging teachers and exchange among workers" in text


def test_equal_nodes_are_counted() -> None:
    node = NodePreview(4.0, 1.0, 16_000_000_000, 1)
    assert "There: 3 x 4 CPUs, 1 GPUs, 16.0 GB (1 worker)" in words(example(nodes=(node,) * 3))


def test_run_without_distillation_says_nothing_of_soft_labels() -> None:
    text = words(example(cycles=(CyclesPreview(1, 320, 0),), soft_labels=None))
    assert "320 epochs: 320 alone" in text
    assert "soft labels" not in text


@pytest.mark.parametrize(
    ("cycles", "text"),
    [
        ((CyclesPreview(1, 2, 1),), "1 cycle of 2 alone + 1 distilling"),
        ((CyclesPreview(1, 0, 20),), "20 distilling"),
        (
            (CyclesPreview(2, 10, 30), CyclesPreview(1, 10, 5, is_cut=True)),
            "2 cycles of 10 alone + 30 distilling, then 10 alone + 5 distilling (cut by --epochs)",
        ),
        (
            (CyclesPreview(2, 10, 30), CyclesPreview(1, 4, 0, is_cut=True)),
            "2 cycles of 10 alone + 30 distilling, then 4 alone (cut by --epochs)",
        ),
    ],
)
def test_cycles_alike_are_told_once(cycles: tuple[CyclesPreview, ...], text: str) -> None:
    assert describe_cycles(cycles) == text


def test_rates_are_told_by_schedule_where_students_differ() -> None:
    cosine = student(id="vit", lr_schedule="cosine", warmup_epochs=5.0)
    text = words(example(students=(student(), cosine), drops=()))
    assert "resnet50: the same throughout;" in text
    assert "vit: falls to zero as a cosine, rising over the first 5 epochs" in text


def test_resumed_run_says_where_each_student_goes_on() -> None:
    students = (student(epoch=12, step=40), student(id="b", epoch=14))
    text = words(example(resumed=True, students=students))
    assert "goes on resnet50 at epoch 13, step 41, b at epoch 15, step 1" in text
    assert "goes on" not in words(example())


def test_suggestion_and_warnings_are_shown() -> None:
    flags = "--student.a.workers_per_student 3"
    suggestion = Suggestion({"a": 3, "b": 1}, flags, 90.0, 40.4)
    text = words(example(suggestion=suggestion, warnings=("the object store holds 2 MB",)))
    assert f"{flags}: an epoch of the slowest student would take 40 s, not 1:30" in text
    assert "warning the object store holds 2 MB" in text


def test_placement_is_told_with_its_reason() -> None:
    assert "placement resident: all fit at once" in words(example())
    turns = {"placement": "sliced", "slots": 2, "why_placed": "more do not fit"}
    text = words(example(**turns, resident_s=7_650.0))
    assert "sliced: students take turns, 2 of 3 workers at a time; more do not fit" in text
    assert "2 workers at once, each 2 CPUs" in text
    assert "quicker room for 3 workers (more --slots, or a larger cluster: --address)" in text
    assert "about 2:08 h; turns take 4.0 times as long" in text


def test_nothing_is_quicker_where_turns_cost_nothing() -> None:
    asked = {"placement": "sliced", "why_placed": "as asked (--placement)"}
    text = words(example(**asked, resident_s=30_600.0))
    assert "all 3 workers at a time; as asked (--placement)" in text
    assert "quicker" not in text


def test_gpu_memory_is_told_of_the_gpu() -> None:
    students = (student(device_bytes=24_000_000_000),)
    assert "at most 2.1 GB of the 24.0 GB of a GPU" in words(example(students=students))


def test_unknown_free_space_is_left_out() -> None:
    assert " free" not in words(example(disk=DiskPreview(1, 1, None)))


def test_to_dict_is_json_with_stable_keys() -> None:
    document = json.loads(json.dumps(example().to_dict()))
    assert document["students"][1]["step_s"] == 0.25
    assert document["cycles"] == [
        {"count": 8, "alone": 10, "distilling": 30, "is_cut": False}
    ]  # fmt: skip
    assert document["suggestion"] is None
    assert replace(example(), epochs=8).to_dict() == {**example().to_dict(), "epochs": 8}


@pytest.mark.parametrize(
    ("number", "text"),
    [(135, "135"), (9_999, "9,999"), (10_000, "10.0 k"), (999_960, "1.0 M"), (2.5e9, "2.5 G")],
)
def test_counts_are_short(number: int, text: str) -> None:
    assert short_count(int(number)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0124, "12 ms"), (0.9996, "1.0 s"), (9.96, "10 s"), (90.0, "1:30")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert short_time(seconds) == text


def test_neither_torch_nor_ray_is_imported() -> None:
    code = "import sys, raymd.view.plan_table; sys.exit(bool({'torch', 'ray'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
