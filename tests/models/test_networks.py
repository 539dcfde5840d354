"""Every network of the registry runs, at the sizes it says it does."""

import pytest
import torch
from torch import Tensor, nn

from raymd.models import build_model, names
from raymd.models.registry import ModelEntry, Upscaled, input_size, lookup

BIG = ("resnet101", "resnet110", "resnet152", "resnet164")  # slow, and made as their siblings are
QUICK = tuple(name for name in names.SMALL_IMAGE if name not in BIG)
# the quickest of each kind of torchvision network; the others are tried by `make test-all`
KINDS = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "resnet18"),
    *("shufflenet_v2_x0_5", "squeezenet1_0", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11"),
    *("vgg11_bn", "vit_b_16", "vit_b_32"),
)
# regnets compute on tensors while they are built, which the meta device has not
ON_META = tuple(
    name if name in KINDS else pytest.param(name, marks=pytest.mark.slow)
    for name in names.TORCHVISION
    if not name.startswith("regnet")
)


def built(name: str, *, image_size: int, in_channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(name, num_classes=5, in_channels=in_channels, image_size=image_size)


def gradients(net: nn.Module, images_BCHW: Tensor) -> list[Tensor]:
    logits_BK = net.train()(images_BCHW)
    assert logits_BK.shape == (len(images_BCHW), 5)
    nn.functional.cross_entropy(logits_BK, torch.tensor([0, 1])).backward()
    assert all(p.grad is not None for p in net.parameters())
    return [p.grad for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", QUICK)
def test_small_image_network_learns_at_32_pixels(name):
    grads = gradients(built(name, image_size=32), torch.randn(2, 3, 32, 32))
    assert all(grad.isfinite().all() for grad in grads)
    assert any(grad.abs().sum() > 0 for grad in grads)


@pytest.mark.parametrize("name", QUICK)
def test_small_image_network_learns_from_grey_images_at_its_smallest_size(name):
    size = lookup(name, image_size=32).min_size
    grads = gradients(built(name, image_size=size, in_channels=1), torch.randn(2, 1, size, size))
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("name", BIG)
def test_big_small_image_network_runs(name):
    with torch.device("meta"):
        net = build_model(name, num_classes=5, in_channels=1, image_size=32).train()
        assert net(torch.empty(2, 1, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize("name", ON_META)
@pytest.mark.parametrize("image_size", [8, pytest.param(65, marks=pytest.mark.slow)])
def test_torchvision_network_takes_any_size(name, image_size):
    with torch.device("meta"):
        net = build_model(name, num_classes=5, in_channels=2, image_size=image_size).train()
        assert net(torch.empty(2, 2, image_size, image_size)).shape == (2, 5)


def assert_smallest(entry: ModelEntry, *, size: int, too_small: int) -> None:
    with torch.device("meta"):
        net = entry.build(num_classes=5, in_channels=3, image_size=size).train()
        assert net(torch.empty(2, 3, size, size)).shape == (2, 5)
        if too_small > 0:
            with pytest.raises((RuntimeError, AssertionError)):
                net(torch.empty(2, 3, too_small, too_small))


@pytest.mark.parametrize("name", QUICK)
def test_smallest_size_is_the_smallest_that_works(name):
    entry = lookup(name, image_size=32)
    assert_smallest(entry, size=entry.min_size, too_small=entry.min_size - 1)


@pytest.mark.parametrize("name", ON_META)
def test_torchvision_networks_smallest_size_is_the_smallest_that_works(name):
    # its own definition, small names such as vgg11 included
    entry = lookup(name, image_size=names.SMALL_IMAGE_MAX_PIXELS + 1)
    size = max(entry.min_size, entry.size_multiple)
    rounding = 4 if name == "maxvit_t" else 1  # its stem rounds 221 to 224 pixels up to 56
    assert_smallest(entry, size=size, too_small=size - rounding)


@pytest.mark.parametrize("name", ON_META)
def test_known_batchnorm_is_what_the_large_network_has(name):
    with torch.device("meta"):
        net = build_model(name, num_classes=5, in_channels=3, image_size=224)
    found = any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert names.has_batchnorm(name) == found


def test_regnet_learns_from_small_grey_images():
    net = built("regnet_y_400mf", image_size=8, in_channels=1)
    assert all(grad.isfinite().all() for grad in gradients(net, torch.randn(2, 1, 8, 8)))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "convnext_tiny"])
def test_rebuilt_first_convolution_keeps_the_scale_of_activations(name):
    def first(channels: int) -> nn.Conv2d:
        net = built(name, image_size=224, in_channels=channels)
        return next(m for m in net.modules() if isinstance(m, nn.Conv2d))

    rgb, grey = first(3), first(1)
    assert grey.weight.shape == (rgb.out_channels, 1, *rgb.kernel_size)
    assert (grey.stride, grey.padding) == (rgb.stride, rgb.padding)
    ratio = grey.weight.detach().std() / rgb.weight.detach().std()
    assert float(ratio) == pytest.approx(3**0.5, rel=0.2)


@pytest.mark.parametrize(
    ("name", "image_size", "seen"),
    [
        ("resnet18", 8, 8),
        ("vgg19", 8, 32),
        ("vgg19", 40, 40),
        ("alexnet", 28, 29),
        ("squeezenet1_1", 8, 17),
        ("inception_v3", 32, 75),
        ("vit_b_16", 32, 32),
        ("vit_b_16", 28, 224),
        ("vit_h_14", 28, 28),
        ("vit_b_16", 250, 256),
        ("maxvit_t", 32, 224),
        ("maxvit_t", 300, 448),
    ],
)
def test_input_size_is_the_image_or_what_the_network_needs(name, image_size, seen):
    assert input_size(name, image_size) == seen


def test_too_small_images_are_enlarged_smoothly():
    net = built("alexnet", image_size=8)
    assert isinstance(net, Upscaled)
    images_BCHW = torch.randn(2, 3, 8, 8)
    enlarged = nn.functional.interpolate(images_BCHW, size=(29, 29), mode="bilinear")
    assert torch.equal(net(images_BCHW), net.net(enlarged))


@pytest.mark.parametrize("name", ["resnet8", "densenet100", "alexnet"])
def test_weights_load_into_a_network_of_another_seed(name):
    images_BCHW = torch.randn(2, 3, 16, 16)
    net = built(name, image_size=16)
    gradients(net, images_BCHW)  # moves BatchNorm's statistics
    other = built(name, image_size=16, seed=1).eval()
    assert not torch.equal(other(images_BCHW), net.eval()(images_BCHW))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(images_BCHW), net(images_BCHW))


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "vgg11", "alexnet", "squeezenet1_1"])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_initialisation_depends_on_the_seed_alone(name, in_channels):
    def weights(seed: int) -> dict[str, Tensor]:
        return built(name, image_size=32, in_channels=in_channels, seed=seed).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
