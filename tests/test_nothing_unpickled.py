"""No file is ever unpickled: a pickle runs whatever its maker put into it."""

import ast
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

import raymd
from raymd.errors import DataError, UserError
from raymd.models import build_model
from raymd.models.initial import load_initial

PACKAGE = Path(raymd.__file__).parent
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNPICKLING = {"load", "loads", "Unpickler", "read_pickle", "open"}
# makes arrays and nothing else; tests/data/test_cifar.py holds it to that
RESTRICTED = {"data/cifar.py": ["class _ArraysUnpickler"]}


def unsafe(tree: ast.AST) -> list[str]:
    """What in a module's source may unpickle a file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in PICKLES:
            found += [name.name for name in node.names if name.name in UNPICKLING]
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).rpartition(".") for base in node.bases]
            found += [f"class {node.name}" for owner, _, _ in bases if owner in PICKLES]
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if (
            (owner in PICKLES and name in UNPICKLING)
            or name == "read_pickle"
            or ((owner, name) == ("torch", "load") and options.get("weights_only") != "True")
            or options.get("allow_pickle", "False") != "False"
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_package_unpickles_nothing() -> None:
    modules = sorted(PACKAGE.rglob("*.py"))
    assert len(modules) > 100
    found = {
        module.relative_to(PACKAGE).as_posix(): unsafe(ast.parse(module.read_text("utf-8")))
        for module in modules
    }
    assert {module: calls for module, calls in found.items() if calls} == RESTRICTED


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(f)", "torch.load(f, weights_only=False)", "pickle.loads(b)",
        "pickle.Unpickler(f)", "from pickle import load", "np.load(f, allow_pickle=True)",
        "pd.read_pickle(f)", "joblib.load(f)", "class Reader(pickle.Unpickler): pass",
    ],
)  # fmt: skip
def test_each_way_of_unpickling_is_found(source: str) -> None:
    assert len(unsafe(ast.parse(source))) == 1


@pytest.mark.parametrize(
    "source", ["torch.load(f, weights_only=True)", "np.load(f)", "json.loads(t)", "pickle.dumps(x)"]
)
def test_safe_ways_are_let_through(source: str) -> None:
    assert unsafe(ast.parse(source)) == []


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.file), "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_with_a_pickle_inside_are_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    model, sprung = nn.Linear(2, 2), tmp_path / "sprung"
    file = tmp_path / "weights.pt"
    state = {**model.state_dict(), "extra": Trap(sprung)}
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"holds no weights that can be read safely.*--init_from"):
        load_initial(model, source=str(file), arch="linear")
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung))).close()  # as it would have been
    assert sprung.exists()


def test_downloaded_weights_with_a_pickle_inside_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache, sprung = tmp_path / "hub" / "checkpoints", tmp_path / "sprung"
    cache.mkdir(parents=True)
    file = models.get_model_weights("resnet18")["DEFAULT"].url.rpartition("/")[2]
    torch.save({"fc.weight": Trap(sprung)}, cache / file)
    with pytest.raises(DataError, match=r"no pretrained weights of 'resnet18'.*weights_only"):
        build_model("resnet18", num_classes=5, in_channels=3, image_size=65, pretrained=True)
    assert not sprung.exists()
