"""What README.md and docs/*.md tell to type is read, and run where nothing speaks against it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raymd.cli import VERBS
from raymd.commands import clean, doctor, evaluate, pack, predict
from raymd.config import FitConfig
from raymd.fit import ACTIONS, read_settings
from tests.docs.messages import ROOT
from tests.docs.pages import PAGES, blocks, is_run, raymd_words, write_files

PARSERS = {
    "predict": predict,
    "evaluate": evaluate,
    "clean": clean,
    "doctor": doctor,
    "pack": pack,
}
# pages whose Python is run; that of the others shows parts of programs
PYTHON_PAGES = ("docs/start.md", "docs/own.md", "docs/choosing.md")
STUDY = "students: resnet8,resnet20\n"
RUN_S = 600


def commands(page):
    return [c for block in blocks(page) if block.kind == "bash" for c in block.commands()]


def to_run(page):
    """Scripts of the page in order: kind and text."""
    for block in blocks(page):
        if not block.runs or block.file is not None:
            continue
        if block.kind == "python" and page in PYTHON_PAGES:
            yield "python", block.text
        elif block.kind == "bash":
            yield from (("bash", command) for command in block.commands() if is_run(command))


RUN_PAGES = [page for page in PAGES if any(kind == "bash" for kind, _ in to_run(page))]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A scratch folder with two classes of small images in photos/, and a study.yaml."""
    generator = np.random.default_rng(0)
    for name, level in (("cat", 60), ("dog", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = generator.normal(level, 30, (40, 52, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_raymd_is_one_that_it_takes(page, folder):
    write_files(page, folder)
    for command in commands(page):
        for verb, *rest in raymd_words(command):
            check_words(verb, rest)


def check_words(verb, words):
    assert verb in VERBS
    if verb in PARSERS:
        PARSERS[verb].build_parser().read(words)
        return
    settings = read_settings(words)
    for action in ACTIONS:
        settings.pop(action, None)
    if "resume" in settings:  # it takes its students from the run
        settings.setdefault("students", "resnet8")
    FitConfig.from_mapping(settings)


def test_commands_of_raymd_are_found_wherever_they_stand_in_a_line():
    line = "cd a && python -m raymd.fit --x 1 | tee log; srun raymd plan --y 2  # raymd fit"
    assert raymd_words(line) == [["fit", "--x", "1"], ["plan", "--y", "2"]]
    assert raymd_words("git clone raymd") == []


@pytest.mark.parametrize("page", PAGES)
def test_python_of_pages_compiles(page):
    for block in blocks(page):
        if block.kind == "python":
            compile(block.text, page, "exec")


def test_these_pages_have_something_to_run():
    assert {"docs/start.md", "docs/own.md", "docs/choosing.md"} <= set(RUN_PAGES)


def test_table_of_flags_is_complete_and_in_the_order_of_help():
    page = (ROOT / "docs/choosing.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `--(\w+)` \|", page.partition("## All flags")[2], re.MULTILINE)
    assert len(table) == len(set(table))
    assert set(table) == {*FitConfig.__dataclass_fields__, *ACTIONS, "config"}


@pytest.mark.parametrize("page", PAGES)
def test_links_to_other_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(RUN_S)
@pytest.mark.parametrize("page", RUN_PAGES)
def test_commands_and_python_of_a_page_run_in_order(page, folder):
    write_files(page, folder)
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    for kind, text in to_run(page):
        words = [sys.executable, "-c", text] if kind == "python" else ["bash", "-c", text]
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
