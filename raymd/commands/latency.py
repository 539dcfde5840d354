"""How long a network takes on this machine: one image, and a batch.

Figures of one machine at one moment: they compare networks measured together, nothing else.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

BATCH_SIZE = 64
WARM_UP_RUNS = 3
MIN_RUNS, MAX_RUNS = 5, 100
BUDGET_S = 1.0  # for each of the two; slow networks take MIN_RUNS


@dataclass(frozen=True)
class Latency:
    """Medians, measured here.

    Attributes:
        one_image_ms: From uint8 pixels on the device to logits.
        images_per_s: With ``batch_size`` images at once.
        device, threads: Where; torch's threads count on the CPU alone.
    """

    one_image_ms: float
    images_per_s: float
    batch_size: int
    device: str
    threads: int


@torch.inference_mode()
def measure_latency(
    model: nn.Module, *, shape: tuple[int, int, int], device: torch.device
) -> Latency:
    """Time a loaded student or ensemble.

    Args:
        model: On the device; takes uint8 images.
        shape: Of an image, [C, H, W].
        device: Where it lies.
    """
    batch_BCHW = torch.zeros((BATCH_SIZE, *shape), dtype=torch.uint8, device=device)
    one_s = _median_s(lambda: model(batch_BCHW[:1]), device)
    batch_s = _median_s(lambda: model(batch_BCHW), device)
    return Latency(
        one_image_ms=1000 * one_s,
        images_per_s=BATCH_SIZE / batch_s,
        batch_size=BATCH_SIZE,
        device=device.type,
        threads=torch.get_num_threads(),
    )


def _median_s(run: Callable[[], object], device: torch.device) -> float:
    for _ in range(WARM_UP_RUNS):
        run()
    times: list[float] = []
    while len(times) < MIN_RUNS or (sum(times) < BUDGET_S and len(times) < MAX_RUNS):
        _wait_for(device)
        started = time.perf_counter()
        run()
        _wait_for(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _wait_for(device: torch.device) -> None:
    # a GPU's work is only queued when a call returns
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
