"""`python -m tuning.search` as typed: what is refused, in one line, before anything starts."""

import subprocess
import sys

import pytest

from raymd.errors import UserError
from raymd.storage import Storage
from tuning.hpo.decide import choose_algorithm, choose_budget, choose_milestones, read_checked_space
from tuning.hpo.flags import read_flags
from tuning.search import main

SPACE = """
search: {t: [2, 4]}
fixed: {students: resnet8, dataset: digits, subset: 120, epochs: 6, tin: 1, td: 1}
"""
RANGES = "search: {lr: {uniform: [0.1, 0.2]}}\nfixed: {students: resnet8, epochs: 2}\n"


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """The exit code and the one line of standard error that words lead to."""
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "ranges.yaml").write_text(RANGES)
    monkeypatch.chdir(tmp_path)

    def run(words):
        code = main(words.split())
        return code, capsys.readouterr().err

    return run


MISTAKES = [
    ("", ["no space", "--space FILE"]),
    ("--space nowhere.yaml", ["nowhere.yaml", "No such file"]),
    ("--space space.yaml --sample 3", ["--sample:", "--samples"]),
    ("--space space.yaml --samples 0", ["'0'", "at least 1", "--samples"]),
    ("--space space.yaml --seeds many", ["'many'", "whole number", "--seeds"]),
    ("--space space.yaml --epoch 3", ["--epoch:", "--epochs"]),
    ("--space space.yaml --epochs 0", ["'0'", "at least 1", "--epochs"]),
    ("--space space.yaml --t 3", ["'t'", "searched and fixed"]),
    ("--space space.yaml --dataset digit", ["'digit'", "digits"]),
    ("--space space.yaml --algorithm optun", ["'optun'", "optuna"]),
    ("--space space.yaml --scheduler hyperband", ["'hyperband'", "asha"]),
    ("--space space.yaml --objective best", ["'best'", "best_of"]),
    ("--space space.yaml --algorithm grid --samples 3", ["all its 2 points", "--samples"]),
    ("--space space.yaml --algorithm random", ["how many points", "--samples N"]),
    ("--space ranges.yaml", ["how many points", "--samples N"]),
    ("--space ranges.yaml --algorithm grid", ["lr of the space has a range"]),
    ("--space space.yaml --plan", ["--plan", "raymd fit"]),
    ("--space space.yaml --view live", ["--view"]),
    ("--space space.yaml --resume auto", ["which search", "--name"]),
    ("--resume yes", ["'yes'", "false, true, auto", "--resume"]),
    ("--resume --space space.yaml", ["leave out --space"]),
    ("--resume --t 4", ["leave out --t"]),
    ("--resume", ["no search in", "--storage"]),
    ("--resume --name lost", ["no search 'lost'", "--name"]),
    ("--space space.yaml --val_fraction 0", ["held-out images", "--val_fraction 0.1"]),
    ("--space space.yaml --scheduler asha --epochs 2", ["takes 2 of 2 epochs", "--scheduler none"]),
    ("--space space.yaml --scheduler asha --objective ensemble", ["end of a run", "mean_last"]),
]


@pytest.mark.parametrize(("words", "told"), MISTAKES)
def test_a_mistake_is_told_in_one_line(typed, words, told):
    code, error = typed(words)
    assert code == 2
    assert error.startswith("search: error: ")
    assert error.count("\n") == 1
    for text in told:
        assert text in error


def test_a_name_that_is_taken_is_refused(typed, tmp_path):
    Storage.at(tmp_path / "runs").write("mine/notes", b"")
    code, error = typed("--space space.yaml --name mine")
    assert code == 2
    assert "folder 'mine' exists" in error


def test_optuna_that_is_missing_is_named_with_its_command(typed, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, error = typed("--space space.yaml --algorithm optuna --samples 2")
    assert code == 2
    assert "pip install 'optuna>=4'" in error


def test_flags_go_over_what_the_space_fixes(typed):
    words = "--space space.yaml --td 2 --student.resnet8.lr 0.3 --seeds 3 --storage elsewhere"
    asked = read_flags(words.split())
    space, configs = read_checked_space(asked)
    assert (configs[0].td, configs[0].epochs, configs[0].options_of("resnet8")["lr"]) == (2, 6, 0.3)
    assert (asked.seeds, asked.storage) == (3, "elsewhere")
    assert "storage" not in space.fixed


def test_the_algorithm_follows_from_the_space(typed):
    asked = read_flags(["--space", "space.yaml"])
    assert choose_algorithm(asked, read_checked_space(asked)[0]) == ("grid", 2)
    asked = read_flags(["--space", "ranges.yaml", "--samples", "5"])
    assert choose_algorithm(asked, read_checked_space(asked)[0]) == ("random", 5)


def test_points_of_different_budgets_are_refused_even_if_a_recipe_says_so(typed, tmp_path):
    (tmp_path / "recipes.yaml").write_text(
        "search: {recipe: [digits, mnist]}\nfixed: {students: resnet8, dataset: digits}\n"
    )
    asked = read_flags(["--space", "recipes.yaml"])
    with pytest.raises(UserError, match="points have budgets of"):
        choose_budget(read_checked_space(asked)[1], asked, lambda line: None)


def test_halving_gives_every_point_its_first_cycle(typed):
    asked = read_flags(["--space", "space.yaml", "--scheduler", "asha", "--tin", "2"])
    budget = choose_budget(read_checked_space(asked)[1], asked, lambda line: None)
    assert (budget.epochs, budget.grace, budget.num_workers) == (6, 3, 1)
    assert choose_milestones(asked, budget) == (3,)


def test_help_lists_the_searchs_flags_and_the_runs(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for flag in ("--space", "--samples", "--seeds", "--dataset", "--lr"):
        assert flag in text


def test_a_mistake_is_answered_without_importing_ray_or_torch(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE.replace("t:", "tt:"))
    code = (
        "import sys; from tuning.search import main; "
        f"code = main(['--space', {str(tmp_path / 'space.yaml')!r}]); "
        "print(code, 'ray' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False", "False"]
