"""Weights to begin with: of another run's student or of a file, where they fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from raymd.errors import StorageAccessError, StorageError, UserError
from raymd.models import build_model
from raymd.models.initial import check_source, load_initial
from raymd.models.names import absolute_source
from raymd.run_folder import model_record, weights_file
from raymd.storage import Storage


def built(
    arch: str = "resnet8", *, seed: int = 0, num_classes: int = 5, image_size: int = 32
) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(arch, num_classes=num_classes, in_channels=3, image_size=image_size)


def same(net: nn.Module, state: dict[str, Tensor], *, but: str = "-") -> bool:
    own = net.state_dict()
    return all(torch.equal(own[key], state[key]) for key in own if not key.startswith(but))


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run of three students; alexnet at 8 pixels is an Upscaled one."""
    storage = Storage.at(tmp_path / "run")
    for number, (student, arch) in enumerate(
        [("resnet8", "resnet8"), ("resnet8-2", "resnet8"), ("alexnet", "alexnet")]
    ):
        net = built(arch, seed=number + 1, image_size=8)
        files = {weights_file(student, "best"): save(net.state_dict())}
        storage.commit(model_record(student), {"arch": arch, "id": student}, files=files)
    return tmp_path / "run"


def test_run_gives_its_first_student_of_the_same_network(run):
    net = built()
    lines = load_initial(net, source=str(run), arch="resnet8")
    assert same(net, built(seed=1).state_dict())
    assert len(lines) == 1
    assert lines[0].startswith(f"resnet8 begins with resnet8 of {run}: ")


def test_student_of_a_run_is_named_after_two_colons(run):
    net = built()
    load_initial(net, source=f"{run}::resnet8-2", arch="resnet8")
    assert same(net, built(seed=2).state_dict())


def test_weights_cross_between_upscaled_and_other_sizes(run, tmp_path):
    net = built("alexnet", image_size=32)
    load_initial(net, source=str(run), arch="alexnet")
    given = built("alexnet", seed=3, image_size=32).state_dict()
    assert same(net, given)
    save_file(given, tmp_path / "w.safetensors")
    upscaled = built("alexnet", image_size=8)
    load_initial(upscaled, source=str(tmp_path / "w.safetensors"), arch="alexnet")
    assert same(upscaled.net, given)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_torch_file_is_read_alone_or_under_a_key_and_unwrapped(tmp_path, suffix, key, prefix):
    given = built(seed=1).state_dict()
    state = {prefix + name: value for name, value in given.items()}
    file = tmp_path / f"weights{suffix}"
    torch.save(state if key is None else {"model": "resnet8", key: state, "epoch": 3}, file)
    net = built()
    load_initial(net, source=str(file), arch="resnet8")
    assert same(net, given)


def test_names_that_the_network_itself_has_keep_their_prefix(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(2, 3)

    given, net = Wrapped().state_dict(), Wrapped()
    save_file(given, tmp_path / "w.safetensors")
    load_initial(net, source=str(tmp_path / "w.safetensors"), arch="wrapped")
    assert same(net, given)


def test_head_of_another_class_count_stays_fresh_and_is_announced(tmp_path, monkeypatch):
    given = built(seed=1, num_classes=7).state_dict()
    save_file(given, tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    net, fresh = built(), built().state_dict()
    lines = load_initial(net, source="w.safetensors", arch="resnet8")
    head = next(key for key in fresh if fresh[key].shape != given[key].shape).rpartition(".")[0]
    assert same(net, given, but=head)
    assert torch.equal(net.state_dict()[f"{head}.weight"], fresh[f"{head}.weight"])
    assert lines[1] == f"resnet8 keeps fresh: {head}.weight [5, 64], [7, 64] there and 1 more"


@pytest.mark.parametrize("arch", ["resnet20", "vgg11"])
def test_weights_of_which_less_than_half_fits_are_refused_and_nothing_loaded(tmp_path, arch):
    save_file(built(arch).state_dict(), tmp_path / "w.safetensors")
    net = built("resnet110", seed=1)
    with pytest.raises(
        UserError, match=r"fits [\d,]+ of the 1,7\d\d,\d{3} parameters of resnet110"
    ):
        load_initial(net, source=str(tmp_path / "w.safetensors"), arch="resnet110")
    assert same(net, built("resnet110", seed=1).state_dict())


def test_pickled_code_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": Bomb()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds no weights that can be read safely"):
        load_initial(built(), source=str(tmp_path / "w.pt"), arch="resnet8")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(UserError, match=rf"{name}' holds no weights"):
        load_initial(built(), source=str(tmp_path / name), arch="resnet8")


def test_file_without_tensors_is_refused_with_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds a dict with keys epoch, lr, not tensors by name"):
        load_initial(built(), source=str(tmp_path / "w.pt"), arch="resnet8")


def test_damaged_weights_of_a_run_are_named(run):
    file = run / weights_file("resnet8", "best")
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(StorageError, match="does not match its checksum"):
        load_initial(built(), source=str(run), arch="resnet8")


def test_source_that_is_there_passes(run, tmp_path):
    torch.save({}, tmp_path / "w.pt")
    check_source(str(run), archs=["resnet8", "alexnet"])
    check_source(f"{run}::alexnet", archs=["resnet8"])
    check_source(str(tmp_path / "w.pt"), archs=["resnet8"])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("w.pt", "no file 'w.pt'"),
        ("nowhere", "nowhere holds no finished student"),
        ("run::alexnat", "unknown student 'alexnat' .*did you mean alexnet"),
        ("run", r"has no student of vgg11, but alexnet \(alexnet\), resnet8 \(resnet8\)"),
    ],
)
def test_source_that_is_not_there_is_answered(run, monkeypatch, source, words):
    monkeypatch.chdir(run.parent)
    with pytest.raises(UserError, match=words):
        check_source(source, archs=["vgg11"])


@pytest.mark.parametrize(
    ("source", "absolute"),
    [
        ("w.pt", "/here/w.pt"),
        ("runs/a::vgg11", "/here/runs/a::vgg11"),
        ("/runs/a", "/runs/a"),
        ("s3://bucket/a?region=x::vgg11", "s3://bucket/a?region=x::vgg11"),
    ],
)
def test_source_is_made_absolute_for_workers(monkeypatch, tmp_path, source, absolute):
    monkeypatch.chdir(tmp_path)
    assert absolute_source(source) == absolute.replace("/here", str(tmp_path))


def test_file_by_uri_is_read(tmp_path):
    save_file(built(seed=1).state_dict(), tmp_path / "w.safetensors")
    net = built()
    load_initial(net, source=f"file://{tmp_path}/w.safetensors", arch="resnet8")
    assert same(net, built(seed=1).state_dict())


def test_store_that_is_away_may_be_asked_again(tmp_path, monkeypatch):
    def away(self, name):
        raise StorageAccessError("it is overloaded: try again later")

    monkeypatch.setattr(Storage, "read", away)
    with pytest.raises(StorageAccessError):
        load_initial(built(), source=str(tmp_path / "w.safetensors"), arch="resnet8")
