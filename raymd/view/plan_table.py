"""A run foreseen: what it would do, need and take, and how that is shown within 80 columns.

Enters: a Preview, which raymd/execution/preview.py makes. Leaves: a table of the students and lines
on everything else. Imports neither torch nor Ray.
"""

from collections.abc import Iterable, Iterator, Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from raymd.view.preview import (
    CyclesPreview,
    DropPreview,
    NodePreview,
    Preview,
    SoftLabelsPreview,
    StudentPreview,
)
from raymd.view.text import ABSENT, count_of, duration, listed, num_bytes

WIDTH = 80
WORTH_TELLING = 1.1


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
    yield "placement", _placement(preview)
    yield "results", _disk(preview)
    yield "time", _time(preview)
    for sentence in _quicker(preview):
        yield "quicker", sentence
    for warning in preview.warnings:
        yield "warning", warning


def _positions(students: Iterable[StudentPreview]) -> str:
    return ", ".join(f"{s.id} at epoch {s.epoch + 1}, step {s.step + 1}" for s in students)


def describe_cycles(cycles: Iterable[CyclesPreview]) -> str:
    """``8 cycles of 10 alone + 30 distilling, then 10 alone (cut by --epochs)``."""
    parts = []
    for cycle in cycles:
        if not cycle.alone:
            parts.append(f"{cycle.distilling} distilling")
            continue
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
    gpus = f" and {preview.gpus_per_worker:g} GPUs" if preview.gpus_per_worker else ""
    asked = (
        f"{count_of(preview.slots, 'worker')} at once, each {preview.cpus_per_worker:g} CPUs"
        f"{gpus}, {count_of(preview.threads, 'thread')}, on {preview.device}"
    )
    nodes: Mapping[str, int] = _counted(_node(node) for node in preview.nodes)
    there = "; ".join(f"{n} x {text}" if n > 1 else text for text, n in nodes.items())
    return f"{preview.cluster}; {asked}. There: {there}"


def _placement(preview: Preview) -> str:
    workers = _num_workers(preview)
    if preview.placement == "resident":
        return f"resident: {preview.why_placed}"
    some = "all" if preview.slots == workers else f"{preview.slots} of"
    return (
        f"sliced: students take turns, {some} {count_of(workers, 'worker')} at a time; "
        f"{preview.why_placed}"
    )


def _num_workers(preview: Preview) -> int:
    return sum(student.workers for student in preview.students)


def _quicker(preview: Preview) -> Iterator[str]:
    suggestion, resident_s = preview.suggestion, preview.resident_s
    if suggestion is not None:
        yield (
            f"{suggestion.flags}: an epoch of the slowest student would take "
            f"{short_time(suggestion.after_s)}, not {short_time(suggestion.before_s)}, if workers "
            "add up"
        )
    if resident_s is not None and preview.left_s > WORTH_TELLING * resident_s:
        yield (
            f"room for {count_of(_num_workers(preview), 'worker')} (more --slots, or a larger "
            f"cluster: --address): about {duration(resident_s)}; turns take "
            f"{preview.left_s / resident_s:.1f} times as long"
        )


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
