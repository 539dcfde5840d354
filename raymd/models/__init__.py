"""The networks: from a name and the images' shape to a torch module.

    names.py        which names there are, and what recipes need to know of each; no torch
    registry.py     register_model, build_model: what a name means for images of a given size
    small_image.py  the paper's networks for images up to 64 pixels
    torchvision_nets.py  torchvision's classifiers, fitted to classes, channels and image size

Importing this package imports no torch: config.py checks names through it before Ray starts.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raymd.models.registry import build_model, parameter_count, register_model

__all__ = ["build_model", "parameter_count", "register_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("raymd.models.registry"), name)
