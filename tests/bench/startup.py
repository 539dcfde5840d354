"""From command to the first training step, beside as many idle TorchTrainers started together.

    python -m tests.bench.startup --students 2

The rival is a script that starts Ray and the TorchTrainers from threads, whose loop says that it
has begun. Both are timed from the start of their process to the last student's beginning.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.pairs import alternate, report

IDLE_TRAINERS = """
import logging, os, sys, threading
os.environ.update(RAY_TRAIN_V2_ENABLED="1", RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.5")
import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
students, folder = int(sys.argv[1]), sys.argv[2]
ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR)
def loop(config):
    open(os.path.join(folder, config["name"]), "w").close()
def fit(name):
    TorchTrainer(
        loop, train_loop_config={"name": name},
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name=name, storage_path=folder + "/ray"),
    ).fit()
threads = [threading.Thread(target=fit, args=(f"begun-{i}",)) for i in range(students)]
[t.start() for t in threads]
[t.join() for t in threads]
"""


def idle_trainers(students: int) -> float:
    """Seconds until the last of the idle trainers' loops has begun."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", IDLE_TRAINERS, str(students), folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while len(list(Path(folder).glob("begun-*"))) < students:
                if process.poll() not in (None, 0):
                    raise RuntimeError("the idle trainers failed")
                time.sleep(0.02)
            return time.perf_counter() - started
        finally:
            process.wait()


def raymd_fit(students: int) -> float:
    """Seconds until the last of raymd's students has built its network and begins to train."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-u", "-m", "raymd.fit", "--students", ",".join(["resnet8"] * students),
            "--dataset", "digits", "--epochs", "1", "--tin", "1", "--td", "1", "--subset", "100",
            "--storage", folder, "--cpus_per_worker", "1",
        ]  # fmt: skip
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        begun, seconds = 0, math.nan
        assert process.stdout is not None
        for line in process.stdout:
            begun += " parameters on " in line
            if begun == students and math.isnan(seconds):
                seconds = time.perf_counter() - started
        if process.wait() != 0:
            raise RuntimeError("raymd.fit failed")
        return seconds


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures = alternate(
        {
            "raymd": lambda: raymd_fit(args.students),
            "idle trainers": lambda: idle_trainers(args.students),
        },
        pairs=args.pairs,
    )
    report(
        f"start-up of {args.students} students", figures, unit="s",
        ratio=("raymd", "idle trainers"),
        settings={k: str(v) for k, v in vars(args).items()}, json_file=args.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
