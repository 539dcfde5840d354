"""load_student and load_ensemble: what a run has trained, as modules with their preprocessing.

    import raymd
    model = raymd.load_student("runs/20261122-225555-3f2a")          # best on held-out data
    probs_BK = model(model.preprocess(image).unsqueeze(0)).softmax(-1)

The end of the data's way: a run directory enters, something that classifies leaves. No Ray.

    B batch   C channels   H height   W width   K classes   S side that the network sees
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from raymd.data.augment import SMALL_SIDE
from raymd.data.decode import UnreadableImageError, as_mode, decode
from raymd.data.geometry import STORED_PER_SEEN, Geometry
from raymd.errors import DataError, UserError, unknown_name
from raymd.models import build_model
from raymd.run_folder import RESULT, model_record, weights_file
from raymd.storage import Storage

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

Weights = Literal["best", "last"]


class LoadedStudent(nn.Module):
    """A student, ready to classify.

    Attributes:
        network: The trained network.
        id, arch: Which student it was.
        classes: Name of class k at position k.
        image_size, in_channels: What the network was trained on.
        geometry: How its training images were made of files of any size.
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
        self.geometry = _geometry(record)
        self.register_buffer("mean", torch.tensor(record["mean"]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(record["std"]).view(1, -1, 1, 1))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits [B, K] of uint8 images, or of float images in 0..1, [B, C, S, S]."""
        scale = 255.0 if images_BCHW.dtype == torch.uint8 else 1.0
        return self.network((images_BCHW / scale - self.mean) / self.std)

    def preprocess(self, image: "Image") -> Tensor:
        """A PIL image of any size and mode as the uint8 tensor [C, S, S] that ``forward`` takes
        (with a batch dimension in front).

        It is turned upright as its EXIF data say, put on white where it is transparent, and
        resized and cropped as in training's evaluation: up to 64 pixels to S x S; above, its
        short side to S * 256/224, of which the middle is taken.

        Raises:
            DataError: pixels that have no 8-bit form.
        """
        from PIL import ImageOps

        try:
            flat = as_mode(ImageOps.exif_transpose(image), channels=self.in_channels)
        except UnreadableImageError as error:
            raise DataError(f"the image cannot be used: {error}") from error
        fitted = self.geometry.fit(flat)
        return self._crop(np.array(fitted, dtype=np.uint8).reshape(*fitted.size[::-1], -1))

    def read(self, file: "Path | bytes") -> Tensor:
        """An image file, or its bytes, as ``preprocess`` gives it.

        Large JPEG files are decoded at a fraction of their size, as in training, which is faster.

        Raises:
            DataError: no image, or a damaged one.
        """
        try:
            return self._crop(decode(file, geometry=self.geometry, channels=self.in_channels))
        except UnreadableImageError as error:
            raise DataError(str(error)) from error

    def _crop(self, pixels_HWC: np.ndarray) -> Tensor:
        """An image of the stored size as the network sees it, uint8 [C, S, S]."""
        image_CHW = torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)
        height, width = image_CHW.shape[1:]
        side = self.image_size
        if height != width or width == side:
            return image_CHW.contiguous()
        if width > side:
            start = (width - side) // 2
            return image_CHW[:, start : start + side, start : start + side].contiguous()
        enlarged = F.interpolate(image_CHW[None].float(), size=(side, side), mode="bilinear")
        return enlarged[0].round().to(torch.uint8)


def _geometry(record: dict[str, Any]) -> Geometry:
    """How training images were stored, as model.json says; runs of old do not say it."""
    side: int = record["image_size"]
    usual = side if side <= SMALL_SIDE else round(side * STORED_PER_SEEN)
    height, width = record.get("stored_size", (usual, usual))
    return Geometry(height, width, side, keeps_ratio=width > side)


class LoadedEnsemble(nn.Module):
    """All students of a run, weighted by their accuracy (Eq. 5 and 8).

    Attributes:
        members: The students, in the result's order.
        classes, image_size, in_channels: As of each member.
    """

    weights: Tensor

    def __init__(self, members: Sequence[LoadedStudent], weights: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.tensor(weights))
        first = members[0]
        self.classes = first.classes
        self.image_size = first.image_size
        self.in_channels = first.in_channels
        self.preprocess, self.read = first.preprocess, first.read

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Log-probabilities [B, K] of the weighted mean of the members' probabilities."""
        log_probs_SBK = torch.stack(
            [member(images_BCHW).float().log_softmax(-1) for member in self.members]
        )
        return (log_probs_SBK + self.weights.log().view(-1, 1, 1)).logsumexp(0)


def load_student(
    run: str | os.PathLike[str], *, student: str = "best", weights: Weights = "best"
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
    chosen = _result(storage)["best_student"] if student == "best" else student
    if chosen not in finished:
        raise unknown_name("student", chosen, finished, flag="--student, student=")
    record = storage.record(model_record(chosen))
    assert record is not None
    data = storage.read_committed(weights_file(chosen, weights), record=record)
    return _build(record, load_safetensors(data.to_pybytes()))


def load_ensemble(run: str | os.PathLike[str], *, weights: Weights = "best") -> LoadedEnsemble:
    """All students of a finished run as one module, in eval mode on the CPU.

    Args:
        run: The run's folder or URI.
        weights: Of each member, as load_student's.

    Raises:
        UserError: no such run, or one that is not finished.
        StorageError: its files are damaged.
    """
    storage = Storage.at(run)
    ensemble = _result(storage)["ensemble"]
    members = [load_student(run, student=name, weights=weights) for name in ensemble["members"]]
    return LoadedEnsemble(members, ensemble["weights"]).eval()


def _result(storage: Storage) -> dict[str, Any]:
    result = storage.record(RESULT)
    if result is None:
        raise UserError(
            f"{storage.uri} is no finished run, so no student is the best yet and none has a weight"
            " in the ensemble; name one (--student, student=)"
        )
    return result


def _build(record: dict[str, Any], weights: dict[str, Tensor]) -> LoadedStudent:
    network = build_model(
        record["arch"],
        num_classes=record["num_classes"],
        in_channels=record["in_channels"],
        image_size=record["image_size"],
    )
    network.load_state_dict(weights)
    return LoadedStudent(network, record).eval()
