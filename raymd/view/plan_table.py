"""A run foreseen: what it would do, need and take, and how that is shown within 80 columns.

Enters: a Preview, which raymd/execution/preview.py makes. Leaves: a table of the students and lines
on everything else. Imports neither torch nor Ray.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from raymd.plain import to_plain
from raymd.view.text import ABSENT, count_of, duration, listed, num_bytes

WIDTH = 80


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
        device, cpus_per_worker, gpus_per_worker, threads: See Plan.
        students: One entry each.
        epochs, cycles, drops: The schedule.
        nodes: Of the cluster.
        soft_labels, disk: Bytes.
        startup_s: From the command to the first step, as measured.
        left_s: The whole run from where it would begin: the slowest student of each phase.
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
    students: tuple[StudentPreview, ...]
    epochs: int
    cycles: tuple[CyclesPreview, ...]
    drops: tuple[DropPreview, ...]
    nodes: tuple[NodePreview, ...]
    soft_labels: SoftLabelsPreview | None
    disk: DiskPreview
    startup_s: float
    left_s: float
    left_out: tuple[str, ...]
    suggestion: Suggestion | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As ``--plan --view json`` prints it."""
        document: dict[str, Any] = to_plain(self)
        return document


def show_preview(console: Console, preview: Preview) -> None:
    """Print a preview within 80 columns."""
    width = min(WIDTH, console.width)
    console.print()
    console.print(students_table(preview), width=width)
    console.print()
    console.print(lines_table(preview), width=width)


def students_table(preview: Preview) -> Table:
    """Each student's size, pace and time."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    several = any(student.workers > 1 for student in preview.students)
    table.add_column("student\nx workers" if several else "student", overflow="fold", min_width=8)
    for name in (
        "para-\nmeters", "memory:\nstate", "acti-\nvations", "a step", "images\n/s",
        "an\nepoch", "to\ntrain",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for student in preview.students:
        workers = f" x{student.workers}" if student.workers > 1 else ""
        activations = student.activation_bytes
        table.add_row(
            student.id + workers,
            short_count(student.parameters),
            num_bytes(student.state_bytes),
            ABSENT if activations is None else num_bytes(activations),
            short_time(student.step_s),
            f"{student.images_per_s:,.0f}",
            short_time(student.epoch_s),
            duration(student.left_s),
        )
    return table


def short_count(number: int) -> str:
    """``4,321``, ``85.2 k``, ``23.5 M``, ``1.2 G``."""
    value, unit = float(number), ""
    for larger in ("k", "M", "G"):
        if number < 10_000 or value < 999.95:
            break
        value, unit = value / 1000, f" {larger}"
    return f"{value:,.1f}{unit}" if unit else f"{number:,}"


def short_time(seconds: float) -> str:
    """``12 ms``, ``3.4 s``, then as ``duration``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else duration(seconds)


def lines_table(preview: Preview) -> Table:
    """Everything but the students' figures: a subject and its sentence."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for subject, sentence in _lines(preview):
        table.add_row(subject, sentence, style="yellow" if subject == "warning" else "")
    return table


def _lines(preview: Preview) -> Iterator[tuple[str, str]]:
    if preview.resumed:
        yield "goes on", _positions(preview.students)
    yield "schedule", f"{count_of(preview.epochs, 'epoch')}: {describe_cycles(preview.cycles)}"
    yield "rate", "; ".join(_rates(preview))
    if preview.soft_labels is not None:
        yield "soft labels", _soft_labels(preview.soft_labels)
    yield "memory", _memory(preview)
    yield "cluster", _cluster(preview)
    yield "results", _disk(preview)
    yield "time", _time(preview)
    suggestion = preview.suggestion
    if suggestion is not None:
        yield (
            "quicker",
            f"{suggestion.flags}: an epoch of the slowest student would take "
            f"{short_time(suggestion.after_s)}, not {short_time(suggestion.before_s)}, if workers "
            "add up",
        )
    for warning in preview.warnings:
        yield "warning", warning


def _positions(students: Iterable[StudentPreview]) -> str:
    return ", ".join(f"{s.id} at epoch {s.epoch + 1}, step {s.step + 1}" for s in students)


def describe_cycles(cycles: Iterable[CyclesPreview]) -> str:
    """``8 cycles of 10 alone + 30 distilling, then 10 alone (cut by --epochs)``."""
    parts = []
    for cycle in cycles:
        length = f"{cycle.alone} alone"
        length += f" + {cycle.distilling} distilling" if cycle.distilling else ""
        times = "" if cycle.is_cut or not cycle.distilling else f"{_times(cycle.count)} of "
        parts.append(f"{times}{length}{' (cut by --epochs)' if cycle.is_cut else ''}")
    return ", then ".join(parts)


def _times(count: int) -> str:
    return count_of(count, "cycle")


def _rates(preview: Preview) -> Iterator[str]:
    kinds: dict[tuple[str, float], list[str]] = {}
    for student in preview.students:
        kinds.setdefault((student.lr_schedule, student.warmup_epochs), []).append(student.id)
    for (schedule, warmup), students in kinds.items():
        who = f"{', '.join(students)}: " if len(kinds) > 1 else ""
        what = "falls to zero as a cosine" if schedule == "cosine" else _drops(preview.drops)
        rise = f", rising over the first {warmup:g} epochs" if warmup else ""
        yield f"{who}{what}{rise}"


def _drops(drops: Iterable[DropPreview]) -> str:
    texts = [
        f"times {drop.factor:g} from epoch {drop.epoch}"
        + (" (inside distillation)" if drop.inside else "")
        for drop in drops
    ]
    return listed(texts) or "the same throughout"


def _soft_labels(soft: SoftLabelsPreview) -> str:
    return (
        f"{num_bytes(soft.publication_bytes)} a student and cycle; {num_bytes(soft.live_bytes)} "
        f"with teachers at once in the object store, which holds "
        f"{num_bytes(soft.object_store_bytes)}"
    )


def _memory(preview: Preview) -> str:
    most = max(preview.students, key=lambda student: student.peak_bytes)
    if most.device_bytes is not None:
        return (
            f"at most {num_bytes(most.peak_bytes)} of the {num_bytes(most.device_bytes)} of a GPU "
            f"({most.id}); state is weights, gradients and the optimiser's, computed; activations "
            "are the highest allocation less those"
        )
    return (
        f"at most {num_bytes(most.peak_bytes)} a process ({most.id}); state is weights, gradients "
        "and the optimiser's, computed; activations are what the process grew by beside those"
    )


def _cluster(preview: Preview) -> str:
    workers = sum(student.workers for student in preview.students)
    gpus = f" and {preview.gpus_per_worker:g} GPUs" if preview.gpus_per_worker else ""
    asked = (
        f"{count_of(workers, 'worker')} at once, each {preview.cpus_per_worker:g} CPUs{gpus}, "
        f"{count_of(preview.threads, 'thread')}, on {preview.device}"
    )
    nodes: Mapping[str, int] = _counted(_node(node) for node in preview.nodes)
    there = "; ".join(f"{n} x {text}" if n > 1 else text for text, n in nodes.items())
    return f"{preview.cluster}; {asked}. There: {there}"


def _node(node: NodePreview) -> str:
    return (
        f"{node.cpus:g} CPUs, {node.gpus:g} GPUs, {num_bytes(node.memory_bytes)} "
        f"({count_of(node.workers, 'worker')})"
    )


def _counted(texts: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    return counts


def _disk(preview: Preview) -> str:
    disk = preview.disk
    free = "" if disk.free_bytes is None else f"; {num_bytes(disk.free_bytes)} free"
    return (
        f"{preview.run}, can be written; about {num_bytes(disk.most_bytes)} at most, "
        f"{num_bytes(disk.kept_bytes)} at the end{free}"
    )


def _time(preview: Preview) -> str:
    return (
        f"about {duration(preview.left_s)}, {short_time(preview.startup_s)} of it to start; "
        f"estimated from a few steps, without {listed(list(preview.left_out), most=6)}"
    )
