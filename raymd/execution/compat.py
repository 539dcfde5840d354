"""The only place that touches what Ray does not promise to keep.

Each use names what there is no public way for; where a later Ray has moved it, raymd goes on
without.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray._private.worker
import ray._raylet
from ray._private.state import state
from ray.core.generated import gcs_pb2 as _gcs_pb2
from ray.util.placement_group import PlacementGroup, remove_placement_group

log = logging.getLogger(__name__)

PRINTER = "print_to_stdstream"
CLEANER = "PlacementGroupCleanerCallback"
CONTROLLER = "TrainController"
Trainer = TypeVar("Trainer")
gcs_pb2: Any = _gcs_pb2  # its classes are made when it is imported
# DeathReason in ray.nodes() of a node that nobody has told to go: NodeDeathInfo's number (2.60)
UNEXPECTED = 2


@contextmanager
def raylet_messages_to_log() -> Iterator[None]:
    """Send the raylet's remarks to Python's logging instead of the terminal.

    ``log_to_driver=False`` stops the workers' output but not these (2.60): that many workers
    were started, or that a call will be retried, both of which raymd means to happen.
    """
    module: Any = ray._private.worker
    printer = getattr(module, PRINTER, None)
    if printer is None:
        yield
        return

    def to_log(data: dict[str, Any], *_: Any, **__: Any) -> None:
        log.info("ray: %s", " ".join(map(str, data.get("lines", ()))))

    setattr(module, PRINTER, to_log)
    try:
        yield
    finally:
        setattr(module, PRINTER, printer)


def session_folder() -> Path | None:
    """The session's folder of the node that this process has started, or has joined."""
    node = getattr(ray._private.worker, "_global_node", None)
    folder = getattr(node, "get_session_dir_path", lambda: None)()
    return None if folder is None else Path(folder)


def asks_token() -> bool | None:
    """Whether the Ray that is connected asks for a token; None: not known."""
    module: Any = ray._raylet
    try:
        return bool(module.get_authentication_mode() != module.AuthenticationMode.DISABLED)
    except AttributeError:
        return None


def trainer_without_cleaner(trainer: type[Trainer]) -> type[Trainer]:
    """Ray Train's trainer, without the detached actor that it starts beside each controller.

    That actor asks the dashboard whether its controller lives. Where there is no dashboard it lives
    for ever after a driver that was killed (2.60). What it is for, remove_orphaned_groups does.
    """

    class WithoutCleaner(trainer):  # type: ignore[misc, valid-type]
        def _create_default_callbacks(self) -> list[Any]:
            made = super()._create_default_callbacks()
            return [callback for callback in made if type(callback).__name__ != CLEANER]

    WithoutCleaner.__name__ = trainer.__name__
    return WithoutCleaner


def remove_orphaned_groups() -> list[str]:
    """Remove the placement groups of this job whose train controller is dead; gives their ids.

    Ray keeps a group until the job of the actor that made it ends, so a controller that was killed
    leaves the resources of its workers taken, and those after it wait for them in vain.
    """
    job = ray.get_runtime_context().get_job_id()
    controllers = {actor.actor_id for actor in _actors() if actor.class_name == CONTROLLER}
    orphaned = [
        ray.PlacementGroupID(group.placement_group_id)
        for group in _groups()
        if group.state != gcs_pb2.PlacementGroupTableData.REMOVED
        and group.creator_job_id.hex() == job
        and group.creator_actor_id in controllers
        and group.creator_actor_dead
    ]
    for group in orphaned:
        remove_placement_group(PlacementGroup(group))
    return [group.hex() for group in orphaned]


def kill_controllers() -> int:
    """Kill the train controllers that this process has started, their workers with them; gives back
    how many there were. Their ``fit()`` raises, and remove_orphaned_groups frees their places."""
    worker: Any = ray._private.worker.global_worker
    alive = [
        actor
        for actor in _actors()
        if actor.class_name == CONTROLLER
        and actor.state != gcs_pb2.ActorTableData.DEAD
        and actor.owner_address.worker_id == worker.worker_id
    ]
    for actor in alive:
        worker.core_worker.kill_actor(ray.ActorID(actor.actor_id), True)
    return len(alive)


@dataclass(frozen=True)
class NamedActor:
    """An actor that lives; ``is_orphan``: the driver whose job made it is gone."""

    name: str
    is_orphan: bool


def named_actors(namespace: str) -> list[NamedActor]:
    """All actors of a namespace that have not ended for good; Ray's own list tells no driver."""
    gone = {job["JobID"] for job in state.job_table() if job["IsDead"]}
    return [
        NamedActor(actor.name, actor.job_id.hex() in gone)
        for actor in _actors()
        if actor.ray_namespace == namespace
        and actor.name
        and actor.state != gcs_pb2.ActorTableData.DEAD
    ]


def _actors() -> list[Any]:
    table = state._connect_and_get_accessor().get_actor_table(None, None)
    return [gcs_pb2.ActorTableData.FromString(row) for row in table]


def _groups() -> list[Any]:
    table = state._connect_and_get_accessor().get_placement_group_table()
    return [gcs_pb2.PlacementGroupTableData.FromString(row) for row in table]
