"""Which networks there are, and what recipes need to know of each; without torch.

Enters: a name as ``--students`` takes it. Leaves: whether it is known, its family and whether it
has BatchNorm, for config.py and recipes.py. What a name builds is in registry.py; a test holds
the names here against torchvision and against the small-image networks.
"""

from dataclasses import dataclass

from raymd.errors import UserError, unknown_name

SMALL_IMAGE_MAX_PIXELS = 64  # up to this side, small_image.py's definitions are meant
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
_NO_BATCHNORM_PREFIXES = ("alexnet", "convnext", "squeezenet", "swin", "vgg", "vit")


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
    batchnorm = name.endswith("_bn") or not name.startswith(_NO_BATCHNORM_PREFIXES)
    return NameFacts(family, batchnorm)


_FACTS = {name: _built_in_facts(name) for name in BUILT_IN}


def known_models() -> tuple[str, ...]:
    """All names, sorted: built in, torchvision's, and what register_model added."""
    return tuple(sorted(_FACTS))


def family(name: str) -> str:
    """The network's family, one of FAMILIES; UserError for an unknown name."""
    return _facts(name).family


def has_batchnorm(name: str) -> bool:
    """Whether the network has BatchNorm above 64 pixels, where recipes ask.

    Up to 64 pixels vgg11 to vgg19 have it too.

    Raises:
        UserError: An unknown name.
    """
    return _facts(name).batchnorm


def add_model(name: str, *, family: str, batchnorm: bool) -> None:
    """Make a name known that register_model brings; built-in names keep what stands here.

    Raises:
        UserError: A family that is none of FAMILIES.
    """
    if family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES, flag="register_model(family=...)")
    if name not in BUILT_IN:
        _FACTS[name] = NameFacts(family, batchnorm)


def unknown_model(name: str) -> UserError:
    """The error for a name that is not known, with the nearest ones."""
    return unknown_name("network", name, known_models(), flag="--students")


def _facts(name: str) -> NameFacts:
    if name not in _FACTS:
        raise unknown_model(name)
    return _FACTS[name]
