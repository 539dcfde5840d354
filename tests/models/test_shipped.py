"""Networks that a script registered reach processes that never ran the script."""

import pickle
import subprocess
import sys
import types

import pytest
from ray import cloudpickle
from torch import nn

from raymd.models import build_model, names, register_model, registry
from raymd.models.shipped import adopt_models, shipped_models

SCRIPT = """
from torch import nn
WIDTH = 3
def tiny(*, num_classes, in_channels, image_size):
    head = nn.Linear(WIDTH * image_size**2, num_classes)
    return nn.Sequential(nn.Conv2d(in_channels, WIDTH, 1), nn.Flatten(), head)
"""
WORKER = """
import pickle, sys, torch
from raymd.models import build_model, names
from raymd.models.shipped import adopt_models
models = pickle.load(sys.stdin.buffer)
for _ in range(2):  # as many attempts of a student in one process
    adopt_models(models)
net = build_model("scripts", num_classes=4, in_channels=2, image_size=6)
assert net(torch.zeros(1, 2, 6, 6)).shape == (1, 4)
print(names.family("scripts"), names.has_batchnorm("scripts"), net.size)
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(names, "_FACTS", dict(names._FACTS))


def of_a_script() -> types.FunctionType:
    """A function that cannot be imported, as those of __main__ cannot."""
    scope = {"__name__": "__main__"}
    exec(SCRIPT, scope)
    return scope["tiny"]


def test_function_of_a_script_builds_in_another_process():
    register_model("scripts", family="vgg", batchnorm=False, min_size=8)(of_a_script())
    data = cloudpickle.dumps(shipped_models(["scripts", "resnet8"]))
    done = subprocess.run(
        [sys.executable, "-c", WORKER], input=data, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().split() == ["vgg", "False", "8"]


def test_adopted_network_replaces_what_had_its_name():
    register_model("scripts")(of_a_script())
    sent = cloudpickle.dumps(shipped_models(["scripts"]))

    registry._REGISTRY.pop("scripts")
    register_model("scripts")(lambda **_: nn.Flatten())
    adopt_models(pickle.loads(sent))
    assert build_model("scripts", num_classes=4, in_channels=2, image_size=6)[2].out_features == 4


def test_only_registered_networks_are_sent_and_each_once():
    register_model("scripts")(of_a_script())
    registry.lookup("resnet8", image_size=32)  # raymd's own are registered too
    asked = ["resnet8", "scripts", "convnext_tiny", "timm:resnet18", "json:loads", "scripts"]
    assert [model.entry.name for model in shipped_models(asked)] == ["scripts"]
