"""A student's workers among themselves: what data-parallel ranks agree on, beside gradients.

Weights are equal on all ranks by DDP; everything else that decides the loop (stop, commit, a
loss that is no number) is agreed on here, at the same step on every rank, so that none is left
waiting for another. With one worker all of it is free.

Nothing waits in here for long: gloo gives up after 30 minutes, so each rank waits for a teacher
by itself, and only then they meet.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """One worker's place among its student's workers.

    Attributes:
        rank, world_size: Which of how many.
        group: The gloo group for small CPU tensors; None with one worker.
    """

    rank: int = 0
    world_size: int = 1
    group: Any = None

    @classmethod
    def join(cls) -> "Ranks":
        """This process's place in the process group that is initialised, if one is."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return cls()
        group = dist.new_group(backend="gloo")
        return cls(dist.get_rank(), dist.get_world_size(), group)

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that commits, announces and tells."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, True on every rank if it is on any."""
        if self.world_size == 1:
            return flags
        together = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(together, op=dist.ReduceOp.MAX, group=self.group)
        return tuple(bool(flag) for flag in together.tolist())

    def sum(self, value: int) -> int:
        """The sum over all ranks."""
        if self.world_size == 1:
            return value
        total = torch.tensor(value, dtype=torch.int64)
        dist.all_reduce(total, group=self.group)
        return int(total)

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks, on each of them."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def from_first(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors (BatchNorm's statistics) with rank 0's."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's share of work that needs no agreement: every world_size-th item."""
        return items[self.rank :: self.world_size]


ALONE = Ranks()
