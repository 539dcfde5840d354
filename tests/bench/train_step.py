"""images/s of a student inside raymd against a bare PyTorch loop, or against the usual one.

    python -m tests.bench.train_step --arch resnet20 --batch_size 128 --steps 20
    python -m tests.bench.train_step --arch resnet20 --rival dataloader

``--rival bare``: both sides have the same network, optimiser, batch size, precision, memory format
and thread, in one process under the same idle Ray. The bare loop steps over one ready tensor;
raymd's draws, crops, flips and normalises every batch, seeds every step and looks at every loss.

``--rival dataloader``: raymd as a worker of Ray Train runs it (the worker's environment, in a
thread that is not the first), against PIL images, torchvision's transforms and a DataLoader of
``--loaders`` processes beside the one that trains, float32 in torch's own memory format.
"""

import argparse
import logging
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
import torch
import torch.nn.functional as F

from raymd.data.augment import Augmentation
from raymd.data.dataset import CIFAR_MEAN, CIFAR_STD, Dataset, Split
from raymd.data.splits import prepare
from raymd.execution.worker_environment import worker_environment
from raymd.settings import Settings, StudentConfig
from raymd.storage import Storage
from raymd.training.building import new_state
from raymd.training.epoch import train_epoch
from raymd.training.student import AUTOCAST_DTYPES, Member, StudentState, StudentTask, Sums
from tests.bench.dataloader_loop import images_per_s
from tests.bench.pairs import alternate, report


def random_images(rows: int) -> Split:
    """A split like CIFAR-10's; speed does not look at the pixels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (rows, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return Split(pixels.permute(0, 3, 1, 2), torch.randint(0, 10, (rows,), generator=generator))


def make_task(args: argparse.Namespace, folder: str) -> StudentTask:
    """One student that trains alone for an epoch of ``--steps`` steps."""
    student = StudentConfig(
        id=args.arch, arch=args.arch, lr=0.1, batch_size=args.batch_size,
        precision=args.precision,
    )  # fmt: skip
    settings = Settings(
        method="independent", t=3.0, tin=1, td=1, epochs=1, kl_scale="t2", lr_drop="exact",
        val_fraction=0.0, seed=0, dataset="random",
        subset=None, students=(student,),
    )  # fmt: skip
    dataset = Dataset(
        "random", random_images(args.batch_size * args.steps), random_images(8),
        tuple("abcdefghij"), CIFAR_MEAN, CIFAR_STD, Augmentation(pad=4, flip=True),
    )  # fmt: skip
    data = prepare(dataset, subset=None, val_fraction=0.0, seed=0)
    return StudentTask(
        student=student, settings=settings, data=data, storage=Storage.at(folder), run="bench"
    )


def inside_raymd(task: StudentTask, state: StudentState) -> float:
    """images/s of one epoch of raymd's own loop."""
    epoch = task.schedule.epochs[0]
    state.position, state.sums = task.schedule.start, Sums()
    loader = task.loader()
    started = time.perf_counter()
    train_epoch([Member(task, state)], epoch, loader, None, after_step=lambda: False)
    return len(task.data.train) / (time.perf_counter() - started)


def bare(task: StudentTask, state: StudentState, steps: int) -> float:
    """images/s of the plain loop on a ready batch."""
    batch = next(task.loader().batches(0))
    images, labels = batch.images, batch.labels
    model, optimizer = state.model.train(), state.optimizer
    dtype = AUTOCAST_DTYPES.get(task.student.precision)
    started = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
    return steps * len(labels) / (time.perf_counter() - started)


def against_bare(args: argparse.Namespace) -> dict[str, list[float]]:
    """images/s of both sides, taken in turn in this process."""
    torch.set_num_threads(1)
    ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            task = make_task(args, folder)
            sides = {"raymd": new_state(task), "bare loop": new_state(task)}
            inside_raymd(task, sides["raymd"])
            bare(task, sides["bare loop"], 3)
            return alternate(
                {
                    "raymd": lambda: inside_raymd(task, sides["raymd"]),
                    "bare loop": lambda: bare(task, sides["bare loop"], args.steps),
                },
                pairs=args.pairs,
            )
    finally:
        ray.shutdown()


def against_dataloader(args: argparse.Namespace) -> dict[str, list[float]]:
    """images/s of both sides, taken in turn, in a process each."""
    return alternate(
        {
            "raymd": lambda: apart(raymd_alone, args, environment=worker_environment()),
            "DataLoader": lambda: apart(dataloader_alone, args, environment={}),
        },
        pairs=args.pairs,
    )


def apart(
    measure: Callable[[argparse.Namespace], float],
    args: argparse.Namespace,
    *,
    environment: dict[str, str],
) -> float:
    """What is measured in a fresh process of that environment, in a thread as Ray Train's are."""
    context = multiprocessing.get_context("spawn")
    out: Any = context.SimpleQueue()
    with patch.dict(os.environ, environment):
        process = context.Process(target=_in_a_thread, args=(measure, args, out))
        process.start()
    process.join()
    if process.exitcode != 0 or out.empty():
        raise RuntimeError(f"{measure.__name__} failed")
    return float(out.get())


def _in_a_thread(
    measure: Callable[[argparse.Namespace], float], args: argparse.Namespace, out: Any
) -> None:
    thread = threading.Thread(target=lambda: out.put(measure(args)))
    thread.start()
    thread.join()


def raymd_alone(args: argparse.Namespace) -> float:
    """The second epoch of raymd's own loop."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        task = make_task(args, folder)
        state = new_state(task)
        inside_raymd(task, state)
        return inside_raymd(task, state)


def dataloader_alone(args: argparse.Namespace) -> float:
    """The second epoch of the usual loop."""
    torch.set_num_threads(1)
    return images_per_s(
        random_images(args.batch_size * args.steps),
        arch=args.arch, batch_size=args.batch_size, num_loaders=args.loaders,
    )  # fmt: skip


RIVALS = {
    "bare": ("bare loop", against_bare),
    "dataloader": ("DataLoader", against_dataloader),
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--rival", default="bare", choices=[*RIVALS])
    parser.add_argument("--loaders", type=int, default=1, help="processes of the DataLoader")
    parser.add_argument("--steps", type=int, default=20, help="steps of each measurement")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rival, measure = RIVALS[args.rival]
    figures = measure(args)
    title = f"{args.arch}, batch {args.batch_size}, {args.precision}, 32x32, one CPU thread"
    report(
        title, figures, unit="images/s", ratio=("raymd", rival),
        settings={k: str(v) for k, v in vars(args).items()}, json_file=args.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
