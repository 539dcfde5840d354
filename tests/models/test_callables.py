"""Functions of the user's own, named package.module:function."""

import sys

import pytest
import torch
from torch import nn

import raymd
from raymd.errors import UserError
from raymd.models import build_model, names
from raymd.models.registry import check_model
from raymd.run_folder import model_record, weights_file
from raymd.storage import Storage

NETS = """
import torch
from torch import nn

def plain(*, num_classes, in_channels, image_size):
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(), nn.Linear(in_channels * image_size**2, num_classes)
    )

def classes_only(num_classes, width=4):
    return nn.Sequential(nn.LazyConv2d(width, 3), nn.Flatten(), nn.LazyLinear(num_classes))

def anything(**kwargs):
    assert sorted(kwargs) == ["image_size", "in_channels", "num_classes"]
    return plain(**kwargs)

class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_classes, 3)
    def forward(self, images):
        return self.conv(images).mean((2, 3)) + torch.rand(())

class Pair(Net):
    def forward(self, images):
        return super().forward(images), None

class FeatureMaps(Net):
    def forward(self, images):
        return self.conv(images)

def no_classes(in_channels): ...
def needs_more(num_classes, depth): ...
def fixed_channels(num_classes): return nn.Conv2d(5, num_classes, 1)
def no_module(num_classes): return num_classes
def no_parameters(num_classes): return nn.Flatten()
def fails(num_classes): raise KeyError("depth")
constant = 3
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A folder of the user's, which is the current one and not yet on sys.path."""
    (tmp_path / "usersnets.py").write_text(NETS)
    (tmp_path / "broken.py").write_text("import notinstalledhere")
    (tmp_path / "faulty.py").write_text("1 / 0")
    (tmp_path / "userspackage").mkdir()
    (tmp_path / "userspackage" / "nets.py").write_text("from usersnets import plain")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    yield
    for module in ("usersnets", "broken", "faulty", "userspackage", "userspackage.nets"):
        sys.modules.pop(module, None)


def built(name: str, *, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(name, num_classes=4, in_channels=2, image_size=6)


@pytest.mark.parametrize(
    "name",
    [
        "usersnets:plain",
        "usersnets:classes_only",
        "usersnets:anything",
        "usersnets:Net",
        "userspackage.nets:plain",
    ],
)
def test_function_or_class_is_imported_and_given_what_it_takes(name):
    net = built(name)
    assert net.training
    assert net(torch.zeros(3, 2, 6, 6)).shape == (3, 4)


@pytest.mark.parametrize("name", ["usersnets:plain", "usersnets:classes_only", "usersnets:Net"])
def test_initialisation_depends_on_the_seed_alone(name):
    first, again, other = built(name).state_dict(), built(name).state_dict(), built(name, seed=1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], value) for key, value in other.state_dict().items())


def test_trying_a_network_leaves_torchs_generator_alone():
    torch.manual_seed(3)
    check_model("usersnets:Net", num_classes=4, in_channels=2, image_size=6)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(2))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("usersnet:plain", r"no module 'usersnet' .*run in its folder"),
        ("userspackage.net:plain", r"no module 'userspackage\.net'"),
        ("usersnets:plane", "has no 'plane' .*did you mean plain"),
        ("usersnets:constant", "is int, which cannot be called"),
        ("broken:plain", "broken imports 'notinstalledhere', which is not installed"),
        ("faulty:plain", "importing faulty failed: ZeroDivisionError"),
        ("usersnets:no_classes", r"takes \(in_channels\); it is called with num_classes"),
        ("usersnets:needs_more", r"takes \(num_classes, depth\)"),
        ("usersnets:no_module", "gave int, not a torch.nn.Module"),
        ("usersnets:no_parameters", "no parameters"),
        ("usersnets:fails", r"could not be built from \{'num_classes': 4\}: KeyError: 'depth'"),
        ("usersnets:fixed_channels", r"fails on images \[2, 2, 6, 6\]: RuntimeError"),
        ("usersnets:Pair", r"gave tuple of 2 for images .*not logits \[2, 4\]"),
        ("usersnets:FeatureMaps", r"gave a tensor \[2, 4, 4, 4\] for images"),
    ],
)
def test_what_is_no_classifier_of_these_images_is_refused(name, words):
    with pytest.raises(UserError, match=words):
        built(name)
    with pytest.raises(UserError, match=words):
        check_model(name, num_classes=4, in_channels=2, image_size=6)


def test_function_has_no_pretrained_weights():
    with pytest.raises(UserError, match=r"no pretrained weights for 'usersnets:plain'"):
        check_model("usersnets:plain", num_classes=4, in_channels=2, image_size=6, pretrained=True)


def test_recipes_know_functions_as_other_networks():
    assert names.family("usersnets:plain") == "other"
    assert names.has_batchnorm("usersnets:plain")


def finished_run(arch: str, *, image_size: int) -> str:
    """A run's folder with one finished student of untrained weights."""
    from safetensors.torch import save

    torch.manual_seed(0)
    net = build_model(arch, num_classes=4, in_channels=2, image_size=image_size)
    record = {
        **{"id": "one", "arch": arch, "num_classes": 4, "in_channels": 2},
        **{"image_size": image_size, "classes": list("abcd"), "mean": [0, 0], "std": [1, 1]},
    }
    files = {weights_file("one", which): save(net.state_dict()) for which in ("best", "last")}
    storage = Storage.at("run")
    storage.commit(model_record("one"), record, files=files)
    return storage.uri


@pytest.mark.parametrize("arch", ["usersnets:plain", "timm:vit_tiny_patch16_224"])
def test_finished_student_is_loaded_as_it_was(arch):
    run = finished_run(arch, image_size=8)
    torch.manual_seed(0)
    net = build_model(arch, num_classes=4, in_channels=2, image_size=8).eval()
    images = torch.rand(2, 2, 8, 8)
    assert torch.equal(raymd.load_student(run, student="one")(images), net(images))


def test_student_of_a_function_that_is_gone_is_named(tmp_path):
    run = finished_run("usersnets:plain", image_size=6)
    (tmp_path / "usersnets.py").write_text("")
    del sys.modules["usersnets"]
    with pytest.raises(UserError, match="network 'usersnets:plain': module usersnets has no"):
        raymd.load_student(run, student="one")
