"""timm's networks, named ``timm:NAME``, at a size they work on.

Enters: a name of timm.list_models(), perhaps with a tag of its weights (``resnet18.a1_in1k``), and
the images' side. Leaves: an entry for images of that side. What a network needs of its images is
found by trying it on the meta device, which computes shapes alone; timm is an extra of raymd.
"""

import difflib
import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raymd.errors import UserError
from raymd.models import names
from raymd.models.entry import ModelEntry
from raymd.models.pretrained import downloading

SIZE_STEP = 32  # sides that are tried, beside the images' own, are multiples of it
RGB = 3
TRIED_CLASSES = 5


@dataclass(frozen=True)
class Fit:
    """How a network takes images: the side it sees, and whether it is built for one side."""

    size: int
    takes_size: bool


def timm_entry(name: str, *, image_size: int) -> ModelEntry:
    """The entry of a ``timm:NAME`` for images of this side in pixels.

    Raises:
        UserError: timm is not installed, has no such network, or has one that works on none of
            the sides tried.
    """
    timm_name = _check_known(name)
    fit = _fit(timm_name, image_size)

    def build(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        size = Fit(image_size, fit.takes_size)
        return _create(timm_name, size, num_classes=num_classes, in_chans=in_channels)

    def build_pretrained(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        size = Fit(image_size, fit.takes_size)
        with downloading(name, host=_host(timm_name)):
            return _create(
                timm_name, size, num_classes=num_classes, in_chans=in_channels, pretrained=True
            )

    return ModelEntry(
        name,
        build,
        min_size=fit.size,
        family=names.family(name),
        build_pretrained=build_pretrained if _has_weights(timm_name) else None,
    )


def _timm() -> Any:
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise names.timm_missing() from error
    return timm


def _check_known(name: str) -> str:
    """timm's own name for ``timm:NAME``; UserError with the nearest if it has none."""
    timm_name = name.removeprefix(names.TIMM)
    timm = _timm()
    arch, _, tag = timm_name.partition(".")
    if not timm.is_model(arch):
        known, kind = timm.list_models(), "network"
    elif tag and timm_name not in timm.list_models(f"{arch}.*", pretrained=True):
        known, kind = timm.list_models(f"{arch}.*", pretrained=True), "weights"
    else:
        return timm_name
    near = difflib.get_close_matches(timm_name.lower(), known, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(names.TIMM + each for each in near)}?"
        if near
        else "timm.list_models() lists all"
    )
    raise UserError(f"unknown {kind} {name!r} of timm {timm.__version__} (--students): {hint}")


def _create(timm_name: str, fit: Fit, **arguments: Any) -> nn.Module:
    if fit.takes_size:
        arguments["img_size"] = fit.size
    network: nn.Module = _timm().create_model(timm_name, **arguments)
    return network


@functools.cache
def _fit(timm_name: str, image_size: int) -> Fit:
    default = _timm().get_pretrained_cfg(timm_name).input_size[-1]
    error: Exception | None = None
    for size in _sizes(image_size, default=default):
        try:
            return _tried(timm_name, size)
        # timm's networks refuse a size by whatever their layers happen to raise
        except Exception as refusal:
            error = refusal
    raise UserError(
        f"network {names.TIMM + timm_name!r} cannot classify images of {image_size} pixels, nor"
        f" enlarged to {size}: {type(error).__name__}: {error} (--students)"
    ) from error


def _sizes(image_size: int, *, default: int) -> Iterator[int]:
    yield image_size
    first = (image_size // SIZE_STEP + 1) * SIZE_STEP
    steps = range(first, 2 * max(image_size, default) + 1, SIZE_STEP)
    yield from sorted({*steps, default} if default > image_size else steps)


def _tried(timm_name: str, size: int) -> Fit:
    """How the network takes images of this side; raises anything if it does not."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of tensors without elements, at sizes too small
        try:
            fit = Fit(size, takes_size=True)
            net = _create(timm_name, fit, num_classes=TRIED_CLASSES)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            fit = Fit(size, takes_size=False)
            net = _create(timm_name, fit, num_classes=TRIED_CLASSES)
        if fit.takes_size:
            _check_patches(net, size)
        logits_BK = net.train()(torch.empty(2, RGB, size, size))
    if not isinstance(logits_BK, Tensor) or logits_BK.shape != (2, TRIED_CLASSES):
        raise ValueError("it does not give one row of logits for an image")
    return fit


def _check_patches(net: nn.Module, size: int) -> None:
    """Refuse sides of which some networks would leave out what fills no patch."""
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    sides = patch if isinstance(patch, tuple) else (patch or 1,)
    if any(size % side for side in sides):
        raise ValueError(f"{size} pixels are not a multiple of its patches' {sides[0]}")


def _has_weights(timm_name: str) -> bool:
    return bool(_timm().get_pretrained_cfg(timm_name).has_weights)


def _host(timm_name: str) -> str:
    """Where timm would take the weights from."""
    config = _timm().get_pretrained_cfg(timm_name)
    if config.hf_hub_id:
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{config.hf_hub_id}"
    return str(config.url)
