"""What the workers of every slot are given, and where they look first."""

from dataclasses import dataclass
from typing import Any

from raymd.config import CheckpointEvery
from raymd.distillation.schedule import Position
from raymd.models.shipped import ShippedModel
from raymd.run_folder import student_folder
from raymd.settings import Settings
from raymd.storage import Storage
from raymd.student_options import members_of
from raymd.training.checkpoint import committed_positions


@dataclass(frozen=True)
class Work:
    """What the workers of every slot are given.

    Attributes:
        settings, run: See StudentTask.
        storage: The run's folder.
        data: A list with the reference of the run's Shipment.
        threads: Torch's threads; part of what makes weights repeatable.
        device: ``cpu``, ``cuda`` or ``mps``.
        checkpoint_every: When to commit beside the ends of phases.
        models: Networks that the user registered.
        aggregator, monitor: The run's actors.
    """

    settings: Settings
    run: str
    storage: Storage
    data: list[Any]
    threads: int
    device: str
    checkpoint_every: CheckpointEvery
    models: list[ShippedModel]
    aggregator: Any
    monitor: Any


def newest_position(storage: Storage, unit: str) -> Position:
    """Where students that are trained together, mostly one, all stand in storage."""
    committed = [
        {*committed_positions(storage, student_folder(student))} for student in members_of(unit)
    ]
    return max(set.intersection(*committed), default=Position(0))
