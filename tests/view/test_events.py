"""Events' keys and the history."""

import pytest

from raymd.errors import DataError
from raymd.view import events
from raymd.view.events import check_event, decode_history, encode_history, merge_history, stamped
from tests.view.examples import ONE_OF_EACH, epoch


def test_there_is_a_constructor_for_every_kind():
    assert [event["event"] for event in ONE_OF_EACH] == list(events.EVENTS)


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: event["event"])
def test_every_event_has_its_keys_and_survives_the_history(event):
    check_event(event)
    assert decode_history(encode_history([event]), name="part") == [event]


def test_event_of_unknown_kind_or_keys_is_refused():
    with pytest.raises(DataError, match="'epok' is none of run_started, started"):
        check_event({"event": "epok"})
    with pytest.raises(DataError, match=r"unknown keys \['id'\], missing \['student'\]"):
        check_event({"event": "finished", "id": "a"})
    with pytest.raises(DataError, match="missing"):
        encode_history([{"event": "finished"}])


def test_stamp_is_the_one_key_more_and_the_first_stamp_stays():
    event = stamped(events.finished(student="a"), now=5.5)
    assert event == {"event": "finished", "student": "a", "time": 5.5}
    assert stamped(event, now=9.0) == event
    check_event(event)


def test_history_has_one_line_an_event():
    assert len(encode_history(ONE_OF_EACH).splitlines()) == len(ONE_OF_EACH)
    assert decode_history(b"", name="part") == []


def test_numbers_that_json_lacks_are_not_written():
    with pytest.raises(ValueError, match="JSON"):
        encode_history([epoch(loss=float("nan"))])


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"event": "other"}', b"\xff"])
def test_damaged_line_is_refused_with_file_and_line(line):
    part = encode_history([epoch()]) + line + b"\n"
    with pytest.raises(DataError, match=r"part-00001\.jsonl, line 2"):
        decode_history(part, name="part-00001.jsonl")


def test_later_part_wins():
    first, second = [epoch(index=0), epoch(index=1)], [epoch(index=1, seconds=9.0)]
    merged = merge_history([first, second])
    assert [(e["epoch"], e["seconds"]) for e in merged] == [(0, 4.0), (1, 9.0)]


def test_merging_is_idempotent_and_keeps_students_apart():
    parts = [[epoch("b", 1), epoch("a", 1)], [epoch("a", 0)], [epoch("b", 1)]]
    merged = merge_history(parts)
    assert [(e["epoch"], e["student"]) for e in merged] == [(0, "a"), (1, "a"), (1, "b")]
    assert merge_history([merged]) == merged
    assert merge_history([*parts, *parts]) == merged


def test_merged_history_holds_epochs_alone():
    assert merge_history([ONE_OF_EACH]) == [epoch()]
