"""What a data set is: images and labels that belong together, as loaders make them.

Place on the data's way: the loaders of datasets.py make a Dataset, splits.py cuts it for a run.

    N images   H height   W width   C channels
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
import torch
import xxhash

from raymd.data.augment import SMALL_SIDE, Augmentation, Pixels
from raymd.data.feed import MAX_DEVICE_BYTES, MemoryFeed
from raymd.distillation.aggregation import as_tensor
from raymd.errors import DataError

if TYPE_CHECKING:
    from raymd.data.encoded import EncodedSplit

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
HASH_ROWS = 4096
NO_AUGMENTATION = Augmentation()
CIFAR_AUGMENTATION = Augmentation(pad=4, flip=True)


@dataclass(frozen=True)
class Split:
    """Images in memory with their labels; row n of one belongs to row n of the other.

    What the rest of the code asks of a split, ``EncodedSplit`` answers too.

    Attributes:
        images: uint8 [N, C, H, W], of any memory format. ``from_arrays`` keeps the pixels
            together (channels_last), which the loader takes without a copy.
        labels: int64 [N].
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4:
            got = f"{images.dtype} {list(images.shape)}"
            raise DataError(f"a split's images are uint8 [N, C, H, W], got {got}")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            got = f"{labels.dtype} {list(labels.shape)} beside {len(images)} images"
            raise DataError(f"a split's labels are int64 [N], got {got}")

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_arrays(cls, pixels: np.ndarray, labels: np.ndarray) -> "Split":
        """A split of uint8 [N, H, W, C] or [N, H, W] pixels and integer [N] labels."""
        if pixels.ndim == 3:
            pixels = pixels[..., None]
        images_NHWC = torch.from_numpy(np.ascontiguousarray(pixels))
        labels_N = torch.from_numpy(np.array(labels, dtype=np.int64))
        return cls(images_NHWC.permute(0, 3, 1, 2), labels_N)

    @property
    def channels(self) -> int:
        """C."""
        return self.images.shape[1]

    @property
    def stored_size(self) -> tuple[int, int]:
        """H and W."""
        height, width = self.images.shape[2:]
        return height, width

    @property
    def num_bytes(self) -> int:
        """Memory that it takes on each node."""
        return sum(self.pieces().values())

    def pieces(self) -> dict[int, int]:
        """Bytes of what it is made of, by ``id``."""
        return {id(self.images): self.images.nbytes, id(self.labels): self.labels.nbytes}

    @property
    def device_bytes(self) -> int:
        """Memory that its feed takes of a GPU for the images."""
        return self.images.nbytes if self.images.nbytes <= MAX_DEVICE_BYTES else 0

    def rows(self, ids: torch.Tensor) -> "Split":
        """The rows of these ids (int64 [n]), in their order, copied."""
        images_NHWC = self.images.permute(0, 2, 3, 1).index_select(0, ids)
        return Split(images_NHWC.permute(0, 3, 1, 2), self.labels[ids])

    def relabelled(self, labels_N: torch.Tensor) -> "Split":
        """The same images under other labels."""
        return Split(self.images, labels_N)

    def feed(self, device: torch.device | str, *, place: bool = False) -> MemoryFeed:
        """What makes batches of it; ``place`` where all of it will be wanted again and again."""
        return MemoryFeed(self.images, device=torch.device(device), place=place)

    def notes(self, *, again: bool = False) -> list[str]:  # noqa: ARG002
        """What came to light while images were read: nothing, for all were read at once."""
        return []

    def add_to(self, digest: xxhash.xxh3_128) -> None:
        """Its part of a fingerprint: shape, labels and pixels."""
        digest.update(repr(tuple(self.images.shape)).encode())
        digest.update(self.labels.numpy().tobytes())
        # Whatever the memory format, the same pixels give the same bytes.
        images_NHWC = self.images.permute(0, 2, 3, 1)
        for start in range(0, len(self), HASH_ROWS):
            digest.update(images_NHWC[start : start + HASH_ROWS].contiguous().numpy().data)

    def shipped(self) -> Callable[[], "Split"]:
        """What pickles as arrays, which the workers of a node share, and makes the split again."""
        images_NHWC = self.images.permute(0, 2, 3, 1).contiguous().numpy()
        return partial(Split._arrived, images_NHWC, self.labels.numpy())

    @staticmethod
    def _arrived(images_NHWC: np.ndarray, labels_N: np.ndarray) -> "Split":
        return Split(as_tensor(images_NHWC).permute(0, 3, 1, 2), as_tensor(labels_N))


AnySplit: TypeAlias = Union[Split, "EncodedSplit"]  # encoded.py need not be imported to be named


@dataclass(frozen=True)
class Dataset:
    """A data set as loaded, before subset and hold-out.

    Attributes:
        name: For titles and messages.
        train, test: Images of one stored size and the same channels.
        classes: Name of class k at position k; labels are below its length.
        mean, std: Of each channel, for pixels scaled to 0..1.
        augmentation: What training batches undergo; nothing by default.
        image_size: The side in pixels that networks see, unlike the stored one if images are
            cropped or resized batch by batch; 0 becomes the stored width.
        notes: What was chosen or left out in loading, each for a line of its own.

    Raises:
        DataError: parts that do not fit together.
    """

    name: str
    train: AnySplit
    test: AnySplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation = NO_AUGMENTATION
    image_size: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = {(part.channels, *part.stored_size) for part in (self.train, self.test)}
        if len(shapes) > 1:
            raise DataError(f"{self.name}: train and test images differ in shape: {sorted(shapes)}")
        channels, height, width = next(iter(shapes))
        if self.image_size not in (0, width) and height != width:
            shown = f"stored as {width}x{height} pixels cannot be seen as {self.image_size} a side"
            raise DataError(f"{self.name}: images {shown}")
        if self.augmentation.resized_crop and height != width:
            raise DataError(f"{self.name}: resized_crop takes squares, not {width}x{height} pixels")
        object.__setattr__(self, "image_size", self.image_size or width)
        if not len(self.mean) == len(self.std) == channels or min(self.std) <= 0:
            stats = f"mean {self.mean}, std {self.std}"
            raise DataError(f"{self.name}: {stats}, but {channels} positive values each are needed")
        for part, split in (("train", self.train), ("test", self.test)):
            self._check_labels(split.labels, part)

    @property
    def is_grey(self) -> bool:
        """Whether images have one channel."""
        return self.train.channels == 1

    @property
    def crop_side(self) -> int:
        """The side that decides how images are usually cropped (``augmentation_for``)."""
        height, width = self.train.stored_size
        # what is not square cannot be a photograph's square to draw boxes from
        return width if height == width else min(height, width, SMALL_SIDE)

    @property
    def pixels(self) -> Pixels:
        """How stored images become a network's."""
        return Pixels(self.mean, self.std, self.image_size, self.augmentation)

    def _check_labels(self, labels_N: torch.Tensor, part: str) -> None:
        if not len(labels_N):
            raise DataError(f"{self.name}: the {part} part has no images")
        low, high = int(labels_N.min()), int(labels_N.max())
        if low < 0 or high >= len(self.classes):
            limit = f"{len(self.classes)} classes allow 0..{len(self.classes) - 1}"
            raise DataError(f"{self.name}: {part} labels run from {low} to {high}, but {limit}")
