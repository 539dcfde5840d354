"""An Evaluation as tables and sentences for the terminal, and as rows for CSV."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymd.commands.evaluation import Evaluation, Figures
from raymd.metrics import Difference
from raymd.result import Score
from raymd.view.text import ABSENT, count_of, points

FIGURE_COLUMNS = (
    "student", "arch", "parameters", "weights_mb", "correct", "total", "top1", "top1_low",
    "top1_high", "top5", "nll", "ece", "one_image_ms", "images_per_s",
)  # fmt: skip
CLASS_COLUMNS = ("student", "class", "total", "top1")


def evaluation_parts(evaluation: Evaluation, *, per_class: bool) -> list[RenderableType]:
    """What `raymd evaluate` prints, from the figures to what they can show."""
    parts: list[RenderableType] = [Text(_heading(evaluation)), _quality_table(evaluation)]
    parts.append(_cost_table(evaluation))
    if len(evaluation.students) > 1:
        parts += [_agreement_table(evaluation), Text("\n".join(_gains(evaluation)))]
    if evaluation.baseline is not None:
        parts.append(_comparison_table(evaluation))
    if per_class:
        parts.append(_class_table(evaluation))
    return parts


def _heading(evaluation: Evaluation) -> str:
    return (
        f"{evaluation.run}, {evaluation.weights} weights, on"
        f" {count_of(evaluation.num_images, f'{evaluation.part} image')} of {evaluation.dataset}"
        f" ({evaluation.device})"
    )


def _all(evaluation: Evaluation) -> list[Figures]:
    return [*evaluation.students, evaluation.ensemble]


def _name(evaluation: Evaluation, figures: Figures) -> str:
    return figures.id + (" *" if figures.id == evaluation.best_student else "")


def _table(first: str, columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold", min_width=8)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _with_interval(score: Score) -> str:
    low, high = score.interval
    return f"{points(score.accuracy)} ({points(low).strip()}-{points(high).strip()})"


def _quality_table(evaluation: Evaluation) -> RenderableType:
    columns = ["top-1 %\n(95 % interval)", "top-5 %", "NLL", "ECE\n%"]
    table = _table("student", columns)
    for figures in _all(evaluation):
        table.add_row(
            Text(_name(evaluation, figures)),
            _with_interval(figures.top1),
            ABSENT if figures.top5 is None else points(figures.top5.accuracy),
            f"{figures.nll:.3f}",
            points(figures.calibration.ece),
        )
    return Group(table, "* the result's best, picked on held-out images where there were any")


def _cost_table(evaluation: Evaluation) -> RenderableType:
    table = _table("student", ["parameters", "weights\nMB", "1 image\nms", "images/s"])
    for figures in _all(evaluation):
        latency = figures.latency
        table.add_row(
            Text(figures.id),
            f"{figures.parameters:,}",
            f"{figures.weights_bytes / 1e6:.1f}",
            ABSENT if latency is None else f"{latency.one_image_ms:.2f}",
            ABSENT if latency is None else f"{latency.images_per_s:,.0f}",
        )
    latency = evaluation.ensemble.latency
    if latency is not None:
        threads = f", {count_of(latency.threads, 'thread')}" if latency.device == "cpu" else ""
        note = (
            f"times measured here on {latency.device}{threads}; images/s in batches of"
            f" {latency.batch_size}"
        )
        return Group(table, note)
    return table


def _agreement_table(evaluation: Evaluation) -> Table:
    ids = [figures.id for figures in evaluation.students]
    table = _table("same class, %", ids)
    for name, row in zip(ids, evaluation.agreement, strict=True):
        table.add_row(Text(name), *map(points, row))
    return table


def _gains(evaluation: Evaluation) -> Iterator[str]:
    best = evaluation.gain_over_best
    yield (
        f"ensemble over {evaluation.best_student}: {_signed(best)} points; {best.gained} images"
        f" gained, {best.lost} lost"
    )
    yield f"ensemble over the mean student: {_signed(evaluation.gain_over_mean)} points"


def _signed(difference: Difference) -> str:
    low, high = difference.interval_95
    return f"{difference.points:+.1f} (95 % {low:+.1f} to {high:+.1f})"


def _comparison_table(evaluation: Evaluation) -> RenderableType:
    table = _table("this run", ["baseline", "points\n(95 % interval)", "gained", "lost"])
    for comparison in evaluation.comparisons:
        difference = comparison.difference
        table.add_row(
            Text(comparison.id),
            Text(comparison.baseline),
            _signed(difference).replace("95 % ", ""),
            str(difference.gained),
            str(difference.lost),
        )
    note = Text(f"against {evaluation.baseline} on the same images; one seed each")
    return Group(table, note)


def _class_table(evaluation: Evaluation) -> Table:
    table = _table("class", ["images", *(f"{figures.id}\n%" for figures in _all(evaluation))])
    for k, name in enumerate(evaluation.classes):
        parts = [figures.class_accuracy[k] for figures in _all(evaluation)]
        cells = [ABSENT if math.isnan(part) else points(part) for part in parts]
        table.add_row(Text(name), f"{evaluation.class_counts[k]:,}", *cells)
    return table


def figure_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row of FIGURE_COLUMNS for each student and the ensemble; accuracies are parts of 1."""
    return [_figure_row(figures) for figures in _all(evaluation)]


def _figure_row(figures: Figures) -> dict[str, Any]:
    latency = figures.latency
    values = (
        figures.id,
        figures.arch,
        figures.parameters,
        figures.weights_bytes / 1e6,
        figures.top1.correct,
        figures.top1.total,
        figures.top1.accuracy,
        *figures.top1.interval,
        None if figures.top5 is None else figures.top5.accuracy,
        figures.nll,
        figures.calibration.ece,
        None if latency is None else latency.one_image_ms,
        None if latency is None else latency.images_per_s,
    )
    return dict(zip(FIGURE_COLUMNS, values, strict=True))


def class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row of CLASS_COLUMNS for each student, and the ensemble, and class."""
    return [
        dict(zip(CLASS_COLUMNS, (figures.id, name, count, _or_none(accuracy)), strict=True))
        for figures in _all(evaluation)
        for name, count, accuracy in zip(
            evaluation.classes, evaluation.class_counts, figures.class_accuracy, strict=True
        )
    ]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
