"""The networks are the ones the paper's baselines were trained with: counts decide."""

import pytest
import torch

from raymd.models import build_model, parameter_count

SMALL = {
    "alexnet": (2_472_266, 2_495_396),
    "vgg19": (20_040_522, 20_086_692),
    "resnet110": (1_730_714, 1_736_564),
    "resnet164": (1_704_154, 1_727_284),
    "densenet100": (769_162, 800_032),
    "resnet20": (272_474, 278_324),
    "resnet32": (466_906, 472_756),
    "resnet56": (855_770, 861_620),
    "resnet18": (11_173_962, 11_220_132),
    "resnet34": (21_282_122, 21_328_292),
    "resnet50": (23_520_842, 23_705_252),
    "vgg16": (14_728_266, 14_774_436),
}

LARGE = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "alexnet": 61_100_840,
    "vgg19": 143_667_240,
    "densenet121": 7_978_856,
    "vit_b_16": 86_567_656,
}


def count(name: str, *, num_classes: int, image_size: int) -> int:
    with torch.device("meta"):  # counting needs no memory
        net = build_model(name, num_classes=num_classes, in_channels=3, image_size=image_size)
    return parameter_count(net)


@pytest.mark.parametrize("name", SMALL)
def test_small_image_counts_are_the_published_ones(name):
    assert count(name, num_classes=10, image_size=32) == SMALL[name][0]
    assert count(name, num_classes=100, image_size=32) == SMALL[name][1]


@pytest.mark.parametrize("name", LARGE)
def test_imagenet_counts_are_torchvisions(name):
    assert count(name, num_classes=1000, image_size=224) == LARGE[name]


def test_small_definitions_hold_up_to_64_pixels_and_no_further():
    small = SMALL["resnet18"][0]
    assert count("resnet18", num_classes=10, image_size=64) == small
    assert count("resnet18", num_classes=10, image_size=65) == small + 3 * 64 * (49 - 9)


def test_frozen_parameters_are_not_counted():
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert parameter_count(layer) == 6
