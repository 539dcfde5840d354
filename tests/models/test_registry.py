"""Networks of the user's own: one decorated builder, and every name in the registry is honest."""

import pytest
import torch
from torch import nn

from raymd.errors import UserError
from raymd.models import build_model, names, register_model, registry


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(names, "_FACTS", dict(names._FACTS))


def linear(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))


def other_linear(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return linear(num_classes=num_classes, in_channels=in_channels, image_size=image_size)


def test_registered_network_is_known_and_built():
    register_model("linear", family="vgg", batchnorm=False)(linear)
    assert "linear" in names.known_models()
    assert (names.family("linear"), names.has_batchnorm("linear")) == ("vgg", False)
    net = build_model("linear", num_classes=4, in_channels=2, image_size=6)
    assert net(torch.zeros(3, 2, 6, 6)).shape == (3, 4)


def test_registered_network_sees_images_enlarged_to_its_smallest_size():
    register_model("linear", min_size=12)(linear)
    assert registry.input_size("linear", 6) == 12
    net = build_model("linear", num_classes=4, in_channels=2, image_size=6)
    assert net(torch.zeros(3, 2, 6, 6)).shape == (3, 4)


def test_register_model_returns_the_builder_itself():
    assert register_model("linear")(linear) is linear


def test_registering_the_same_function_again_replaces_it():
    register_model("linear", min_size=4)(linear)
    register_model("linear", min_size=5)(linear)
    assert registry.lookup("linear", image_size=8).min_size == 5


def test_name_of_another_function_is_taken():
    register_model("linear")(linear)
    with pytest.raises(UserError, match=r"'linear' is taken by .*test_registry\.linear"):
        register_model("linear")(other_linear)


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_built_in_name_cannot_be_registered(name):
    with pytest.raises(UserError, match=f"'{name}' is raymd's own"):
        register_model(name)(linear)


@pytest.mark.parametrize("name", ["", "my net", "timm:net", "a,b", "a/b"])
def test_name_that_a_flag_or_a_folder_cannot_hold_is_refused(name):
    with pytest.raises(UserError, match="takes letters"):
        register_model(name)(linear)


def test_unknown_family_is_refused_and_nothing_registered():
    with pytest.raises(UserError, match=r"unknown family 'resnets'.*did you mean resnet"):
        register_model("linear", family="resnets")(linear)
    assert "linear" not in names.known_models()


def test_small_image_network_without_large_definition_refuses_large_images():
    register_model("linear", small_image_only=True)(linear)
    build_model("linear", num_classes=4, in_channels=1, image_size=64)
    with pytest.raises(UserError, match="takes images up to 64 pixels, not 65"):
        build_model("linear", num_classes=4, in_channels=1, image_size=65)


def test_unknown_network_is_answered_with_the_nearest_name():
    with pytest.raises(UserError, match=r"did you mean .*squeezenet1_1"):
        build_model("squeezenet11", num_classes=4, in_channels=3, image_size=32)


def test_package_has_its_public_names_and_no_others():
    import raymd.models

    assert raymd.models.build_model is registry.build_model
    with pytest.raises(AttributeError, match="no attribute 'build_modle'"):
        _ = raymd.models.build_modle
