"""What a wheel holds, and that it works away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_package_with_its_recipes_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    recipes = {path.name for path in (ROOT / "raymd" / "recipes").glob("*.yaml")}
    assert {f"raymd/recipes/{name}" for name in recipes} <= set(names)
    assert "raymd/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"raymd"}
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "raymd = raymd.cli:main" in zipfile.ZipFile(wheel).read(entry_points).decode()


def test_installed_wheel_finds_its_recipes(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import raymd, raymd.recipes as r; assert 'site' in raymd.__file__, raymd.__file__;"
        "print(*r.known_recipes()); from raymd.cli import main; main(['--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cifar cifar-views digits finetune imagenet mnist\n")
    assert "usage: raymd VERB" in done.stdout
