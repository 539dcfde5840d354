"""Images in files and folders -> the most probable classes of each.

Place on the data's way: after it; `raymd predict` brings a loaded student or ensemble. What cannot
be read is kept as a failure with its reason, so one bad file does not end the rest.

    B batch   K classes
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from raymd.data.folder import EXTENSIONS
from raymd.deploy import LoadedEnsemble, LoadedStudent
from raymd.errors import DataError, UserError

MAX_THREADS = 8


@dataclass(frozen=True)
class Found:
    """What the given paths hold: the images in order, and how many other files were passed over."""

    images: tuple[Path, ...]
    num_skipped: int


@dataclass(frozen=True)
class Prediction:
    """One image's classes, the most probable first; or why it could not be read.

    Attributes:
        image: Its path as given or found.
        classes, probabilities: Equally long; empty for a failure.
        error: None unless the image could not be read.
    """

    image: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


def find_images(paths: Sequence[str]) -> Found:
    """The given files, and the images in the given folders and all folders below, sorted.

    Files named on their own are taken whatever they are called; in folders hidden files and those
    without an image's extension are counted and passed over.

    Raises:
        UserError: a path that does not exist, or no image in any.
    """
    images: list[Path] = []
    num_skipped = 0
    for text in paths:
        path = Path(text)
        if not path.exists():
            raise UserError(f"no file or folder {text!r} (IMAGE)")
        if not path.is_dir():
            images.append(path)
            continue
        files = sorted(file for file in path.rglob("*") if file.is_file())
        chosen = [file for file in files if _is_image(file)]
        images += chosen
        num_skipped += len(files) - len(chosen)
    if not images:
        raise UserError(f"no images in {', '.join(paths)} ({num_skipped} other files) (IMAGE)")
    return Found(tuple(images), num_skipped)


def _is_image(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix.lower() in EXTENSIONS


def classify(
    model: LoadedStudent | LoadedEnsemble,
    images: Sequence[Path],
    *,
    top: int,
    batch_size: int,
    device: torch.device,
) -> Iterator[Prediction]:
    """Predict image by image, in their order.

    Args:
        model: What classifies; moved to the device.
        images: Files.
        top: How many classes of each; all if there are fewer.
        batch_size: Images at once.
        device: Where to compute.
    """
    model.to(device)
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), batch_size):
            files = images[start : start + batch_size]
            read = list(pool.map(lambda file: _read(model, file), files))
            tensors = [image for image in read if isinstance(image, Tensor)]
            rows = iter(_top(model, tensors, top=top, device=device))
            for file, image in zip(files, read, strict=True):
                if isinstance(image, Tensor):
                    yield Prediction(file, *next(rows))
                else:
                    yield Prediction(file, error=image)


def _read(model: LoadedStudent | LoadedEnsemble, file: Path) -> Tensor | str:
    """The image's pixels, or why there are none."""
    try:
        return model.read(file)
    except (DataError, OSError) as error:
        return str(error)


@torch.inference_mode()
def _top(
    model: LoadedStudent | LoadedEnsemble,
    images: Sequence[Tensor],
    *,
    top: int,
    device: torch.device,
) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
    if not images:
        return []
    # of an ensemble these are log-probabilities, which softmax turns into the probabilities
    probs_BK = model(torch.stack(list(images)).to(device)).float().softmax(-1)
    values, ids = probs_BK.topk(min(top, len(model.classes)), dim=-1)
    return [
        (tuple(model.classes[k] for k in row_ids), tuple(row_values))
        for row_values, row_ids in zip(values.tolist(), ids.tolist(), strict=True)
    ]
