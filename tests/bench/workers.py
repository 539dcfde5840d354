"""images/s of one student on two data-parallel workers against one.

    python -m tests.bench.workers --arch resnet20 --batch_size 128 --steps 20

Each worker is a process with one thread; gradients travel over gloo. The global batch is the same,
so a worker of two has half of it. Both sides agree on stopping at each step, as a run does.
"""

import argparse
import multiprocessing
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

import torch
import torch.distributed as dist

from raymd.training.building import new_state
from raymd.training.epoch import train_epoch
from raymd.training.ranks import Ranks
from raymd.training.student import Member, StudentTask, Sums
from tests.bench.pairs import alternate, report
from tests.bench.train_step import make_task


def worker(
    rank: int, world_size: int, args: argparse.Namespace, rendezvous: str, out: Queue
) -> None:
    """One worker: an epoch to warm up, an epoch that is measured."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
    )
    with tempfile.TemporaryDirectory() as folder:
        made = make_task(args, folder)
        task = StudentTask(
            student=made.student, settings=made.settings, data=made.data, storage=made.storage,
            run=made.run, ranks=Ranks.join(),
        )  # fmt: skip
        state, loader, epoch = new_state(task), task.loader(), task.schedule.epochs[0]
        for _ in range(2):
            state.position, state.sums = task.schedule.start, Sums()
            dist.barrier()
            started = time.perf_counter()
            train_epoch(
                [Member(task, state)], epoch, loader, None,
                after_step=lambda: task.ranks.any(False, False)[1],
            )  # fmt: skip
            dist.barrier()
            seconds = time.perf_counter() - started
    if rank == 0:
        out.put(len(task.data.train) / seconds)
    dist.destroy_process_group()


def measure(args: argparse.Namespace, world_size: int) -> float:
    """images/s of the student on so many workers."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bench.train_step"])
    out = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=worker, args=(rank, world_size, args, f"{folder}/gloo", out))
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        figure = out.get(timeout=600)
        for process in processes:
            process.join()
    return float(figure)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--steps", type=int, default=20, help="steps of each measurement")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sides = {"two workers": lambda: measure(args, 2), "one worker": lambda: measure(args, 1)}
    figures = alternate(sides, pairs=args.pairs)
    title = f"{args.arch}, global batch {args.batch_size}, {args.precision}, 32x32, a thread each"
    report(
        title, figures, unit="images/s", ratio=("two workers", "one worker"),
        settings={k: str(v) for k, v in vars(args).items()}, json_file=args.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
