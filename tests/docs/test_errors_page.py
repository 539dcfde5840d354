"""docs/errors.md has every message that raymd raises, and no other."""

import ast
import re

import pytest

from raymd.cli import VERBS
from raymd.commands import clean, doctor, evaluate, pack, predict
from raymd.fit import build_parser
from tests.docs.messages import ROOT, Module, all_messages, tidy

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def rows():
    """Message cell, why, and what to do, of each row."""
    found = re.findall(r"^\| (`.+?`+) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert len(found) == len(re.findall(r"^\| `", PAGE, re.MULTILINE))
    return found


def documented():
    spans = [span for cell, _, _ in rows() for span in cell.split("<br>")]
    return [span.strip("`").strip() if "``" in span else span[1:-1] for span in spans]


def test_every_message_of_the_source_is_on_the_page():
    listed = set(documented())
    missing = [f"{m.place} {m.text}" for m in all_messages() if m.text not in listed]
    assert missing == [], "each needs a row in docs/errors.md: why, and what to do"


def test_every_message_of_the_page_is_in_the_source():
    raised = {message.text for message in all_messages()}
    assert [text for text in documented() if text not in raised] == []


def test_no_message_stands_on_the_page_twice():
    listed = documented()
    assert sorted(listed) == sorted(set(listed))


def test_every_row_says_why_and_what_to_do():
    assert [row for row in rows() if len(row[1]) < 10 or len(row[2]) < 6] == []


def test_page_speaks_of_flags_that_exist():
    verbs = (clean, doctor, evaluate, predict, pack)
    parsers = [build_parser(), *(verb.build_parser() for verb in verbs)]
    known = {flag for parser in parsers for flag in parser._option_string_actions}
    assert set(VERBS) == {"fit", "plan", "predict", "evaluate", "doctor", "clean", "pack"}
    # of other programs; "--…" and "--student.…" stand for names
    known |= {"--gres", "--…", "--student"}
    assert set(re.findall(r"(?<![\w-])--(?:[a-z_]+|…)", PAGE)) - known == set()


SOURCE = """
FLAG = "--x"
def refuse(value):
    raise UserError(f"{value!r}: bad {value} ({FLAG})")
def pass_on(error):
    raise DataError(str(error))
def helped(value):
    raise UserError(_text(value))
def _text(value):
    if value:
        return f"one {value}"
    return "two"
def named(value):
    text = f"of {value}{value}"
    raise UserError(text)
"""


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        ("refuse", {"…: bad … (--x)"}),
        ("pass_on", {"…"}),
        ("helped", {"one …", "two"}),
        ("named", {"of …"}),
    ],
)
def test_messages_are_read_from_source(function, texts):
    module = Module(ast.parse(SOURCE))
    (found,) = [
        (call, scope)
        for call, scope in module.calls()
        if scope is not None and scope.name == function and "Error" in getattr(call.func, "id", "")
    ]
    assert module.texts(found[0].args[0], found[1]) == texts


def test_lines_become_one():
    assert tidy(" a\n  b …… c") == "a b … c"
