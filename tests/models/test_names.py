"""The names known without torch are the networks there are."""

import subprocess
import sys

import pytest
from torchvision import models

from raymd.errors import UserError
from raymd.models import names
from raymd.models.registry import _REGISTRY, lookup


def test_known_torchvision_names_are_torchvisions_classifiers():
    assert set(names.TORCHVISION) == set(models.list_models(module=models))


def test_known_small_image_names_are_the_registered_ones():
    lookup("resnet8", image_size=32)
    ours = {n for n, e in _REGISTRY.items() if e.build.__module__ == "raymd.models.small_image"}
    assert ours == set(names.SMALL_IMAGE)


def test_known_families_are_the_registered_ones():
    assert all(lookup(n, image_size=32).family == names.family(n) for n in names.SMALL_IMAGE)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("alexnet", "alexnet"),
        ("vgg16_bn", "vgg"),
        ("resnet110", "resnet"),
        ("wide_resnet50_2", "resnet"),
        ("densenet100", "densenet"),
        ("squeezenet1_1", "squeezenet"),
        ("regnet_x_400mf", "other"),
    ],
)
def test_family_goes_by_the_architecture(name, family):
    assert names.family(name) == family


@pytest.mark.parametrize("ask", [names.family, names.has_batchnorm])
def test_unknown_name_is_answered_with_the_nearest(ask):
    with pytest.raises(UserError, match=r"'resnet19' \(--students\): did you mean resnet1"):
        ask("resnet19")


def test_names_are_sorted_and_each_stands_once():
    known = names.known_models()
    assert list(known) == sorted(set(known))
    assert set(known) >= names.BUILT_IN


def test_importing_names_imports_no_torch():
    # in a process of its own: this one has torch already
    code = (
        "import sys, raymd.models, raymd.models.names as n; assert 'vgg19' in n.known_models();"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "name",
    ["resnet18", "convnext_tiny", "timm:resnet18.a1_in1k", "nets:tiny", "package.nets:Tiny_2"],
)
def test_name_of_each_kind_passes(name):
    names.check_name(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet-18", r"did you mean resnet18"),
        ("ResNet18", r"did you mean resnet18"),
        ("resnet19", r"did you mean resnet1"),
        ("timm/resnet18", r"did you mean timm:resnet18\?"),
        ("TIMM:resnet18", r"did you mean timm:resnet18\?"),
        ("timm:", r"after 'timm:' stands a name of timm's own"),
        ("timm:timm/resnet18", r"after 'timm:' stands a name of timm's own"),
        ("nets.py:tiny", r"written package\.module:function"),
        ("./nets:tiny", r"written package\.module:function"),
        ("nets:", r"written package\.module:function"),
        (":tiny", r"written package\.module:function"),
        ("__main__:tiny", r"put the function into a module"),
        ("", r"unknown network ''"),
    ],
)
def test_name_that_can_be_none_is_answered_with_how_it_is_written(name, words):
    with pytest.raises(UserError, match=words) as caught:
        names.check_name(name)
    assert "--students" in str(caught.value)


def test_checking_a_timm_name_imports_neither_timm_nor_torch():
    code = (
        "import sys, raymd.models.names as n; n.check_name('timm:resnet18'); n.family('timm:vgg');"
        " sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "family", "batchnorm"),
    [
        ("timm:resnet18.a1_in1k", "resnet", True),
        ("timm:vgg11.tv_in1k", "vgg", False),
        ("timm:vgg11_bn.tv_in1k", "vgg", True),
        ("timm:vit_tiny_patch16_224", "other", False),
        ("nets:resnet18", "other", True),
    ],
)
def test_recipes_go_by_the_name_after_timm_and_know_nothing_of_functions(name, family, batchnorm):
    assert (names.family(name), names.has_batchnorm(name)) == (family, batchnorm)
