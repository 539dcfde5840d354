"""torchvision's classifiers, fitted to a number of classes, channels and an image size.

Enters: one of names.TORCHVISION, from registry.py. Leaves: the network without any trained
weights, which pretrained.py brings. What each needs of its input was found by trying, and tests
hold it so. torchvision takes two seconds to import, the compiler of torch with it, so that is left
to who builds a network: a driver mostly builds none.
"""

from typing import Any

import torch
from torch import nn

RGB = 3

# prefix -> smallest side in pixels that forward and backward work on; 1 for all others
_MIN_SIZES = {
    "alexnet": 63,
    "convnext": 32,
    "densenet": 29,
    "googlenet": 15,
    "inception_v3": 75,
    "squeezenet1_0": 21,
    "squeezenet1_1": 17,
    "swin": 4,
    "vgg": 32,
}

# name -> the side must be a multiple of it: the patch, or for maxvit 32 windows of 7 pixels
_SIZE_MULTIPLES = {
    "maxvit_t": 224,
    "vit_b_16": 16,
    "vit_b_32": 32,
    "vit_h_14": 14,
    "vit_l_16": 16,
    "vit_l_32": 32,
}


def min_size_of(name: str) -> int:
    """The smallest side in pixels that the network works on."""
    return next((size for prefix, size in _MIN_SIZES.items() if name.startswith(prefix)), 1)


def size_multiple_of(name: str) -> int:
    """The network only works on sides that are a multiple of this."""
    return _SIZE_MULTIPLES.get(name, 1)


def build_torchvision(
    name: str, *, num_classes: int, in_channels: int, image_size: int
) -> nn.Module:
    """torchvision's network, freshly initialised.

    Args:
        name: One of names.TORCHVISION.
        num_classes: K, the columns of its logits.
        in_channels: Where it is not 3, the first convolution is rebuilt.
        image_size: Side in pixels, one that the network works on.
    """
    from torchvision.models import get_model

    net: nn.Module = get_model(
        name, weights=None, num_classes=num_classes, **_special_arguments(name, image_size)
    )
    if in_channels != RGB:
        _rebuild_first_conv(net, in_channels=in_channels)
    return net


def _special_arguments(name: str, image_size: int) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        # auxiliary heads would make forward return a tuple in training
        return {"aux_logits": False, "init_weights": True}
    if name == "maxvit_t":
        return {"input_size": (image_size, image_size)}
    if name.startswith("vit_"):
        return {"image_size": image_size}
    return {}


def first_conv(net: nn.Module) -> tuple[str, nn.Conv2d]:
    """The convolution that sees the images, with its name in the network."""
    return next((path, m) for path, m in net.named_modules() if isinstance(m, nn.Conv2d))


def _rebuild_first_conv(net: nn.Module, *, in_channels: int) -> None:
    path, old = first_conv(net)
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        kernel_size=old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    # networks differ in how they initialise; this keeps the scale of each one's activations
    with torch.no_grad():
        std = old.weight.std() * (RGB / in_channels) ** 0.5
        new.weight.copy_(torch.randn_like(new.weight) * std)
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    net.set_submodule(path, new)
