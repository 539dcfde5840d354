"""Which networks there are, and what recipes need to know of each; without torch.

Enters: a name as ``--students`` takes it: one of known_models(), ``timm:NAME`` or
``package.module:function``. Leaves: whether it can be one, its family and whether it has BatchNorm,
for config.py and recipes.py. What a name builds is in registry.py; a test holds the names here
against torchvision and against the small-image networks.
"""

import re
from dataclasses import dataclass
from importlib.util import find_spec

from raymd.errors import UserError, unknown_name
from raymd.paths import absolute_path

SMALL_IMAGE_MAX_PIXELS = 64  # up to this side, small_image.py's definitions are meant
TIMM = "timm:"
FAMILIES = ("alexnet", "vgg", "resnet", "densenet", "squeezenet", "other")

# fmt: off
SMALL_IMAGE = (
    "alexnet", "densenet100",
    "resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110",
    "resnet164", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "vgg11", "vgg13", "vgg16", "vgg19",
)

TORCHVISION = (
    "alexnet",
    "convnext_base", "convnext_large", "convnext_small", "convnext_tiny",
    "densenet121", "densenet161", "densenet169", "densenet201",
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
    "efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7",
    "efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s",
    "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3",
    "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small",
    "regnet_x_16gf", "regnet_x_1_6gf", "regnet_x_32gf", "regnet_x_3_2gf", "regnet_x_400mf",
    "regnet_x_800mf", "regnet_x_8gf", "regnet_y_128gf", "regnet_y_16gf", "regnet_y_1_6gf",
    "regnet_y_32gf", "regnet_y_3_2gf", "regnet_y_400mf", "regnet_y_800mf", "regnet_y_8gf",
    "resnet101", "resnet152", "resnet18", "resnet34", "resnet50",
    "resnext101_32x8d", "resnext101_64x4d", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0",
    "squeezenet1_0", "squeezenet1_1",
    "swin_b", "swin_s", "swin_t", "swin_v2_b", "swin_v2_s", "swin_v2_t",
    "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    "vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32",
    "wide_resnet101_2", "wide_resnet50_2",
)
# fmt: on

BUILT_IN = frozenset(SMALL_IMAGE) | frozenset(TORCHVISION)

_FAMILY_PREFIXES = {
    "alexnet": "alexnet",
    "vgg": "vgg",
    "resnet": "resnet",
    "resnext": "resnet",
    "wide_resnet": "resnet",
    "densenet": "densenet",
    "squeezenet": "squeezenet",
}
_NO_BATCHNORM_PREFIXES = (
    *("alexnet", "convnext", "squeezenet", "swin", "vgg", "vit"),
    # timm's alone
    *("beit", "cait", "crossvit", "davit", "deit", "dm_nfnet", "edgenext", "eva", "focalnet"),
    *("hiera", "mambaout", "mixer", "mvitv2", "nf_", "nfnet", "pit_", "poolformer", "pvt"),
    *("resmlp", "twins"),
)
_TIMM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class NameFacts:
    """What recipes need to know of a network.

    Attributes:
        family: One of FAMILIES.
        batchnorm: Whether it has BatchNorm above 64 pixels (vgg19 has it only below).
    """

    family: str
    batchnorm: bool


def _built_in_facts(name: str) -> NameFacts:
    family = next((f for p, f in _FAMILY_PREFIXES.items() if name.startswith(p)), "other")
    batchnorm = "_bn" in name or not name.startswith(_NO_BATCHNORM_PREFIXES)
    return NameFacts(family, batchnorm)


_FACTS = {name: _built_in_facts(name) for name in BUILT_IN}


def known_models() -> tuple[str, ...]:
    """All names of one word, sorted: built in, torchvision's, and what register_model added."""
    return tuple(sorted(_FACTS))


def family(name: str) -> str:
    """The network's family, one of FAMILIES; UserError for an unknown name."""
    return facts(name).family


def has_batchnorm(name: str) -> bool:
    """Whether the network has BatchNorm above 64 pixels, where recipes ask.

    Up to 64 pixels vgg11 to vgg19 have it too.

    Raises:
        UserError: An unknown name.
    """
    return facts(name).batchnorm


def add_model(name: str, *, family: str, batchnorm: bool) -> None:
    """Make a name known that register_model brings; built-in names keep what stands here.

    Raises:
        UserError: A family that is none of FAMILIES.
    """
    if family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES, flag="register_model(family=...)")
    if name not in BUILT_IN:
        _FACTS[name] = NameFacts(family, batchnorm)


def is_callable(name: str) -> bool:
    """Whether it is written as ``package.module:function`` is."""
    module, colon, function = name.partition(":")
    parts = [*module.split("."), function]
    if f"{module.lower()}:" == TIMM or parts[-2] == "py":  # a timm name; a file instead of a module
        return False
    return bool(colon) and all(part.isidentifier() for part in parts)


def check_name(name: str) -> None:
    """Refuse what cannot be a network's name; imports neither the network nor timm.

    Raises:
        UserError: With the nearest names, or how they are written.
    """
    if name.startswith(TIMM):
        _check_timm_name(name)
    elif name.partition(":")[0] == "__main__":
        raise UserError(
            f"network {name!r}: workers have another __main__; put the function into a module, or"
            " decorate it with register_model and call raymd.fit in the same script (--students)"
        )
    elif name not in _FACTS and not is_callable(name):
        raise unknown_model(name)


def _check_timm_name(name: str) -> None:
    if not _TIMM_NAME.fullmatch(name.removeprefix(TIMM)):
        raise UserError(
            f"network {name!r}: after {TIMM!r} stands a name of timm's own, such as"
            " timm:resnet18 or timm:resnet18.a1_in1k (--students)"
        )
    if find_spec("timm") is None:
        raise timm_missing()


def timm_missing() -> UserError:
    """The error for a ``timm:NAME`` where timm is not installed."""
    return UserError(
        f"networks named {TIMM}NAME need timm, which is not installed: pip install 'raymd[timm]'"
        " on every machine of the cluster (--students)"
    )


def unknown_model(name: str) -> UserError:
    """The error for a name that is not known, with the nearest ones or how it may be meant."""
    prefix, separator, rest = (name[:4].lower(), name[4:5], name[5:])
    if prefix == "timm" and separator and not separator.isalnum() and rest:
        return UserError(f"unknown network {name!r} (--students): did you mean {TIMM}{rest}?")
    if not set(":/\\").isdisjoint(name) or ".py" in name:
        return UserError(
            f"unknown network {name!r} (--students): a function of your own is written"
            f" package.module:function, as in nets:tiny for tiny in nets.py; timm's networks"
            f" {TIMM}NAME"
        )
    return unknown_name("network", name, known_models(), flag="--students")


def facts(name: str) -> NameFacts:
    """Family and BatchNorm of a network; what is not known of it is "other" and True.

    Raises:
        UserError: An unknown name.
    """
    if name.startswith(TIMM):
        return _built_in_facts(name.removeprefix(TIMM))
    if is_callable(name):
        return NameFacts("other", batchnorm=True)
    if name not in _FACTS:
        raise unknown_model(name)
    return _FACTS[name]


def absolute_source(source: str) -> str:
    """The source as another process finds it, whose current folder is another; URIs stay."""
    path, mark, student = source.partition("::")
    return f"{absolute_path(path)}{mark}{student}"
