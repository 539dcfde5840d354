"""The run's images on their way to the workers: once through the object store, read in place.

Prepared holds torch tensors, which pickle by copying; what splits ship is numpy arrays and Arrow
buffers, which every worker of a node reads from the same shared memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from raymd.data.dataset import AnySplit, Split
from raymd.data.splits import Prepared

PARTS = ("train", "val", "test")
_NO_SPLIT = Split(torch.empty(0, 1, 1, 1, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True)
class Shipment:
    """Prepared data without its splits, and what makes each part there is again."""

    frame: Prepared
    parts: dict[str, Callable[[], AnySplit]]


def pack(data: Prepared) -> Shipment:
    """Take the tensors out of Prepared."""
    parts: dict[str, Callable[[], AnySplit]] = {}
    for part, split in _splits(data).items():
        parts[part] = split.shipped()
    return Shipment(replace(data, train=_NO_SPLIT, val=None, test=_NO_SPLIT), parts)


def shipment_bytes(data: Prepared) -> int:
    """What a shipment takes of the object store; what parts share is in it once."""
    pieces: dict[int, int] = {}
    for split in _splits(data).values():
        pieces |= split.pieces()
    return sum(pieces.values())


def unpack(shipment: Shipment) -> Prepared:
    """Put them back, on the arrays' own memory."""
    splits: dict[str, Any] = {part: make() for part, make in shipment.parts.items()}
    return replace(shipment.frame, **splits)


def _splits(data: Prepared) -> dict[str, AnySplit]:
    return {part: split for part in PARTS if (split := getattr(data, part)) is not None}
