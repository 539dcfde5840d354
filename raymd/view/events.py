"""Events: small dictionaries with stable keys, from the training loop to everything that shows it.

Enters: what training and execution have to tell. Leaves: the same dictionaries, on the screen
(lines.py) and in the history, which is kept as numbered parts of JSON lines and merged by
(student, epoch). The keys are the same everywhere, so a name means one thing in a log, a plot and
the code.

Epochs, steps, cycles and r count from 0, as in the run directory; people are shown counts from 1.
Accuracies are parts of 1, times are seconds, losses are means over the epoch's samples in nats.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict, Unpack

from raymd.errors import DataError


class EpochFields(TypedDict):
    """One epoch of one student has ended.

    Attributes:
        student: Its id.
        epoch: Index of the epoch.
        epochs: The run's budget: the last epoch is ``epochs - 1``.
        cycle: The epoch's cycle.
        phase: Whether there was a teacher.
        r: The epoch's place within its phase.
        lr: Learning rate of the epoch.
        alpha, beta: Weights of ``task_loss`` and ``kd_loss`` (Eq. 11); 1 and 0 without a teacher.
        task_loss: Cross entropy with the labels, on augmented images.
        kd_loss: KL from the teacher, scaled as ``kl_scale`` says; None without a teacher.
        loss: What was minimised (Eq. 9).
        train_accuracy: Running accuracy on the augmented images.
        val_accuracy: On the held-out images at the epoch's end; None without any.
        images_per_s: Training throughput, over all workers of the student.
        seconds: Spent training; not evaluating, publishing or waiting.
    """

    student: str
    epoch: int
    epochs: int
    cycle: int
    phase: Literal["independent", "distillation"]
    r: int
    lr: float
    alpha: float
    beta: float
    task_loss: float
    kd_loss: float | None
    loss: float
    train_accuracy: float
    val_accuracy: float | None
    images_per_s: float
    seconds: float


class StartedFields(TypedDict):
    """A student began or went on; ``epoch`` and ``step`` come next.

    Attributes:
        parameters: Of its network.
        device: Such as ``cpu`` or ``cuda:0``.
        threads: Of torch, in each of its workers.
    """

    student: str
    epoch: int
    step: int
    parameters: int
    device: str
    threads: int


class PublishedFields(TypedDict):
    """A student's soft labels of a cycle are committed.

    Attributes:
        accuracy: v_i, which weighs it in the teacher (Eq. 8).
        bytes: Written this time; 0 if all blocks were there already.
        seconds: Spent computing and committing.
    """

    student: str
    cycle: int
    accuracy: float
    bytes: int
    seconds: float


class WaitingFields(TypedDict):
    """A student waits for a cycle's teacher; sent again and again while it does.

    Attributes:
        missing: Students that have not published all yet; empty while the teacher is merged.
        seconds: Waited so far.
    """

    student: str
    cycle: int
    missing: list[str]
    seconds: float


class TaughtFields(TypedDict):
    """A student has its teacher of a cycle.

    Attributes:
        teacher: The teacher's id.
        weights: a_i of each student in it (Eq. 8); they sum to 1.
        waited_s: From asking for it to having it.
    """

    student: str
    cycle: int
    teacher: str
    weights: dict[str, float]
    waited_s: float


class RestartedFields(TypedDict):
    """A student lost its workers and begins again at what it last committed.

    Attributes:
        epoch, step: Where it goes on.
        attempt: 1 for the first restart.
        reason: What ended the attempt before, in one line.
    """

    student: str
    epoch: int
    step: int
    attempt: int
    reason: str


class StoppedFields(TypedDict):
    """A student was told to stop and has committed; ``epoch`` and ``step`` come next."""

    student: str
    epoch: int
    step: int


class FinishedFields(TypedDict):
    """A student's final files are committed."""

    student: str


class EpochEvent(EpochFields):
    event: Literal["epoch"]


class StartedEvent(StartedFields):
    event: Literal["started"]


class PublishedEvent(PublishedFields):
    event: Literal["published"]


class WaitingEvent(WaitingFields):
    event: Literal["waiting"]


class TaughtEvent(TaughtFields):
    event: Literal["taught"]


class RestartedEvent(RestartedFields):
    event: Literal["restarted"]


class StoppedEvent(StoppedFields):
    event: Literal["stopped"]


class FinishedEvent(FinishedFields):
    event: Literal["finished"]


def epoch(**fields: Unpack[EpochFields]) -> EpochEvent:
    """An ``epoch`` event; the other constructors are alike."""
    return {"event": "epoch", **fields}


def started(**fields: Unpack[StartedFields]) -> StartedEvent:
    return {"event": "started", **fields}


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


def finished(**fields: Unpack[FinishedFields]) -> FinishedEvent:
    return {"event": "finished", **fields}


EVENTS: Mapping[str, Any] = {
    "epoch": EpochEvent,
    "started": StartedEvent,
    "published": PublishedEvent,
    "waiting": WaitingEvent,
    "taught": TaughtEvent,
    "restarted": RestartedEvent,
    "stopped": StoppedEvent,
    "finished": FinishedEvent,
}


def check_event(event: Mapping[str, Any]) -> None:
    """Check that an event is one of those above and has their keys, all of them and no other.

    Raises:
        DataError: It is not; with the keys.
    """
    kind = str(event.get("event"))
    if kind not in EVENTS:
        raise DataError(f"event {kind!r} is none of {', '.join(EVENTS)}")
    known = EVENTS[kind].__required_keys__
    if known != event.keys():
        raise DataError(
            f"event {kind!r}: unknown keys {sorted(event.keys() - known)}, missing"
            f" {sorted(known - event.keys())}"
        )


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
