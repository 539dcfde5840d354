"""Functions of the user's own, named ``package.module:function``; and the check of what they build.

Enters: such a name. Leaves: an entry whose builder imports the function where the network is
needed, each worker by itself. The current folder can be imported from, as under ``python -m``.
"""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raymd.errors import UserError
from raymd.models import names
from raymd.models.entry import ModelEntry

OFFERED = ("num_classes", "in_channels", "image_size")


def callable_entry(name: str) -> ModelEntry:
    """The entry of a ``package.module:function``.

    Raises:
        UserError: No such module or function, or one that cannot be called with what a network
            is built from.
    """
    function = _import(name)
    taken = _arguments_taken(name, function)

    def build(**offered: int) -> nn.Module:
        arguments = {key: value for key, value in offered.items() if key in taken}
        try:
            network: nn.Module = function(**arguments)
        except Exception as error:
            raise UserError(
                f"network {name!r} could not be built from {arguments}:"
                f" {type(error).__name__}: {error} (--students)"
            ) from error
        return network

    return ModelEntry(name, build, users_own=True)


def _import(name: str) -> Callable[..., nn.Module]:
    names.check_name(name)
    module_name, _, attribute = name.partition(":")
    module = _import_module(module_name, network=name)
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"its file is {module.__file__}"
        raise UserError(
            f"network {name!r}: module {module_name} has no {attribute!r} (--students): {hint}"
        )
    function = getattr(module, attribute)
    if not callable(function):
        kind = type(function).__name__
        raise UserError(f"network {name!r} is {kind}, which cannot be called (--students)")
    return function


def _import_module(module_name: str, *, network: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that no file here hides an installed package
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(
                f"network {network!r}: {module_name} imports {error.name!r}, which is not"
                " installed (--students)"
            ) from error
        raise UserError(
            f"network {network!r}: no module {error.name!r} (--students); run in its folder,"
            f" which is {here} now, or install its package on every machine"
        ) from error
    except Exception as error:
        raise UserError(
            f"network {network!r}: importing {module_name} failed:"
            f" {type(error).__name__}: {error} (--students)"
        ) from error


def _arguments_taken(name: str, function: Callable[..., nn.Module]) -> frozenset[str]:
    kinds = inspect.Parameter
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is kinds.VAR_KEYWORD for p in parameters):
        taken = frozenset(OFFERED)
    else:
        by_name = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        taken = frozenset(p.name for p in parameters if p.kind in by_name and p.name in OFFERED)
    no_default = {
        p.name
        for p in parameters
        if p.default is kinds.empty and p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    }
    if "num_classes" not in taken or no_default - taken:
        raise UserError(
            f"network {name!r} takes {inspect.signature(function)}; it is called with num_classes"
            " and, if it takes them, in_channels and image_size (--students)"
        )
    return taken


def check_network(
    name: str, net: nn.Module, *, num_classes: int, in_channels: int, image_size: int
) -> None:
    """Try a network of the user's own on two images, so that training does not have to.

    Lazy modules get their shapes by it. Neither the network's mode nor torch's generator changes.

    Raises:
        UserError: No torch module, one without parameters, one that fails on the images, or
            one that gives anything but logits ``[2, num_classes]``.
    """
    if not isinstance(net, nn.Module):
        raise UserError(f"network {name!r} gave {_described(net)}, not a torch.nn.Module")
    parameter = next(net.parameters(), None)
    if parameter is None:
        raise UserError(f"network {name!r} has no parameters to train")
    shape = (2, in_channels, image_size, image_size)
    was_training = net.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits_BK = net.eval()(torch.zeros(shape, device=parameter.device))
    except Exception as error:
        raise UserError(
            f"network {name!r} fails on images {list(shape)}: {type(error).__name__}: {error}"
        ) from error
    net.train(was_training)
    if not isinstance(logits_BK, Tensor) or logits_BK.shape != (2, num_classes):
        raise UserError(
            f"network {name!r} gave {_described(logits_BK)} for images {list(shape)}, not logits"
            f" [2, {num_classes}]; return those alone, before any softmax"
        )


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
