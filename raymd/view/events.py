"""Events: small dictionaries with stable keys, from the training loop to everything that shows it.

Enters: what training and execution have to tell. Leaves: the same dictionaries, on the screen
(lines.py, live.py), in files (board.py) and in the history, which is kept as numbered parts of
JSON lines and merged by (student, epoch). The keys are the same everywhere, so a name means one
thing in a log, a plot and the code; event_types.py says what, docs/events.md says it to others.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from raymd.errors import DataError
from raymd.view.event_types import (
    EpochEvent,
    EpochFields,
    FinishedEvent,
    FinishedFields,
    LostEvent,
    LostFields,
    MemoryEvent,
    MemoryFields,
    NoteEvent,
    NoteFields,
    ProgressEvent,
    ProgressFields,
    PublishedEvent,
    PublishedFields,
    RestartedEvent,
    RestartedFields,
    RunFinishedEvent,
    RunFinishedFields,
    RunStartedEvent,
    RunStartedFields,
    SegmentEvent,
    SegmentFields,
    StartedEvent,
    StartedFields,
    StoppedEvent,
    StoppedFields,
    TaughtEvent,
    TaughtFields,
    WaitingEvent,
    WaitingFields,
)


def run_started(**fields: Unpack[RunStartedFields]) -> RunStartedEvent:
    """A ``run_started`` event; the other constructors are alike."""
    return {"event": "run_started", **fields}


def started(**fields: Unpack[StartedFields]) -> StartedEvent:
    return {"event": "started", **fields}


def progress(**fields: Unpack[ProgressFields]) -> ProgressEvent:
    return {"event": "progress", **fields}


def epoch(**fields: Unpack[EpochFields]) -> EpochEvent:
    return {"event": "epoch", **fields}


def published(**fields: Unpack[PublishedFields]) -> PublishedEvent:
    return {"event": "published", **fields}


def waiting(**fields: Unpack[WaitingFields]) -> WaitingEvent:
    return {"event": "waiting", **fields}


def taught(**fields: Unpack[TaughtFields]) -> TaughtEvent:
    return {"event": "taught", **fields}


def restarted(**fields: Unpack[RestartedFields]) -> RestartedEvent:
    return {"event": "restarted", **fields}


def stopped(**fields: Unpack[StoppedFields]) -> StoppedEvent:
    return {"event": "stopped", **fields}


def segment(**fields: Unpack[SegmentFields]) -> SegmentEvent:
    return {"event": "segment", **fields}


def lost(**fields: Unpack[LostFields]) -> LostEvent:
    return {"event": "lost", **fields}


def memory(**fields: Unpack[MemoryFields]) -> MemoryEvent:
    return {"event": "memory", **fields}


def finished(**fields: Unpack[FinishedFields]) -> FinishedEvent:
    return {"event": "finished", **fields}


def note(**fields: Unpack[NoteFields]) -> NoteEvent:
    return {"event": "note", **fields}


def run_finished(**fields: Unpack[RunFinishedFields]) -> RunFinishedEvent:
    return {"event": "run_finished", **fields}


TIME = "time"

EVENTS: Mapping[str, Any] = {
    "run_started": RunStartedEvent,
    "started": StartedEvent,
    "progress": ProgressEvent,
    "epoch": EpochEvent,
    "published": PublishedEvent,
    "waiting": WaitingEvent,
    "taught": TaughtEvent,
    "restarted": RestartedEvent,
    "stopped": StoppedEvent,
    "segment": SegmentEvent,
    "lost": LostEvent,
    "memory": MemoryEvent,
    "finished": FinishedEvent,
    "note": NoteEvent,
    "run_finished": RunFinishedEvent,
}


def check_event(event: Mapping[str, Any]) -> None:
    """Check that an event is one of those above and has their keys, all of them and no other.

    ``time`` may be there or not.

    Raises:
        DataError: It is not; with the keys.
    """
    kind = str(event.get("event"))
    if kind not in EVENTS:
        raise DataError(f"event {kind!r} is none of {', '.join(EVENTS)}")
    known = EVENTS[kind].__required_keys__
    found = event.keys() - {TIME}
    if known != found:
        raise DataError(
            f"event {kind!r}: unknown keys {sorted(found - known)}, missing {sorted(known - found)}"
        )


def stamped(event: Mapping[str, Any], *, now: float) -> dict[str, Any]:
    """The event with ``time``: when the driver took it, or what it was stamped with before.

    Args:
        event: Any event.
        now: Seconds since 1970.
    """
    return {TIME: now, **event}


def encode_history(events: Iterable[Mapping[str, Any]]) -> bytes:
    """A part of the history: one JSON object a line, UTF-8.

    Raises:
        DataError: An event that check_event refuses.
        ValueError: A number that JSON has no text for (nan, infinity).
    """
    lines = []
    for event in events:
        check_event(event)
        lines.append(json.dumps(event, allow_nan=False) + "\n")
    return "".join(lines).encode()


def decode_history(data: bytes, *, name: str) -> list[dict[str, Any]]:
    """The events of a part, in their order; the inverse of encode_history.

    Args:
        data: The part's bytes.
        name: The part's file, for the error.

    Raises:
        DataError: A line that is no event; names file and line.
    """
    events = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            event = json.loads(line)
        except ValueError as error:
            raise DataError(f"{name}, line {number}: not JSON ({error})") from error
        if not isinstance(event, dict) or event.get("event") not in EVENTS:
            raise DataError(f"{name}, line {number}: not an event of raymd: {str(event)[:60]}")
        events.append(event)
    return events


def merge_history(parts: Iterable[Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """All epochs of all parts, one entry for each (student, epoch).

    Parts may overlap, as after a restart, and may come twice: what a later part says of an epoch
    replaces what an earlier one said, and merging a merged history changes nothing.

    Args:
        parts: Events of each part, in the order of their numbers.

    Returns:
        The ``epoch`` events, by epoch and then by student.
    """
    latest = {
        (event["epoch"], event["student"]): dict(event)
        for part in parts
        for event in part
        if event["event"] == "epoch"
    }
    return [latest[key] for key in sorted(latest)]
