"""One definition of a network: what registry.py looks up, and every file of networks gives.

Enters: a builder and what it needs of its images. Leaves: a ModelEntry, of which registry.py makes
a torch module. Imports no other file of this package, so that all of them can.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import nn

LARGE_IMAGE_SIZE = 224  # what networks of fixed patches were made for


class Builder(Protocol):
    """Builds a network for images of a size it can work on."""

    def __call__(self, *, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        """A network for images ``[B, in_channels, image_size, image_size]``."""


@dataclass(frozen=True)
class ModelEntry:
    """One definition of a network.

    Attributes:
        name: As ``--students`` takes it.
        build: Its builder; the network is freshly initialised.
        min_size: The smallest side in pixels that it works on.
        family: One of names.FAMILIES; recipes go by it.
        size_multiple: It only works on sides that are a multiple of this.
        small_image_only: It is meant up to 64 pixels; above, torchvision's network of that name.
        build_pretrained: The same with weights that others trained; None if there are none.
        users_own: raymd has not tried it, so what it builds is checked.
    """

    name: str
    build: Builder
    min_size: int = 1
    family: str = "other"
    size_multiple: int = 1
    small_image_only: bool = False
    build_pretrained: Builder | None = None
    users_own: bool = False

    def input_size(self, image_size: int) -> int:
        """The side in pixels at which the network sees images of this side; never smaller."""
        size = max(image_size, self.min_size)
        if size % self.size_multiple == 0:
            return size
        next_multiple = -(-size // self.size_multiple) * self.size_multiple
        return max(LARGE_IMAGE_SIZE, next_multiple)
