"""docs/events.md says what the events are."""

import json
import re
from pathlib import Path

import pytest

from raymd.view.event_types import SAMPLE_CLASSES, SAMPLE_ROWS
from raymd.view.events import EVENTS, check_event

DOCUMENT = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
# what a table's type says, by the start of the annotation's text
TYPES = {
    "str": "text",
    "int": "int",
    "float | None": "float or null",
    "float": "float",
    "list[str]": "list of text",
    "list[list[float]]": "list of lists of float",
    "dict": "object",
}


def sections():
    parts = re.split(r"^## `(\w+)`$", DOCUMENT, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def rows(section):
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE))


def test_every_event_has_its_section_in_order():
    assert list(sections()) == list(EVENTS)


@pytest.mark.parametrize("kind", EVENTS)
def test_every_key_has_its_row_in_order(kind):
    keys = [key for key in EVENTS[kind].__annotations__ if key != "event"]
    assert list(rows(sections()[kind])) == keys


@pytest.mark.parametrize("kind", EVENTS)
def test_every_type_is_that_of_the_code(kind):
    documented = rows(sections()[kind])
    for key, annotation in EVENTS[kind].__annotations__.items():
        name = getattr(annotation, "__name__", str(annotation))
        text = str(annotation) if "[" in str(annotation) or "|" in str(annotation) else name
        expected = next((doc for start, doc in TYPES.items() if text.startswith(start)), None)
        if expected is not None:
            assert documented[key] == expected, key


def test_example_is_an_event_with_its_time():
    (example,) = re.findall(r"```json\n(.+?)\n```", DOCUMENT)
    event = json.loads(example)
    check_event(event)
    assert "time" in event


def test_sizes_of_samples_are_those_of_the_code():
    assert f"at most {SAMPLE_ROWS} rows of at most {SAMPLE_CLASSES} classes" in DOCUMENT
