"""What each way of teaching comes to at small scale: paired seeds, one table.

    python -m tests.bench.teaching --data parquet:DIR --seeds 4 --out build/teaching.json

Two students on a few CIFAR-10 images at half their side, without Ray, in as many processes at once
as there are cores. Every setting trains the same epochs from the same weights in the same order as
``independent`` of its seed, and stands beside it. The table gives the last weights' accuracy on the
10,000 test images, and the mean of the paired differences with its standard error. What is in the
file is not run again, so the command may be ended and called again at any time.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.numpy import load as load_safetensors

from raymd.config import CheckpointEvery
from raymd.data import load_dataset
from raymd.data.augment import Augmentation
from raymd.data.dataset import Dataset, Split
from raymd.distillation.methods import get_method
from raymd.run_folder import model_record, predictions_file
from raymd.settings import Settings, StudentConfig
from raymd.storage import Storage
from raymd.training.evaluate import ensemble
from raymd.training.student import StudentTask, prepare_for
from tests.training.conftest import run_to

BASELINE = "independent"
ARCH, STUDENTS = "resnet8", ("resnet8", "resnet8-2")
EPOCHS, TIN, TD, SUBSET, BATCH, LR = 160, 4, 16, 1_100, 64, 0.1

# What is compared, by the flags that a user would say.
SETTINGS: dict[str, dict[str, Any]] = {
    BASELINE: {"method": "independent"},
    "md": {},
    "md --teacher live": {"teacher": "live"},
    "dml": {"method": "dml"},
    "md --views 4": {"views": 4},
    "md --kd_until last_drop": {"kd_until": "last_drop"},
    "md --views 16": {"views": 16},
    "md --alpha_floor 0.5": {"alpha_floor": 0.5},
    "independent --loss_scale 2": {"method": "independent", "loss_scale": 2.0},
    "md --correct_only": {"correct_only": True},
    "md --teacher live --alpha_floor 0.5": {"teacher": "live", "alpha_floor": 0.5},
    "fmd --teacher live": {"method": "fmd", "teacher": "live"},
    "md --teacher live --kd_until last_drop": {"teacher": "live", "kd_until": "last_drop"},
    "md --kd_ramp 3": {"kd_ramp": 3},
    "md --publish ema": {"publish": "ema"},
    "ec-dnn": {"method": "ec-dnn"},
    "codistill": {"method": "codistill"},
    "md --weights uniform": {"weights": "uniform"},
    "md --weights inverse_loss": {"weights": "inverse_loss"},
}


def half_size(dataset: Dataset) -> Dataset:
    """The same images at half their side, as 2x2 means."""

    def half(split: Split) -> Split:
        images = F.avg_pool2d(split.images.float(), 2).round().to(torch.uint8)
        return Split(images.contiguous(memory_format=torch.channels_last), split.labels)

    return replace(
        dataset,
        train=half(dataset.train),
        test=half(dataset.test),
        image_size=0,
        augmentation=Augmentation(pad=2, flip=True),
    )


def settings_of(changes: Mapping[str, Any], *, seed: int) -> Settings:
    """One setting of the table."""
    ema = 0.99 if changes.get("publish") == "ema" else 0.0
    students = tuple(
        StudentConfig(id=name, arch=ARCH, lr=LR, batch_size=BATCH, ema=ema) for name in STUDENTS
    )
    fields: dict[str, Any] = {
        "method": "md", "t": 3.0, "tin": TIN, "td": TD, "epochs": EPOCHS, "kl_scale": "t2",
        "lr_drop": "exact", "val_fraction": 0.1, "seed": seed, "dataset": "cifar10",
        "subset": SUBSET, "students": students, **changes,
    }  # fmt: skip
    fields["weights"] = fields.get("weights") or get_method(fields["method"]).weights
    settings = Settings(**fields)
    settings.check()
    return settings


_dataset: Dataset


def take(dataset: Dataset) -> None:
    """Begin a process: the images that all its runs train on."""
    global _dataset
    torch.set_num_threads(1)
    _dataset = dataset


def train(name: str, seed: int) -> dict[str, Any]:
    """Train one setting with one seed; its accuracies in percent, and its seconds."""
    dataset = _dataset
    settings = settings_of(SETTINGS[name], seed=seed)
    data = prepare_for(settings, dataset)
    curve: dict[str, list[float]] = {student: [] for student in STUDENTS}

    def note(event: Mapping[str, Any]) -> None:
        if event["event"] == "epoch":
            curve[event["student"]].append(round(event["train_accuracy"], 4))

    started, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.at(Path(folder) / "run")
        tasks = [
            StudentTask(
                student=student, settings=settings, data=data, storage=storage, run="run",
                checkpoint_every=CheckpointEvery(seconds=1e9),
            )
            for student in settings.students
        ]  # fmt: skip
        run_to(tasks, emit=note)
        probs, scores = [], {}
        for student in STUDENTS:
            record = storage.record(model_record(student)) or {}
            scores[student] = 100 * record["scores"]["last"]["test"]["correct"] / len(data.test)
            saved = storage.read_committed(predictions_file(student), record=record).to_pybytes()
            probs.append(load_safetensors(saved)["last_test"])
    mixed = ensemble(probs, [1 / len(probs)] * len(probs)).argmax(axis=1)
    scores["ensemble"] = 100 * float((mixed == data.test.labels.numpy()).mean())
    return {
        "setting": name, "seed": seed, "test": scores, "num_train": len(data.train),
        "fits": {student: values[-1] for student, values in curve.items()},
        "wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu,
    }  # fmt: skip


def table(runs: list[dict[str, Any]]) -> str:
    """Mean and sd of each setting, and its paired difference to ``independent``."""
    by = {(run["setting"], run["seed"]): run for run in runs}
    lines = [f"{'':40}" + "".join(f"{c:>27}" for c in (*STUDENTS, "ensemble")) + "   n  CPU s"]
    for name in SETTINGS:
        mine = [run for run in runs if run["setting"] == name]
        if not mine:
            continue
        cells = "".join(f"{_cell(by, mine, column):>27}" for column in (*STUDENTS, "ensemble"))
        cpu_s = statistics.mean(run["cpu_s"] for run in mine)
        lines.append(f"{name:40}{cells}  {len(mine):2}  {cpu_s:5.0f}")
    return "\n".join(lines)


def _cell(by: Mapping[Any, dict[str, Any]], mine: list[dict[str, Any]], column: str) -> str:
    values = [run["test"][column] for run in mine]
    text = f"{statistics.mean(values):.1f} ± {_sd(values):.1f}"
    paired = [
        run["test"][column] - by[BASELINE, run["seed"]]["test"][column]
        for run in mine
        if (BASELINE, run["seed"]) in by
    ]
    if mine[0]["setting"] == BASELINE or not paired:
        return text
    return f"{text} ({statistics.mean(paired):+.1f} ± {_sd(paired) / len(paired) ** 0.5:.1f})"


def _sd(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def wanted(seeds: int, names: list[str]) -> Iterator[tuple[str, int]]:
    """All runs, one seed after the other, so that what is there is always paired."""
    return ((name, seed) for seed in range(seeds) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True, help="CIFAR-10, as --dataset takes it")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", help="settings with ; between; default: all")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("build/teaching.json"))
    args = parser.parse_args()
    runs = json.loads(args.out.read_text()) if args.out.exists() else []
    done = {(run["setting"], run["seed"]) for run in runs}
    names = args.only.split(";") if args.only else list(SETTINGS)
    todo = [point for point in wanted(args.seeds, names) if point not in done]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    dataset = half_size(load_dataset(args.data, data_dir=None, image_size=None))
    with ProcessPoolExecutor(
        args.processes, mp_context=get_context("spawn"), initializer=take, initargs=(dataset,)
    ) as pool:
        futures = [pool.submit(train, name, seed) for name, seed in todo]
        for future in as_completed(futures):
            runs.append(future.result())
            args.out.write_text(json.dumps(runs, indent=1))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    print(table(runs))


if __name__ == "__main__":
    main()
