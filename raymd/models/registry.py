"""What a network's name means for images of a given size.

Enters: a name, the number of classes, the images' channels and side. Leaves: a freshly initialised
torch module that takes images ``[B, channels, side, side]`` and gives logits ``[B, num_classes]``.
Weights are drawn from torch's global generator alone, which the caller seeds; none are downloaded.

    @register_model("tiny", min_size=4)
    def tiny(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module: ...
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from raymd.errors import UserError
from raymd.models import names
from raymd.models.torchvision_nets import build_torchvision, min_size_of, size_multiple_of

SMALL_IMAGE_MODULE = "raymd.models.small_image"
LARGE_IMAGE_SIZE = 224  # what networks of fixed patches were made for


class Builder(Protocol):
    """Builds a network for images of a size it can work on."""

    def __call__(self, *, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        """A freshly initialised network."""


B = TypeVar("B", bound=Builder)


@dataclass(frozen=True)
class ModelEntry:
    """One definition of a network.

    Attributes:
        name: As ``--students`` takes it.
        build: Its builder.
        min_size: The smallest side in pixels that it works on.
        family: One of names.FAMILIES; recipes go by it.
        size_multiple: It only works on sides that are a multiple of this.
        small_image_only: It is meant up to 64 pixels; above, torchvision's network of that name.
    """

    name: str
    build: Builder
    min_size: int = 1
    family: str = "other"
    size_multiple: int = 1
    small_image_only: bool = False

    def input_size(self, image_size: int) -> int:
        """The side in pixels at which the network sees images of this side; never smaller."""
        size = max(image_size, self.min_size)
        if size % self.size_multiple == 0:
            return size
        next_multiple = -(-size // self.size_multiple) * self.size_multiple
        return max(LARGE_IMAGE_SIZE, next_multiple)


_REGISTRY: dict[str, ModelEntry] = {}


def register_model(
    name: str,
    *,
    family: str = "other",
    min_size: int = 1,
    small_image_only: bool = False,
    batchnorm: bool = True,
) -> Callable[[B], B]:
    """Decorate a builder so that ``--students`` takes the network by this name.

    Registering the same function again, as a notebook does, replaces it.

    Args:
        name: Letters, digits, "_", "." and "-".
        family: One of names.FAMILIES; decides the recipe's weight decay and batch size.
        min_size: The smallest side in pixels that it works on; smaller images are upscaled to it.
        small_image_only: Refuse images above 64 pixels, or take torchvision's network of that name.
        batchnorm: Whether it has BatchNorm; above 64 pixels it starts at a lower learning rate if
            not.

    Raises:
        UserError: A name that is taken or cannot be one, or an unknown family.
    """

    def register(build: B) -> B:
        _check_free(name, build)
        names.add_model(name, family=family, batchnorm=batchnorm)
        _REGISTRY[name] = ModelEntry(
            name, build, min_size, family, small_image_only=small_image_only
        )
        return build

    return register


def _check_free(name: str, build: Builder) -> None:
    if not name or not name.replace("_", "").replace(".", "").replace("-", "").isalnum():
        raise UserError(
            f"network name {name!r}: takes letters, digits, '_', '.' and '-' (register_model)"
        )
    if name in names.BUILT_IN and build.__module__ != SMALL_IMAGE_MODULE:
        raise UserError(f"network name {name!r} is raymd's own; choose another (register_model)")
    if name in _REGISTRY and _origin(_REGISTRY[name].build) != _origin(build):
        taken = ".".join(_origin(_REGISTRY[name].build))
        raise UserError(f"network name {name!r} is taken by {taken}; choose another")


def _origin(build: Builder) -> tuple[str, str]:
    return build.__module__, getattr(build, "__qualname__", type(build).__qualname__)


def lookup(name: str, *, image_size: int) -> ModelEntry:
    """What the name means for images of this side in pixels.

    Raises:
        UserError: An unknown name, or a network that has no definition for so large images.
    """
    importlib.import_module(SMALL_IMAGE_MODULE)  # its decorators fill the registry
    entry = _REGISTRY.get(name)
    if entry and not (entry.small_image_only and image_size > names.SMALL_IMAGE_MAX_PIXELS):
        return entry
    if name in names.TORCHVISION:
        return _torchvision_entry(name)
    if entry is None:
        raise names.unknown_model(name)
    raise UserError(
        f"network {name!r} takes images up to {names.SMALL_IMAGE_MAX_PIXELS} pixels, not"
        f" {image_size} (--students, or register_model(small_image_only=False))"
    )


def _torchvision_entry(name: str) -> ModelEntry:
    def build(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        return build_torchvision(
            name, num_classes=num_classes, in_channels=in_channels, image_size=image_size
        )

    return ModelEntry(name, build, min_size_of(name), names.family(name), size_multiple_of(name))


def input_size(name: str, image_size: int) -> int:
    """The side in pixels at which the network sees images of side ``image_size``.

    It is ``image_size`` unless the network cannot work on so few pixels, or on a side that its
    patches do not divide.

    Raises:
        UserError: As lookup.
    """
    return lookup(name, image_size=image_size).input_size(image_size)


class Upscaled(nn.Module):
    """A network that sees its images enlarged, bilinearly, to a side it can work on.

    Attributes:
        net: The network; its state-dict keys stand behind "net.".
        size: The side in pixels that it sees.
    """

    def __init__(self, net: nn.Module, *, size: int) -> None:
        super().__init__()
        self.net = net
        self.size = size

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits ``[B, K]`` of images ``[B, C, H, W]``."""
        size = (self.size, self.size)
        scaled_BCSS = F.interpolate(images_BCHW, size=size, mode="bilinear", align_corners=False)
        logits_BK: Tensor = self.net(scaled_BCSS)
        return logits_BK


def build_model(name: str, *, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """A freshly initialised network, drawn from torch's global generator.

    Args:
        name: One of names.known_models().
        num_classes: K, the columns of its logits.
        in_channels: Channels of the images, 3 or any other number.
        image_size: Side of the images in pixels. Up to 64, names like resnet18 and vgg19 mean the
            small-image networks (small_image.py), above that torchvision's.

    Returns:
        Images ``[B, in_channels, image_size, image_size]`` -> logits ``[B, num_classes]``; an
        Upscaled one where the network needs more pixels.

    Raises:
        UserError: An unknown name, or a network that has no definition for so large images.
    """
    entry = lookup(name, image_size=image_size)
    size = entry.input_size(image_size)
    net = entry.build(num_classes=num_classes, in_channels=in_channels, image_size=size)
    return net if size == image_size else Upscaled(net, size=size)


def parameter_count(model: nn.Module) -> int:
    """How many numbers training adjusts (BatchNorm's running statistics are none of them)."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
