"""timm's networks: at the sizes they work on, with timm's weights, and clear without timm."""

import sys

import pytest
import timm
import torch
from torch import Tensor, nn

from raymd.errors import DataError, UserError
from raymd.models import build_model, names, timm_nets
from raymd.models.registry import Upscaled, check_model, input_size, lookup
from tests.models.test_networks import gradients

# the smallest of common kinds
KINDS = (
    *("resnet18", "mobilenetv3_small_050", "convnext_atto", "efficientnet_lite0"),
    *("vit_tiny_patch16_224", "regnetx_002"),
)
WITH_WEIGHTS = "test_resnet.r160_in1k"


def built(name: str, *, image_size: int = 32, in_channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(
        f"timm:{name}", num_classes=5, in_channels=in_channels, image_size=image_size
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("image_size", [8, 32])
def test_network_learns_from_small_grey_images(name, image_size):
    net = built(name, image_size=image_size, in_channels=1)
    grads = gradients(net, torch.randn(2, 1, image_size, image_size))
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize(
    ("name", "image_size", "seen"),
    [
        ("resnet18", 8, 8),
        ("resnet18", 300, 300),
        ("convnext_atto", 8, 32),
        ("vit_tiny_patch16_224", 8, 32),
        ("vit_tiny_patch16_224", 28, 32),  # patches of 16 would leave 12 pixels out
        ("vit_tiny_patch16_224", 48, 48),
        ("eva02_tiny_patch14_224", 32, 224),
        ("swin_tiny_patch4_window7_224", 8, 8),
        ("inception_v3", 32, 96),
        ("halonet26t", 32, 256),
    ],
)
def test_images_are_enlarged_to_what_the_network_needs(name, image_size, seen):
    assert input_size(f"timm:{name}", image_size) == seen


def test_enlarged_images_are_what_the_network_sees():
    net = built("convnext_atto", image_size=8)
    assert isinstance(net, Upscaled)
    images_BCHW = torch.randn(2, 3, 8, 8)
    enlarged = nn.functional.interpolate(images_BCHW, size=(32, 32), mode="bilinear")
    assert torch.equal(net.eval()(images_BCHW), net.net(enlarged))


def test_initialisation_depends_on_the_seed_alone():
    def weights() -> dict[str, Tensor]:
        return built("vit_tiny_patch16_224").state_dict()

    timm_nets._fit.cache_clear()
    first, again = weights(), weights()  # the second time its size is known
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:resnet_18", "unknown network .*did you mean .*timm:resnet18"),
        ("timm:ResNet18", "did you mean timm:resnet18"),
        ("timm:resnet18.a1_in2k", r"unknown weights .*did you mean timm:resnet18\.a1_in1k"),
        ("timm:qqqqqqqqqqqq", "list_models"),
    ],
)
def test_unknown_name_is_answered_with_timms_nearest(name, words):
    with pytest.raises(UserError, match=words):
        lookup(name, image_size=32)


def test_network_that_is_no_classifier_is_refused(monkeypatch):
    def features(*, pretrained=False, **arguments):
        return nn.Sequential(nn.Conv2d(3, 4, 3))

    monkeypatch.setitem(timm.models._registry._model_entrypoints, "featuresonly", features)
    monkeypatch.setitem(
        timm.models._registry._model_pretrained_cfgs,
        "featuresonly",
        timm.get_pretrained_cfg("test_resnet"),
    )
    with pytest.raises(UserError, match=r"featuresonly.* cannot classify images of 200 pixels"):
        lookup("timm:featuresonly", image_size=200)


@pytest.mark.parametrize("ask", [names.check_name, lambda name: lookup(name, image_size=32)])
def test_without_timm_its_extra_is_named(ask, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'raymd\[timm\]'"):
        ask("timm:resnet18")


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnetv2_50", "convnext_atto", "vgg11", "vgg11_bn", "deit_tiny_patch16_224"),
        *("regnetx_002", "mobilenetv3_small_050", "mixer_s16_224", "pvt_v2_b0", "nfnet_l0"),
        *("edgenext_xx_small", "eva02_tiny_patch14_224", "swin_tiny_patch4_window7_224"),
        *("beit_base_patch16_224", "coatnet_pico_rw_224", "levit_128s", "vit_tiny_patch16_224"),
        *("crossvit_tiny_240", "davit_tiny", "poolformer_s12", "resmlp_12_224", "densenet121"),
    ],
)
def test_known_batchnorm_is_what_the_network_has(name):
    with torch.device("meta"):
        net = timm.create_model(name)
    found = any(isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d) for m in net.modules())
    assert names.has_batchnorm(f"timm:{name}.some_tag") == found


@pytest.fixture
def weights(monkeypatch) -> dict[str, Tensor]:
    """What timm finds instead of a download."""
    torch.manual_seed(7)
    state = timm.create_model("test_resnet").state_dict()
    monkeypatch.setattr(
        timm.models._builder, "load_state_dict_from_hf", lambda *_, **__: dict(state)
    )
    return state


def pretrained(name: str, *, in_channels: int = 3, num_classes: int = 5) -> dict[str, Tensor]:
    return build_model(
        f"timm:{name}",
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=32,
        pretrained=True,
    ).state_dict()


def test_pretrained_network_has_timms_weights_but_for_the_head(weights, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = pretrained(WITH_WEIGHTS)
    assert torch.equal(state["conv1.0.weight"], weights["conv1.0.weight"])
    assert state["fc.weight"].shape == (5, weights["fc.weight"].shape[1])
    assert torch.equal(pretrained(WITH_WEIGHTS, num_classes=1000)["fc.bias"], weights["fc.bias"])


def test_pretrained_network_takes_grey_images(weights, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = pretrained(WITH_WEIGHTS, in_channels=1)
    grey = weights["conv1.0.weight"].sum(1, keepdim=True)
    assert torch.allclose(state["conv1.0.weight"], grey)


def test_failed_download_names_the_host_and_the_remedy(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"huggingface\.co/timm/test_resnet.*--init_from"):
        pretrained(WITH_WEIGHTS)


def test_network_without_weights_is_refused_before_any_download():
    with pytest.raises(UserError, match="no pretrained weights for 'timm:coatnet_pico_rw_224'"):
        check_model(
            "timm:coatnet_pico_rw_224",
            num_classes=5,
            in_channels=3,
            image_size=32,
            pretrained=True,
        )
