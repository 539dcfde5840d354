"""The networks: from a name and the images' shape to a torch module.

    names.py        which names there are, and what recipes need to know of each; no torch
    registry.py     register_model, build_model: what a name means for images of a given size
    entry.py        what is known of one network; each of the next four gives such entries
    small_image.py  the paper's networks for images up to 64 pixels
    torchvision_nets.py  torchvision's classifiers, fitted to classes, channels and image size
    timm_nets.py    timm's, as timm:NAME
    callables.py    functions of the user's own, as package.module:function
    pretrained.py   weights that torchvision brings, and every download
    initial.py      weights of another run or of a file (--init_from)
    shipped.py      registered networks on their way to the workers

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
