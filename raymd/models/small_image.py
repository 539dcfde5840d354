"""The paper's networks for small images, made for 32x32 and good up to 64 pixels.

Enters: the number of classes and channels, from registry.build_model. Leaves: the network, for
images ``[B, C, H, W]`` (B batch, C channels, H and W pixels) -> logits ``[B, K]`` (K classes).
They are the usual CIFAR definitions; their parameter counts, which tests hold, are those of the
recipe that the paper's baselines come from. torchvision is imported by who builds a network; see
torchvision_nets.py.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from raymd.models.registry import register_model

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck

CIFAR_WIDTHS = (16, 32, 64)
POOL = -1

# output channels of each 3x3 convolution; torchvision's configurations A, B, D, E
VGG_LAYERS = {
    11: (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    13: (64, 64, POOL, 128, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    16: (64, 64, POOL, 128, 128, POOL, *[256] * 3, POOL, *[512] * 3, POOL, *[512] * 3, POOL),
    19: (64, 64, POOL, 128, 128, POOL, *[256] * 4, POOL, *[512] * 4, POOL, *[512] * 4, POOL),
}


def _kaiming_init(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class CifarResNet(nn.Module):
    """Three stages of residual blocks, 16-32-64 channels wide, at full, half and quarter side.

    Where a block changes shape, its shortcut is a 1x1 convolution with BatchNorm.
    """

    def __init__(
        self,
        block: "type[BasicBlock] | type[Bottleneck]",
        *,
        blocks_per_stage: int,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        width = CIFAR_WIDTHS[0]
        self.stem = nn.Sequential(
            _conv3x3(in_channels, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        stages = []
        for i, planes in enumerate(CIFAR_WIDTHS):
            stride = 1 if i == 0 else 2
            stages.append(_stage(block, width, planes, count=blocks_per_stage, stride=stride))
            width = planes * block.expansion
        self.stages = nn.Sequential(*stages)
        self.classifier = _pooled_linear(width, num_classes)
        _kaiming_init(self)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits ``[B, K]``."""
        logits_BK: Tensor = self.classifier(self.stages(self.stem(images_BCHW)))
        return logits_BK


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)


def _pooled_linear(in_channels: int, num_classes: int) -> nn.Sequential:
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(pool, nn.Flatten(), nn.Linear(in_channels, num_classes))


def _stage(
    block: "type[BasicBlock] | type[Bottleneck]",
    in_channels: int,
    planes: int,
    *,
    count: int,
    stride: int,
) -> nn.Sequential:
    out_channels = planes * block.expansion
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
        shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))
    first = block(in_channels, planes, stride, shortcut)
    return nn.Sequential(first, *(block(out_channels, planes) for _ in range(count - 1)))


def _register_cifar_resnet(depth: int) -> None:
    @register_model(f"resnet{depth}", family="resnet")
    def build(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        """BasicBlock, depth 6n+2 for n blocks a stage."""
        from torchvision.models.resnet import BasicBlock

        del image_size
        return CifarResNet(
            BasicBlock,
            blocks_per_stage=(depth - 2) // 6,
            num_classes=num_classes,
            in_channels=in_channels,
        )


@register_model("resnet164", family="resnet")
def resnet164(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Bottleneck, 18 a stage: what some published 'ResNet-110' numbers really used."""
    from torchvision.models.resnet import Bottleneck

    del image_size
    return CifarResNet(
        Bottleneck, blocks_per_stage=18, num_classes=num_classes, in_channels=in_channels
    )


def _register_resnet(depth: int) -> None:
    @register_model(f"resnet{depth}", family="resnet", small_image_only=True)
    def build(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        """torchvision's, with a 3x3 stem of stride 1 and no max-pool."""
        from torchvision.models import get_model

        del image_size
        net: nn.Module = get_model(f"resnet{depth}", weights=None, num_classes=num_classes)
        net.conv1 = _conv3x3(in_channels, 64)
        _kaiming_init(net.conv1)
        net.maxpool = nn.Identity()
        return net


def _vgg_features(layers: Sequence[int], *, in_channels: int) -> nn.Sequential:
    features: list[nn.Module] = []
    for layer in layers:
        if layer == POOL:
            features.append(nn.MaxPool2d(2))
        else:
            conv = nn.Conv2d(in_channels, layer, kernel_size=3, padding=1)
            features += [conv, nn.BatchNorm2d(layer), nn.ReLU(inplace=True)]
            in_channels = layer
    return nn.Sequential(*features)


def _register_vgg(depth: int) -> None:
    @register_model(f"vgg{depth}", family="vgg", min_size=32, small_image_only=True)
    def build(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        """With BatchNorm, and one linear layer in place of three."""
        del image_size
        net = nn.Sequential(
            _vgg_features(VGG_LAYERS[depth], in_channels=in_channels),
            _pooled_linear(512, num_classes),
        )
        _kaiming_init(net)
        return net


@register_model("alexnet", family="alexnet", min_size=29, small_image_only=True, batchnorm=False)
def alexnet(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Five convolutions and one linear layer; no BatchNorm, no dropout, default initialisation."""
    del image_size
    return nn.Sequential(
        nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 192, kernel_size=5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        _pooled_linear(256, num_classes),
    )


@register_model("densenet100", family="densenet", min_size=4)
def densenet100(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """DenseNet-BC, k = 12: 16 bottlenecks in each of 3 blocks, compression 0.5, 3x3 stem."""
    from torchvision.models.densenet import DenseNet

    del image_size
    net: nn.Module = DenseNet(
        growth_rate=12, block_config=(16, 16, 16), num_init_features=24, num_classes=num_classes
    )
    features = net.get_submodule("features")
    features.conv0 = _conv3x3(in_channels, 24)
    _kaiming_init(features.conv0)
    # torchvision's stem goes on with BatchNorm, ReLU and max-pool, which the CIFAR net has not
    for name in ("norm0", "relu0", "pool0"):
        delattr(features, name)
    return net


for _depth in (8, 14, 20, 32, 44, 56, 110):
    _register_cifar_resnet(_depth)
for _depth in (18, 34, 50, 101, 152):
    _register_resnet(_depth)
for _depth in VGG_LAYERS:
    _register_vgg(_depth)
