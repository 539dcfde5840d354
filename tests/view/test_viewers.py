"""Several viewers of one run, and events as lines for programs."""

import io
import json
import math

import pytest

from raymd.view import events
from raymd.view.board import Board
from raymd.view.events import check_event
from raymd.view.json_lines import JsonLines
from raymd.view.lines import Lines
from raymd.view.viewers import Viewers
from tests.view.examples import ONE_OF_EACH, about, epoch, printed, recording_console

END = events.finished(student="a")


class Remembering:
    name = "remembering"

    def __init__(self):
        self.seen = []
        self.closed = 0

    def show(self, event):
        self.seen.append(event)

    def close(self):
        self.closed += 1


class Failing(Remembering):
    """Fails at the kinds of event that it was told to, or at the end."""

    name = "failing"

    def __init__(self, *kinds, error=None):
        super().__init__()
        self.kinds = kinds
        self.error = error or OSError("No space left on device")

    def show(self, event):
        super().show(event)
        if event["event"] in self.kinds:
            raise self.error

    def close(self):
        super().close()
        if "close" in self.kinds:
            raise self.error


def test_every_viewer_gets_every_event_with_one_time():
    first, second = Remembering(), Remembering()
    viewers = Viewers([first, second], clock=iter([5.0, 6.0]).__next__)
    viewers.show(END)
    viewers.show({**END, "time": 1.0})
    assert first.seen == second.seen == [{**END, "time": 5.0}, {**END, "time": 1.0}]


def test_failing_viewer_is_dropped_and_told_of_once():
    people, failing = Remembering(), Failing("finished")
    viewers = Viewers([failing, people])
    for _ in range(3):
        viewers.show(END)
    viewers.close()
    assert len(failing.seen) == 1
    assert failing.closed == people.closed == 1
    assert [event["event"] for event in people.seen].count("finished") == 3
    (note,) = [event for event in people.seen if event["event"] == "note"]
    assert "failing failed" in note["text"]
    assert "OSError: No space left on device" in note["text"]
    check_event(note)


def test_viewer_that_fails_at_a_note_about_another_is_dropped_too():
    people = Remembering()
    one, two = Failing("finished"), Failing("note")
    viewers = Viewers([people, one, two])
    viewers.show(END)
    viewers.show(END)
    assert len(one.seen) == 1
    assert [event["event"] for event in two.seen] == ["note"]
    assert [event["event"] for event in people.seen].count("finished") == 2


def test_last_viewer_may_fail_and_nobody_is_left_to_tell():
    viewers = Viewers([Failing("finished", "note", "close")])
    viewers.show(END)
    viewers.show(END)
    viewers.close()


def test_all_are_closed_though_one_cannot_be_and_the_first_hears_of_it():
    people, failing = Remembering(), Failing("close")
    Viewers([people, failing]).close()
    assert people.closed == failing.closed == 1
    assert "failing failed" in people.seen[0]["text"]


def test_interrupt_is_no_failure_of_a_viewer():
    viewers = Viewers([Failing("finished", error=KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        viewers.show(END)


def test_board_without_a_folder_to_write_in_ends_alone(tmp_path):
    (tmp_path / "board").write_text("a file where a folder should be")
    console = recording_console(120)
    lines = Lines(console, about=about(["resnet18"]))
    viewers = Viewers([lines, Board(tmp_path / "board")])
    viewers.show(epoch())
    viewers.show(epoch(index=1))
    told = printed(console)
    assert len(told) == 3
    assert told[1].startswith("tensorboard failed")


def test_json_lines_are_events_and_nothing_else():
    stream = io.StringIO()
    viewers = Viewers([JsonLines(stream)], clock=lambda: 7.5)
    for event in ONE_OF_EACH:
        viewers.show(event)
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert found == [{**event, "time": 7.5} for event in ONE_OF_EACH]


def test_numbers_that_json_lacks_become_null():
    stream = io.StringIO()
    event = epoch(loss=math.nan, kd_loss=-math.inf, epochs=[(math.inf, 1.0)])
    JsonLines(stream).show(event)
    found = json.loads(stream.getvalue())
    assert found["loss"] is found["kd_loss"] is None
    assert found["epochs"] == [[None, 1.0]]
    assert found["task_loss"] == 0.412


def test_each_line_is_written_at_once(tmp_path):
    with (tmp_path / "events.jsonl").open("w") as stream:
        JsonLines(stream).show(END)
        assert json.loads((tmp_path / "events.jsonl").read_text()) == END


def test_failed_viewer_is_told_of_by_the_last_resort_too():
    told = []

    class Broken:
        name = "on_event"

        def show(self, event):
            raise KeyError("student")

        def close(self):
            """Nothing."""

    Viewers([Broken()], last_resort=told.append).show(events.finished(student="a"))
    assert told == [
        "on_event failed and gets no more of this run, which goes on (KeyError: 'student')"
    ]
