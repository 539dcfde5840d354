"""What of an event is measured over epochs or cycles: the names that TensorBoard and W&B show.

Enters: events. Leaves: numbers and pictures by tag, and the place on their axis. Tags are
``group/name``, so that every student's curve of a name lies in one plot.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from raymd.view.heat_map import heat_map

EPOCH_TAGS: Mapping[str, str] = {
    "loss/total": "loss",
    "loss/task": "task_loss",
    "loss/kd": "kd_loss",
    "accuracy/training": "train_accuracy",
    "accuracy/held_out": "val_accuracy",
    "schedule/lr": "lr",
    "schedule/alpha": "alpha",
    "schedule/beta": "beta",
    "speed/images_per_s": "images_per_s",
    "speed/epoch_s": "seconds",
}
PUBLISHED_TAGS: Mapping[str, str] = {
    "exchange/v": "accuracy",
    "exchange/published_bytes": "bytes",
    "exchange/publishing_s": "seconds",
}
CYCLE_GROUPS = ("exchange/", "weights/", "soft_labels/")


def axis_of(event: Mapping[str, Any]) -> tuple[str, int] | None:
    """``("epoch", 4)`` or ``("cycle", 1)``, counted from 0; None for what is not measured."""
    kind = event["event"]
    if kind == "epoch":
        return "epoch", event["epoch"]
    return ("cycle", event["cycle"]) if kind in ("published", "taught") else None


def scalars_of(event: Mapping[str, Any]) -> dict[str, float]:
    """The event's numbers by tag; those that are None are left out."""
    match event["event"]:
        case "epoch":
            found = {tag: event[key] for tag, key in EPOCH_TAGS.items()}
        case "published":
            found = {tag: event[key] for tag, key in PUBLISHED_TAGS.items()}
        case "taught":
            weights = {f"weights/{student}": a for student, a in event["weights"].items()}
            found = {"exchange/waited_s": event["waited_s"], **weights}
        case _:
            found = {}
    return {tag: float(value) for tag, value in found.items() if value is not None}


def pictures_of(event: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The event's soft labels by tag, as uint8 [height, width, 3]."""
    tags = {"published": "soft_labels/student", "taught": "soft_labels/teacher"}
    sample = event.get("sample")
    return {tags[event["event"]]: heat_map(sample)} if sample else {}


def final_scores(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Final accuracies by tag, of each student and of ``ensemble``, from result.json's content."""
    students = {student["id"]: _scores(student) for student in result["students"]}
    return {**students, "ensemble": _scores(result["ensemble"])}


def _scores(entry: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for which in ("last", "best"):
        for tag, key in (("test", "test"), ("held_out", "val")):
            score = entry[which] and entry[which][key]
            if score:
                found[f"final/{tag}_{which}"] = score["correct"] / score["total"]
    return found


def flat(settings: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: ``{"students.0.lr": 0.1}``."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, list | tuple):
            value = {str(place): item for place, item in enumerate(value)}
        if isinstance(value, Mapping):
            found |= flat(value, prefix=f"{name}.")
        else:
            found[name] = value
    return found
