"""docs/paper.md: its commands are ones that are taken, its costs the ones that are reckoned."""

import re
import shlex

import pytest

from tests.docs.messages import ROOT
from tuning.study.costs import study_cost
from tuning.study.flags import read_command
from tuning.study.scales import FULL, SMALL, choose_data
from tuning.study.studies import STUDIES, build_study

PAGE = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m tuning\.paper (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_taken(command):
    _, asked = read_command(shlex.split(command, comments=True))
    assert asked.study.points()


def hours(name, scale):
    data = choose_data(scale, STUDIES[name].papers, dataset=None, stands_for=None)
    cost = study_cost(build_study(name, scale, data), seeds=5)
    number = cost.device_s / 3600
    return (
        f"{number:,.0f} ({cost.runs} runs)" if number > 10 else f"{number:,.1f} ({cost.runs} runs)"
    )


@pytest.mark.parametrize("name", STUDIES)
def test_costs_are_those_that_the_command_prints(name):
    assert f"| `{name}` | {hours(name, FULL)} | {hours(name, SMALL)} |" in PAGE


def test_every_study_and_scale_is_on_the_page():
    assert len(COMMANDS) >= 5
    for name in (*STUDIES, "full", "small", "smoke"):
        assert f"| `{name}` |" in PAGE
