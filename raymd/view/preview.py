"""What a run would do, need and take, as numbers: what --plan finds out and prints.

Enters: figures of raymd/execution/foresight.py. Leaves: plan_table.py's lines, or JSON.
"""

from dataclasses import dataclass
from typing import Any

from raymd.plain import to_plain


@dataclass(frozen=True, kw_only=True)
class StudentPreview:
    """One student: its size, its pace as measured, and its time.

    Attributes:
        id, arch: Its name in the run and its network's.
        workers, batch_size, precision, lr_schedule, warmup_epochs: As settings have them.
        parameters: Of the network.
        weight_bytes, gradient_bytes, optimizer_bytes: On each worker.
        activation_bytes: What a step took beside those at its peak; None if unknown.
        peak_bytes: All that a worker's process took, or its part of a GPU.
        device_bytes: Memory of a worker's GPU; None on a CPU.
        step_s: Seconds of a training step, without exchange among its workers.
        images_per_s: Over all of its workers.
        steps: Of an epoch.
        epoch_s: Of training and evaluating an epoch.
        publish_s: Of one publication.
        left_s: Of all that is left to it, waiting for others left out.
        checkpoint_bytes: Of one checkpoint.
        epoch, step: Where it would begin or go on; both from 0.
    """

    id: str
    arch: str
    workers: int
    batch_size: int
    precision: str
    lr_schedule: str
    warmup_epochs: float
    parameters: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int | None
    peak_bytes: int
    device_bytes: int | None
    step_s: float
    images_per_s: float
    steps: int
    epoch_s: float
    publish_s: float
    left_s: float
    checkpoint_bytes: int
    epoch: int = 0
    step: int = 0

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and the optimiser's state."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes


@dataclass(frozen=True)
class CyclesPreview:
    """So many cycles alike; ``is_cut``: the budget ends before the cycle does."""

    count: int
    alone: int
    distilling: int
    is_cut: bool = False


@dataclass(frozen=True)
class DropPreview:
    """A drop of the step schedule: from epoch ``epoch`` (from 1) the rate is ``factor`` of the
    first; ``inside``: students distil there from a teacher of before the drop."""

    epoch: int
    factor: float
    inside: bool


@dataclass(frozen=True)
class NodePreview:
    """A node: what it has in all, and how many of the workers were put there."""

    cpus: float
    gpus: float
    memory_bytes: int
    workers: int


@dataclass(frozen=True)
class SoftLabelsPreview:
    """Bytes of soft labels: of one publication, at once in the object store, and its size."""

    publication_bytes: int
    live_bytes: int
    object_store_bytes: int


@dataclass(frozen=True)
class DiskPreview:
    """Bytes in the run directory at most and at the end, and free there; None: not known."""

    most_bytes: int
    kept_bytes: int
    free_bytes: int | None


@dataclass(frozen=True)
class Suggestion:
    """Another number of workers, the flags for it, and an epoch of the slowest student now and
    then, if workers add up."""

    workers: dict[str, int]
    flags: str
    before_s: float
    after_s: float


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a run would do, need and take; durations in seconds.

    Attributes:
        run: Its folder.
        resumed: Whether it would go on with a run.
        cluster: What it would run on, in words.
        device, cpus_per_worker, gpus_per_worker, threads, placement, slots: See Plan.
        why_placed: Why so, for people.
        students: One entry each.
        epochs, cycles, drops: The schedule.
        nodes: Of the cluster.
        soft_labels, disk: Bytes.
        startup_s: From the command to the first step, as measured.
        left_s: The whole run from where it would begin: of each part between two barriers its
            slowest student, or the students' turns.
        resident_s: The same with a slot for each student; None if each has one.
        left_out: What ``left_s`` does not hold.
        suggestion: Workers with which the slowest student would hold the others up less.
        warnings: What is likely to go wrong.
    """

    run: str
    resumed: bool
    cluster: str
    device: str
    cpus_per_worker: float
    gpus_per_worker: float
    threads: int
    placement: str
    slots: int
    why_placed: str
    students: tuple[StudentPreview, ...]
    epochs: int
    cycles: tuple[CyclesPreview, ...]
    drops: tuple[DropPreview, ...]
    nodes: tuple[NodePreview, ...]
    soft_labels: SoftLabelsPreview | None
    disk: DiskPreview
    startup_s: float
    left_s: float
    resident_s: float | None
    left_out: tuple[str, ...]
    suggestion: Suggestion | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As ``--plan --view json`` prints it."""
        document: dict[str, Any] = to_plain(self)
        return document
