"""Weights that others trained: torchvision's fitted to our shapes, and the download of any.

Enters: a network's name and shape. Leaves: the network with those weights; where the number of
classes differs its last layer is fresh. Files come from torch's hub cache (``TORCH_HOME``) or the
Hugging Face one (``HF_HOME``), and are downloaded once to a machine.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import torch
from filelock import FileLock
from torch import Tensor, nn

from raymd.errors import DataError, RaymdError
from raymd.models.torchvision_nets import RGB, build_torchvision, first_conv

# Both take images normalised for ImageNet; with trained weights torchvision puts
# x * std / 0.5 + (mean - 0.5) / 0.5 in front of the first convolution.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's name
_FIRST_LAYERS = {"googlenet": "conv1", "inception_v3": "Conv2d_1a_3x3"}


@contextmanager
def downloading(name: str, *, host: str) -> Iterator[None]:
    """Load weights inside, one worker of a machine at a time, the first of which downloads them.

    Args:
        name: The network, for the error.
        host: Where they come from, for the error.

    Raises:
        DataError: Whatever went wrong inside, with the remedy.
    """
    cache = Path(torch.hub.get_dir())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".raymd.lock"), _nothing_unpickled():
            yield
    except RaymdError:
        raise
    # each library, and each version of it, has its own exceptions of the network
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300].replace("\n", " ")
        raise DataError(
            f"no pretrained weights of {name!r} from {host} ({reason})."
            f" Without that host: --init_from FILE with weights you have, or put its file into"
            f" {cache / 'checkpoints'} (timm's: into the Hugging Face cache) on every machine"
        ) from error


@contextmanager
def _nothing_unpickled() -> Iterator[None]:
    """Make torch.load refuse whatever is not weights: torchvision asks it to run all pickles."""
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[WEIGHTS_ONLY]
        else:
            os.environ[WEIGHTS_ONLY] = before


def build_torchvision_pretrained(
    name: str, *, num_classes: int, in_channels: int, image_size: int
) -> nn.Module:
    """torchvision's network with its default weights.

    Args:
        name: One of names.TORCHVISION.
        num_classes: K; other than torchvision's 1000, the last layer is fresh.
        in_channels: Where it is not 3, each channel gets the mean of the first layer's RGB weights.
        image_size: Side in pixels, one that the network works on; a vision transformer's
            position embeddings are interpolated to it.

    Raises:
        DataError: The weights could not be downloaded.
    """
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    net = build_torchvision(
        name, num_classes=num_classes, in_channels=in_channels, image_size=image_size
    )
    with torch.random.fork_rng(devices=[]):  # what is fresh depends on the caller's seed alone
        trained = _trained(name)
    if name in _FIRST_LAYERS:
        _fold_in_normalisation(trained, _FIRST_LAYERS[name])
    if isinstance(net, VisionTransformer):
        trained = dict(interpolate_embeddings(image_size, net.patch_size, trained))
    if in_channels != RGB:
        path = f"{first_conv(net)[0]}.weight"
        trained[path] = _mean_over_rgb(trained[path], in_channels=in_channels)
    own = net.state_dict()
    fresh = {key for key in own if own[key].shape != trained[key].shape}
    assert all(len(own[key]) == num_classes for key in fresh), fresh  # the last layer's alone
    net.load_state_dict({key: own[key] if key in fresh else trained[key] for key in own})
    return net


def _trained(name: str) -> dict[str, Tensor]:
    """The state of torchvision's network of 1000 classes, auxiliary heads included."""
    from torchvision.models import get_model, get_model_weights

    weights = get_model_weights(name)["DEFAULT"]
    url = urlsplit(weights.url)
    with downloading(name, host=f"{url.netloc} (file {Path(url.path).name})"):
        net = get_model(name, weights=weights, progress=False)
    return dict(net.state_dict())


def _mean_over_rgb(weight: Tensor, *, in_channels: int) -> Tensor:
    """First-layer weights ``[out, 3, h, w]`` for other channels, at the same scale."""
    mean = weight.mean(1, keepdim=True) * (RGB / in_channels)
    return mean.expand(-1, in_channels, -1, -1).clone()


def _fold_in_normalisation(trained: dict[str, Tensor], layer: str) -> None:
    """Make the first convolution and its BatchNorm take images as all other networks do.

    A network loaded again from a run is built without pretrained weights, so nothing may stand
    in front of it that those alone bring.
    """
    weight = trained[f"{layer}.conv.weight"]
    scale = torch.tensor(_IMAGENET_STD).view(1, RGB, 1, 1) / 0.5
    shift = (torch.tensor(_IMAGENET_MEAN).view(1, RGB, 1, 1) - 0.5) / 0.5
    trained[f"{layer}.bn.running_mean"] -= (weight * shift).sum((1, 2, 3))
    trained[f"{layer}.conv.weight"] = weight * scale
