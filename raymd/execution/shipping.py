"""The run's images on their way to the workers: once through the object store, read in place.

Prepared holds torch tensors, which pickle by copying; numpy arrays are read by every worker of
a node from the same shared memory.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from raymd.data.dataset import Split
from raymd.data.splits import Prepared
from raymd.distillation.aggregation import as_tensor

PARTS = ("train", "val", "test")
_NO_SPLIT = Split(torch.empty(0, 1, 1, 1, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True)
class Shipment:
    """Prepared data as numpy arrays: images [N, H, W, C] and labels [N] of each part there is."""

    frame: Prepared
    arrays: dict[str, tuple[np.ndarray, np.ndarray]]


def pack(data: Prepared) -> Shipment:
    """Take the tensors out of Prepared."""
    parts = {part: getattr(data, part) for part in PARTS}
    arrays = {
        part: (split.images.permute(0, 2, 3, 1).contiguous().numpy(), split.labels.numpy())
        for part, split in parts.items()
        if split is not None
    }
    return Shipment(replace(data, train=_NO_SPLIT, val=None, test=_NO_SPLIT), arrays)


def shipment_bytes(data: Prepared) -> int:
    """What a shipment takes of the object store."""
    splits = (getattr(data, part) for part in PARTS)
    return sum(s.images.nbytes + s.labels.nbytes for s in splits if s is not None)


def unpack(shipment: Shipment) -> Prepared:
    """Put them back, on the arrays' own memory."""
    splits: dict[str, Any] = {
        part: Split(as_tensor(images).permute(0, 3, 1, 2), as_tensor(labels))
        for part, (images, labels) in shipment.arrays.items()
    }
    return replace(shipment.frame, **splits)
