"""`raymd VERB` as typed: help without torch, one line for a mistake, quiet pipes."""

import os
import signal
import subprocess
import sys
import types

import pytest

from raymd import cli
from raymd.cli import VERBS, main

HEAVY = ("torch", "ray", "pyarrow", "rich", "PIL", "pandas", "sklearn")


def run_python(code, *words):
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *([verb, "--help"] for verb in VERBS),
        ["predict", "latest"],
        ["evaluate", "latest", "--prt", "val"],
        ["clean", "--all"],
        ["fit", "--students", "resnet8", "--t", "0"],
    ],
)
def test_help_and_mistakes_import_nothing_heavy(words):
    code = (
        "import sys; from raymd.cli import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as e: code = e.code\n"
        f"heavy = [m for m in {HEAVY} if m in sys.modules]\n"
        "print('END', code, heavy)"
    )
    done = run_python(code, *words)
    last = done.stdout.splitlines()[-1]
    assert last == f"END {0 if '--help' in words else 2} []", done.stderr


def test_help_lists_every_verb(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in VERBS)


def test_no_words_print_the_help_as_a_mistake(capsys):
    assert main([]) == 2
    assert "usage: raymd VERB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evalute"], ["'evalute'", "did you mean evaluate"]),
        (["--students", "resnet8"], ["--students", "before any verb"]),
        (["predict"], ["required: RUN, IMAGE"]),
        (["predict", "r", "i", "--tp", "3"], ["--tp", "did you mean --top"]),
        (["predict", "r", "i", "--top", "0"], ["--top", "'0'", "at least 1"]),
        (["predict", "r", "i", "--top", "x"], ["--top", "'x'", "at least 1"]),
        (["predict", "r", "i", "--format", "xml"], ["--format", "'xml'", "csv"]),
        (["evaluate", "r", "--part", "tset"], ["--part", "'tset'", "val"]),
        (["evaluate", "r", "--output"], ["--output", "expected one argument"]),
        (["clean", "--all", "--yes"], ["--all", "--run NAME"]),
        (["clean", "a/b"], ["'a/b'", "--storage"]),
        (["plan", "--students", "resnet9"], ["'resnet9'", "--students"]),
    ],
)
def test_a_mistake_gets_one_line_and_2(words, expected, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("raymd: error: ")
    assert err.count("\n") == 1
    for text in expected:
        assert text in err


def test_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("raymd 0")


def test_plan_is_fit_with_the_plan_flag(monkeypatch):
    import raymd.commands.plan

    received = []
    monkeypatch.setattr(raymd.commands.plan, "fit", lambda argv: received.append(argv) or 0)
    assert main(["plan", "--students", "resnet8"]) == 0
    assert received == [["--plan", "--students", "resnet8"]]


def verb_that(monkeypatch, do):
    module = types.ModuleType("tests.commands.some_verb")
    module.main = do
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.VERBS, "some", cli.Verb(module.__name__, "for a test"))


def test_words_after_the_verb_reach_it_and_its_code_comes_back(monkeypatch):
    received = []
    verb_that(monkeypatch, lambda argv: received.append(list(argv)) or 1)
    assert main(["some", "--x", "y"]) == 1
    assert received == [["--x", "y"]]


def test_an_interrupt_ends_with_130(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    verb_that(monkeypatch, interrupted)
    assert main(["some"]) == 130
    assert capsys.readouterr().err == "raymd: interrupted\n"


def test_a_reader_that_has_read_enough_gets_no_traceback():
    code = (
        "import sys, raymd.cli as cli, types\n"
        "m = types.ModuleType('verb'); sys.modules['verb'] = m\n"
        "m.main = lambda argv: [print('line', n) for n in range(100000)] and 0\n"
        "cli.VERBS['some'] = cli.Verb('verb', '')\n"
        "sys.exit(cli.main(['some']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.wait(timeout=60) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""


def test_python_m_raymd_is_the_command():
    command = [sys.executable, "-m", "raymd", "--version"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ}, timeout=60
    )
    assert (done.returncode, done.stdout[:6]) == (0, "raymd ")
