"""The picture in the docs, from a recording."""

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from raymd.errors import UserError
from raymd.view.events import encode_history, stamped
from tests.view.examples import epoch, progress, run_started, started

SCRIPT = Path(__file__).parents[2] / "docs" / "make_live_svg.py"
RECORDING = [
    stamped(event, now=1000.0 + 10 * place)
    for place, event in enumerate(
        [run_started(), started(), progress(step=20), epoch(), progress(index=1)]
    )
]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_live_svg", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(svg):
    words = " ".join(element.text or "" for element in ET.fromstring(svg).iter())
    return words.replace("\xa0", " ")


def test_recording_becomes_a_picture_at_the_moment_asked_for(script, tmp_path):
    recording = tmp_path / "events.jsonl"
    recording.write_bytes(encode_history(RECORDING))
    script.main([str(recording), str(tmp_path / "live.svg"), "--at", "0.6"])
    text = text_of((tmp_path / "live.svg").read_text())
    assert "20 s so far" in text
    assert "50 %" in text
    assert "held-out" not in text


def test_all_events_show_the_end(script):
    assert "held-out 95.1 %" in text_of(script.live_svg(RECORDING, at=1.0))


def test_recording_without_its_start_and_wrong_moments_are_refused(script):
    with pytest.raises(UserError, match="run_started"):
        script.live_svg(RECORDING[1:], at=1.0)
    with pytest.raises(UserError, match=r"--at 0\.0"):
        script.live_svg(RECORDING, at=0.0)
