"""A run as one interactive figure: accuracy and loss parts against epochs.

Enters: a Result and the ``epoch`` events of its history. Leaves: a Plotly figure, to be shown in
a notebook or written as HTML. Epochs count from 1 on its axis, as people are shown them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from raymd.result import Result

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
SHADE = "#888888"
ENSEMBLE = "#000000"
ACCURACY_ROW, LOSS_ROW = 1, 2


def plot(result: Result, history: Iterable[Mapping[str, Any]]) -> "go.Figure":
    """Plot a run.

    Above, each student's accuracy on the held-out images (of training, where nothing was held
    out), the phases with a teacher shaded, and the ensemble's accuracy as a line across; below,
    task loss and, dashed, the distillation loss.

    Args:
        result: Of the run.
        history: Its events, merged; others than ``epoch`` are passed over.

    Returns:
        The figure; its traces have the student's id as ``legendgroup``.
    """
    from plotly.subplots import make_subplots

    epochs = sorted(
        (event for event in history if event["event"] == "epoch"), key=lambda event: event["epoch"]
    )
    accuracy = "held-out accuracy" if result.num_val else "training accuracy"
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for place, student in enumerate(result.students):
        own = [event for event in epochs if event["student"] == student.id]
        _student(figure, student.id, own, colour=COLOURS[place % len(COLOURS)])
    for first, last in distillation_phases(epochs):
        figure.add_vrect(
            x0=first + 0.5,
            x1=last + 1.5,
            fillcolor=SHADE,
            opacity=0.12,
            line_width=0,
            layer="below",
        )
    _ensemble(figure, result)
    figure.update_xaxes(title_text="epoch", row=LOSS_ROW, col=1)
    figure.update_yaxes(title_text=accuracy, tickformat=".0%", row=ACCURACY_ROW, col=1)
    figure.update_yaxes(title_text="loss (nats)", row=LOSS_ROW, col=1)
    figure.update_layout(
        title_text=f"{result.method} on {result.dataset}, seed {result.seed}; shaded: distillation",
        template="plotly_white",
        hovermode="x unified",
    )
    return figure


def distillation_phases(epochs: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """First and last epoch (indices) of each stretch of epochs with a teacher.

    Args:
        epochs: ``epoch`` events, sorted by epoch; of one student or of all, whose phases are the
            same.
    """
    cycles = {e["epoch"]: e["cycle"] for e in epochs if e["phase"] == "distillation"}
    phases = []
    for _, stretch in groupby(sorted(cycles), key=cycles.__getitem__):
        indices = list(stretch)
        phases.append((indices[0], indices[-1]))
    return phases


def _student(
    figure: "go.Figure", student: str, epochs: Sequence[Mapping[str, Any]], *, colour: str
) -> None:
    x = [event["epoch"] + 1 for event in epochs]
    accuracies = [
        event["train_accuracy"] if event["val_accuracy"] is None else event["val_accuracy"]
        for event in epochs
    ]
    lines = (
        (student, accuracies, ACCURACY_ROW, "solid"),
        (f"{student} task loss", [event["task_loss"] for event in epochs], LOSS_ROW, "solid"),
        (f"{student} kd loss", [event["kd_loss"] for event in epochs], LOSS_ROW, "dash"),
    )
    for name, y, row, dash in lines:
        if all(value is None for value in y):
            continue
        figure.add_scatter(
            x=x,
            y=y,
            name=name,
            legendgroup=student,
            mode="lines",
            connectgaps=False,  # no teacher, no distillation loss
            line={"color": colour, "dash": dash},
            showlegend=row == ACCURACY_ROW,
            row=row,
            col=1,
        )


def _ensemble(figure: "go.Figure", result: Result) -> None:
    """Its accuracy on the images that the curves show; of test images where nothing was held out,
    since the ensemble was not measured in training."""
    last = result.ensemble.last
    score, images = (last.test, "test") if last.val is None else (last.val, "held-out")
    figure.add_scatter(
        x=[1, result.epochs],
        y=[score.accuracy, score.accuracy],
        name=f"ensemble, last weights ({images} images)",
        legendgroup="ensemble",
        mode="lines",
        line={"color": ENSEMBLE, "dash": "dot", "width": 1},
        row=ACCURACY_ROW,
        col=1,
    )
