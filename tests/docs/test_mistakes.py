"""docs/mistakes.md has what raymd answers today to each typed mistake."""

import importlib.util
import re

import pytest

from tests.docs.messages import ROOT

PAGE = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")
LEAST = 30


@pytest.fixture(scope="module")
def maker():
    """docs/make_mistakes.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("make_mistakes", ROOT / "docs/make_mistakes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented():
    """What was typed, and the answer."""
    return dict(re.findall(r"^```\n\$ raymd (.*)\n([^`]*)\n```$", PAGE, re.MULTILINE))


def anywhere(text):
    """The text without what differs between operating systems."""
    return re.sub(r"Errno \d+", "Errno", text)


def test_every_answer_is_one_line_with_code_2_and_stands_on_the_page(maker):
    answers = {}
    with maker.scratch() as folder:
        for line in maker.LINES:
            code, text = maker.answer(line, folder)
            assert (line, code, text.count("\n")) == (line, 2, 1), text
            assert text.startswith("raymd: error: "), line
            answers[line] = anywhere(text.rstrip())
    page = {line: anywhere(text) for line, text in documented().items()}
    assert answers == page, "python docs/make_mistakes.py writes it anew"


def test_nothing_came_as_far_as_ray_but_the_line_that_names_a_cluster(maker):
    reached = [line for line, text in documented().items() if "no Ray cluster" in text]
    assert reached == [f"fit --students resnet8 --address {maker.NOBODY}"]


def test_there_are_many(maker):
    assert len(maker.LINES) == len(set(maker.LINES)) >= LEAST
