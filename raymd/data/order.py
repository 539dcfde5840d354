"""Which samples a step shows, in which order, and which of them a rank: pure, of a position alone.

Place on the data's way: loader.py asks for an epoch's order and cuts it.

    N samples   n rows of a step
"""

import numpy as np
import torch

from raymd.data.draws import position_key
from raymd.errors import UserError


def epoch_permutation(num_samples: int, *, seed: int, stream: int, epoch: int) -> torch.Tensor:
    """The order of an epoch: a permutation of 0..N-1, int64 [N], on the CPU."""
    generator = torch.Generator()
    generator.manual_seed(position_key("order", seed=seed, stream=stream, epoch=epoch))
    return torch.randperm(num_samples, generator=generator)


def num_steps(num_samples: int, batch_size: int) -> int:
    """Steps of an epoch, ``ceil(N / batch_size)``."""
    return -(-num_samples // batch_size)


def global_batch(permutation_N: torch.Tensor, *, step: int, steps: int) -> torch.Tensor:
    """The ids of one step over all ranks, int64 [n].

    Batches are cut like ``torch.tensor_split``: sizes differ by one at most and never exceed the
    batch size, so there is no tiny last batch for BatchNorm to stumble over.
    """
    return permutation_N[part_of_ranks(len(permutation_N), index=step, parts=steps)]


def mixup_draw(
    rows: int, *, alpha: float, seed: int, stream: int, epoch: int, step: int
) -> tuple[torch.Tensor, float]:
    """The partners of a global batch, a permutation of 0..rows-1 (int64), and the share.

    The share is drawn from Beta(alpha, alpha), once for the step.
    """
    key = position_key(f"mixup/{step}", seed=seed, stream=stream, epoch=epoch)
    rng = np.random.default_rng(key)
    return torch.from_numpy(rng.permutation(rows)), float(rng.beta(alpha, alpha))


def check_ranks(rows: int, *, world_size: int) -> None:
    """UserError where a step has fewer rows than workers."""
    if rows < world_size:
        raise UserError(
            f"a step has {rows} rows for {world_size} workers, and none may be empty: "
            f"raise --batch_size or --subset, or give each student fewer workers"
        )


def part_of_ranks(total: int, *, index: int, parts: int) -> slice:
    """Where one of so many parts of almost one size lies."""
    assert 0 <= index < parts, f"part {index} of {parts}"
    size, larger = divmod(total, parts)
    start = index * size + min(index, larger)
    return slice(start, start + size + (index < larger))
