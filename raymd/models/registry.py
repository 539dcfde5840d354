"""What a network's name means for images of a given size.

Enters: a name, the number of classes, the images' channels and side. Leaves: a freshly initialised
torch module that takes images ``[B, channels, side, side]`` and gives logits ``[B, num_classes]``.
Weights are drawn from torch's global generator alone, which the caller seeds, or are pretrained.

    @register_model("tiny", min_size=4)
    def tiny(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module: ...
"""

import functools
import importlib
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymd.errors import UserError
from raymd.models import names
from raymd.models.callables import callable_entry, check_network
from raymd.models.entry import Builder, ModelEntry
from raymd.models.pretrained import build_torchvision_pretrained
from raymd.models.timm_nets import timm_entry
from raymd.models.torchvision_nets import build_torchvision, min_size_of, size_multiple_of

SMALL_IMAGE_MODULE = "raymd.models.small_image"

B = TypeVar("B", bound=Builder)


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
            name,
            build,
            min_size,
            family,
            small_image_only=small_image_only,
            users_own=build.__module__ != SMALL_IMAGE_MODULE,
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


def registered(name: str) -> ModelEntry | None:
    """What register_model was given under this name, raymd's small-image networks included."""
    return _REGISTRY.get(name)


def adopt(entry: ModelEntry) -> None:
    """Register another process's entry; see shipped.py."""
    _REGISTRY[entry.name] = entry


def lookup(name: str, *, image_size: int) -> ModelEntry:
    """What the name means for images of this side in pixels.

    Raises:
        UserError: A name that means nothing, or a network that cannot do images of this size.
    """
    if name.startswith(names.TIMM):
        return timm_entry(name, image_size=image_size)
    if names.is_callable(name):
        return callable_entry(name)
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
    return ModelEntry(
        name,
        functools.partial(build_torchvision, name),
        min_size_of(name),
        names.family(name),
        size_multiple_of(name),
        build_pretrained=functools.partial(build_torchvision_pretrained, name),
    )


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


def build_model(
    name: str, *, num_classes: int, in_channels: int, image_size: int, pretrained: bool = False
) -> nn.Module:
    """A network, freshly initialised from torch's global generator or with trained weights.

    Args:
        name: One of names.known_models(), ``timm:NAME``, or ``package.module:function``.
        num_classes: K, the columns of its logits.
        in_channels: Channels of the images, 3 or any other number.
        image_size: Side of the images in pixels. Up to 64, names like resnet18 and vgg19 mean the
            small-image networks (small_image.py), above that torchvision's.
        pretrained: Begin with weights that torchvision or timm brings, which may be downloaded;
            where they are of another number of classes, the last layer is fresh.

    Returns:
        Images ``[B, in_channels, image_size, image_size]`` -> logits ``[B, num_classes]``; an
        Upscaled one where the network needs more pixels.

    Raises:
        UserError: A name that means nothing, a network that cannot do images of this size, one of
            the user's own that is no classifier of them, or one without pretrained weights.
        DataError: Pretrained weights that cannot be downloaded.
    """
    entry = lookup(name, image_size=image_size)
    build = _pretrained_builder(entry, image_size=image_size) if pretrained else entry.build
    size = entry.input_size(image_size)
    net = build(num_classes=num_classes, in_channels=in_channels, image_size=size)
    if entry.users_own:
        check_network(name, net, num_classes=num_classes, in_channels=in_channels, image_size=size)
    return net if size == image_size else Upscaled(net, size=size)


def _pretrained_builder(entry: ModelEntry, *, image_size: int) -> Builder:
    if entry.build_pretrained is not None:
        return entry.build_pretrained
    raise UserError(
        f"no pretrained weights for {entry.name!r} at {image_size} pixels; there are some for"
        f" torchvision's networks above {names.SMALL_IMAGE_MAX_PIXELS} pixels, and for timm:NAME"
        " (--pretrained)"
    )


def check_model(
    name: str, *, num_classes: int, in_channels: int, image_size: int, pretrained: bool = False
) -> None:
    """Refuse what build_model would, before workers start; downloads nothing.

    A network of the user's own is built and tried on two images, which no other needs. Arguments
    are build_model's.

    Raises:
        UserError: As build_model.
    """
    entry = lookup(name, image_size=image_size)
    if pretrained:
        _pretrained_builder(entry, image_size=image_size)
    if entry.users_own:
        with torch.random.fork_rng(devices=[]):
            build_model(
                name, num_classes=num_classes, in_channels=in_channels, image_size=image_size
            )


def parameter_count(model: nn.Module) -> int:
    """How many numbers training adjusts (BatchNorm's running statistics are none of them)."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
