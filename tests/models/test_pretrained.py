"""torchvision's weights, fitted to other classes, channels and sizes; no test downloads any."""

import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from raymd.errors import DataError, UserError
from raymd.models import build_model
from raymd.models.pretrained import downloading
from raymd.models.registry import check_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def put(cache: Path, name: str, **arguments: Any) -> nn.Module:
    """Lay untrained weights where torchvision looks for trained ones."""
    torch.manual_seed(9)
    net = models.get_model(name, weights=None, **arguments)
    url = models.get_model_weights(name)["DEFAULT"].url
    torch.save(net.state_dict(), cache / url.rpartition("/")[2])
    return net


def pretrained(
    name: str, *, num_classes: int = 5, in_channels: int = 3, image_size: int = 65
) -> nn.Module:
    torch.manual_seed(0)
    return build_model(
        name,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        pretrained=True,
    )


def test_weights_are_the_given_ones_but_for_a_fresh_head(cache):
    given = put(cache, "resnet18").state_dict()
    state = pretrained("resnet18").state_dict()
    assert all(torch.equal(state[key], given[key]) for key in state if not key.startswith("fc."))
    assert state["fc.weight"].shape == (5, 512)
    torch.manual_seed(0)
    fresh = build_model("resnet18", num_classes=5, in_channels=3, image_size=65)
    assert torch.equal(state["fc.weight"], fresh.state_dict()["fc.weight"])


def test_head_is_kept_for_as_many_classes(cache):
    given = put(cache, "squeezenet1_1").state_dict()
    state = pretrained("squeezenet1_1", num_classes=1000).state_dict()
    assert all(torch.equal(state[key], given[key]) for key in given)


@pytest.mark.parametrize("in_channels", [1, 4])
def test_equal_channels_give_what_grey_rgb_images_gave(cache, in_channels):
    given = put(cache, "mobilenet_v3_small").eval()
    net = pretrained("mobilenet_v3_small", num_classes=1000, in_channels=in_channels).eval()
    grey = torch.randn(2, 1, 65, 65)
    expected = given(grey.expand(-1, 3, -1, -1))
    assert torch.allclose(net(grey.expand(-1, in_channels, -1, -1)), expected, atol=1e-5)


def test_names_of_old_densenet_files_are_understood(cache):
    given = put(cache, "densenet121").state_dict()
    file = next(cache.iterdir())
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for key, value in given.items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.conv.2.weight" in old
    torch.save(old, file)
    state = pretrained("densenet121").state_dict()
    key = "features.denseblock1.denselayer1.conv2.weight"
    assert torch.equal(state[key], given[key])


@pytest.mark.parametrize(("name", "size"), [("googlenet", 65), ("inception_v3", 80)])
def test_inception_has_one_output_and_sees_images_as_trained(cache, name, size):
    given = put(cache, name, aux_logits=True, transform_input=True, init_weights=False).eval()
    net = pretrained(name, num_classes=1000, image_size=size)
    images = torch.randn(2, 3, size, size)
    assert isinstance(net(images), Tensor)
    net.load_state_dict(pretrained(name, num_classes=1000, image_size=size).state_dict())
    with torch.no_grad():
        ours, theirs = net.eval()(images), given(images)
    # googlenet pads after torchvision's shift, so that borders differ a little
    assert float((ours - theirs).abs().max()) < 0.05 * float(theirs.std())


@pytest.mark.slow
def test_position_embeddings_are_interpolated_to_the_images(cache):
    given = put(cache, "vit_b_32").state_dict()
    state = pretrained("vit_b_32", image_size=96).state_dict()
    assert state["encoder.pos_embedding"].shape == (1, 1 + 3 * 3, 768)
    assert torch.equal(state["class_token"], given["class_token"])


def test_small_images_take_weights_of_names_that_are_torchvisions_alone(cache):
    given = put(cache, "squeezenet1_1").state_dict()
    state = pretrained("squeezenet1_1", image_size=32).state_dict()
    assert torch.equal(state["features.0.weight"], given["features.0.weight"])


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "vgg19"])
def test_small_image_network_has_no_pretrained_weights(name):
    with pytest.raises(UserError, match=rf"for '{name}' at 32 pixels; there are some for"):
        pretrained(name, image_size=32)
    with pytest.raises(UserError, match=rf"for '{name}' at 32 pixels"):
        check_model(name, num_classes=5, in_channels=3, image_size=32, pretrained=True)


def test_failed_download_names_host_file_and_remedy(monkeypatch, cache):
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    words = r"'resnet18' from download\.pytorch\.org \(file resnet18-f37072fd\.pth\).*no route"
    with pytest.raises(DataError, match=rf"{words}.*--init_from FILE.*{cache}"):
        pretrained("resnet18")


def test_damaged_file_in_the_cache_is_named(cache):
    (cache / "resnet18-f37072fd.pth").write_bytes(b"half a download")
    with pytest.raises(DataError, match=r"resnet18-f37072fd\.pth"):
        pretrained("resnet18")


def test_workers_of_a_machine_load_one_after_the_other():
    inside, seen = [], []

    def load(worker: int) -> None:
        with downloading("resnet18", host="nowhere"):
            inside.append(worker)
            time.sleep(0.02)
            seen.append(len(inside))
            inside.remove(worker)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(load, range(4)))
    assert seen == [1, 1, 1, 1]
