"""load_student: a finished student as an ``nn.Module`` with its preprocessing. No Ray.

    import raymd
    model = raymd.load_student("runs/20261122-225555-3f2a")          # best on held-out data
    probs_BK = model(model.preprocess(image).unsqueeze(0)).softmax(-1)

The end of the data's way: a run directory enters, something that classifies leaves.
"""

import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from raymd.errors import UserError, unknown_name
from raymd.models import build_model
from raymd.result import RESULT, model_record, weights_file
from raymd.storage import Storage

if TYPE_CHECKING:
    from PIL.Image import Image


class LoadedStudent(nn.Module):
    """A student, ready to classify.

    Attributes:
        network: The trained network.
        id, arch: Which student it was.
        classes: Name of class k at position k.
        image_size, in_channels: What the network was trained on.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, record: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.id: str = record["id"]
        self.arch: str = record["arch"]
        self.classes: tuple[str, ...] = tuple(record["classes"])
        self.image_size: int = record["image_size"]
        self.in_channels: int = record["in_channels"]
        self.register_buffer("mean", torch.tensor(record["mean"]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(record["std"]).view(1, -1, 1, 1))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits [B, K] of uint8 images, or of float images in 0..1, [B, C, H, W]."""
        scale = 255.0 if images_BCHW.dtype == torch.uint8 else 1.0
        return self.network((images_BCHW / scale - self.mean) / self.std)

    def preprocess(self, image: "Image") -> Tensor:
        """A PIL image of any size and mode as the uint8 tensor [C, H, W] that ``forward`` takes
        (with a batch dimension in front)."""
        mode = "L" if self.in_channels == 1 else "RGB"
        side = (self.image_size, self.image_size)
        resized = image.convert(mode) if image.size == side else image.convert(mode).resize(side)
        pixels = np.array(resized, dtype=np.uint8).reshape(*resized.size[::-1], -1)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def load_student(
    run: str | os.PathLike[str],
    *,
    student: str = "best",
    weights: Literal["best", "last"] = "best",
) -> LoadedStudent:
    """A student of a finished run, in eval mode on the CPU.

    Args:
        run: The run's folder or URI.
        student: An id, or ``best``: the student picked on held-out data.
        weights: ``best``: of the epoch with the highest held-out accuracy; ``last``: of the last.

    Raises:
        UserError: no such run or student, or weights of another name.
        StorageError: its files are damaged.
    """
    if weights not in ("best", "last"):
        raise UserError(f"weights {weights!r}: allowed are 'best' and 'last'")
    storage = Storage.at(run)
    finished = [name for name in storage.list("students") if storage.exists(model_record(name))]
    if not finished:
        raise UserError(f"{storage.uri} holds no finished student; is it a run's folder?")
    chosen = _best_student(storage) if student == "best" else student
    if chosen not in finished:
        raise unknown_name("student", chosen, finished, flag="student=")
    record = storage.record(model_record(chosen))
    assert record is not None
    data = storage.read_committed(weights_file(chosen, weights), record=record)
    return _build(record, load_safetensors(data.to_pybytes()))


def _best_student(storage: Storage) -> str:
    result = storage.record(RESULT)
    if result is None:
        raise UserError(
            f"{storage.uri} is not finished, so no student is the best yet; name one (student=)"
        )
    return result["best_student"]


def _build(record: dict[str, Any], weights: dict[str, Tensor]) -> LoadedStudent:
    network = build_model(
        record["arch"],
        num_classes=record["num_classes"],
        in_channels=record["in_channels"],
        image_size=record["image_size"],
    )
    network.load_state_dict(weights)
    return LoadedStudent(network, record).eval()
