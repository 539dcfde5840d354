"""The paper's Figures 2, 4 and 5 as Plotly figures: pages that need no network, and JSON.

Study, outcomes -> <study's folder>/figureN.html, figureN.json
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymd.storage import Storage
from raymd.view.plots import COLOURS
from tuning.study import measures
from tuning.study.groups import ALONE, DOUBLED, Study
from tuning.study.measures import by_seed
from tuning.study.numbers import label
from tuning.study.report import StudyOutcomes
from tuning.study.statistics import summary

if TYPE_CHECKING:
    import plotly.graph_objects as go

TEMPERATURES = (1.0, 3.0)


def write_figures(study: Study, outcomes: StudyOutcomes, *, folder: Path) -> list[Path]:
    """Draw what there is of a study that is a figure.

    Returns:
        The files written; none for a table, or before the first run is finished.
    """
    made = {"figure2": figure2, "figure4": figure4, "figure5": figure5}
    if study.name not in made or not outcomes.results():
        return []
    figure, data = made[study.name](study, outcomes)
    page, numbers = folder / f"{study.name}.html", folder / f"{study.name}.json"
    storage = Storage.at(folder)
    storage.write(page.name, figure.to_html(include_plotlyjs=True, full_html=True).encode())
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    storage.write(numbers.name, text.encode())
    return [page, numbers]


def _subtitle(study: Study, outcomes: StudyOutcomes) -> str:
    seeds = max(len(found) for found in outcomes.by_point.values())
    return f"scale {study.scale.name}, n = {seeds}"


# -- Figure 4 -------------------------------------------------------------------------------


def curves(study: Study, outcomes: StudyOutcomes) -> list[dict[str, Any]]:
    """Figure 4's data: a panel for each group, a curve for each method."""
    panels = []
    for group in study.groups:
        found = {
            variant: measures.curve(outcomes.of(point))
            for variant, point in group.variants.items()
            if variant != DOUBLED
        }
        shown = {
            label(variant): {"epochs": list(c.epochs), "accuracy": list(c.means), "n": c.n}
            for variant, c in found.items()
            if c is not None
        }
        panels.append({"panel": group.title, "curves": shown})
    return panels


def figure4(study: Study, outcomes: StudyOutcomes) -> "tuple[go.Figure, dict[str, Any]]":
    """Held-out accuracy against epochs under each method, a panel for each network and data set."""
    from plotly.subplots import make_subplots

    panels = curves(study, outcomes)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=[p["panel"] for p in panels])
    for place, panel in enumerate(panels):
        row, column = place // columns + 1, place % columns + 1
        for number, (name, one) in enumerate(panel["curves"].items()):
            figure.add_scatter(
                x=one["epochs"], y=one["accuracy"], name=name, legendgroup=name, mode="lines",
                line={"color": COLOURS[number % len(COLOURS)]},
                showlegend=not any(trace.name == name for trace in figure.data),
                row=row, col=column,
            )  # fmt: skip
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="held-out accuracy, %")
    title = (
        "Figure 4, of held-out images (the paper's shows test images, which choose and show nothing"
        f" here before the end); mean of two students; {_subtitle(study, outcomes)}"
    )
    figure.update_layout(title_text=title, template="plotly_white", hovermode="x unified")
    return figure, {"title": title, "panels": panels}


# -- Figure 5 -------------------------------------------------------------------------------


def by_number(study: Study, outcomes: StudyOutcomes) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Figure 5's data: accuracies by network and curve, a point for each number of students."""
    data: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for group in study.groups:
        network, number = group.key
        for variant in (ALONE, "md"):
            point, found = group.variants[variant], outcomes.of(group.variants[variant])
            mean = by_seed(found, measures.last_accuracy(point, tuple(range(number))))
            named = {
                f"{label(variant)}, mean of the students": mean,
                f"{label(variant)}, ensemble": by_seed(found, measures.ensemble_accuracy),
            }
            for name, values in named.items():
                one = summary(list(values.values()))
                if one is not None:
                    entry = {"students": number, "mean": one.mean, "sd": one.sd, "n": one.n}
                    data.setdefault(label(network), {}).setdefault(name, []).append(entry)
    return data


def figure5(study: Study, outcomes: StudyOutcomes) -> "tuple[go.Figure, dict[str, Any]]":
    """Test accuracy of the last weights against the number of students."""
    from plotly.subplots import make_subplots

    data = by_number(study, outcomes)
    figure = make_subplots(rows=1, cols=len(data), subplot_titles=list(data))
    for column, lines in enumerate(data.values(), start=1):
        for number, (name, entries) in enumerate(lines.items()):
            figure.add_scatter(
                x=[entry["students"] for entry in entries],
                y=[entry["mean"] for entry in entries],
                error_y={"type": "data", "array": [entry["sd"] or 0.0 for entry in entries]},
                name=name, legendgroup=name, showlegend=column == 1, mode="lines+markers",
                line={
                    "color": COLOURS[number % len(COLOURS)],
                    "dash": "dot" if "ensemble" in name else "solid",
                },
                row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(title_text="students", dtick=1)
    figure.update_yaxes(title_text="test accuracy, last weights, %")
    title = f"Figure 5: number of students on {study.data[0].title}; {_subtitle(study, outcomes)}"
    figure.update_layout(title_text=title, template="plotly_white")
    return figure, {"title": title, "networks": data}


# -- Figure 2 -------------------------------------------------------------------------------


def digit(run: str) -> dict[str, Any]:
    """Figure 2's data, from a finished run: the first test image's softmax at each temperature, and
    how the logits of all test images are spread."""
    from raymd.config import from_yaml
    from raymd.deploy import load_student
    from raymd.execution.opening import load
    from raymd.run_folder import CONFIG

    config = from_yaml(Storage.at(run).read(CONFIG).to_pybytes().decode())
    student = load_student(run, weights="last")
    test = load(config).test
    return {**_softmax(student, test), "run": run, "classes": list(student.classes)}


def _softmax(student: Any, test: Any) -> dict[str, Any]:
    import torch

    with torch.inference_mode():
        logits_NK = torch.cat([student(chunk) for chunk in test.images.split(500)]).float()
    probs = {f"{t:g}": (logits_NK[0] / t).softmax(-1).tolist() for t in TEMPERATURES}
    spread = {
        "max": float(logits_NK.max()),
        "min": float(logits_NK.min()),
        "variance": float(logits_NK.var()),
    }
    return {
        "image": test.images[0].float().mean(0).tolist(),
        "label": int(test.labels[0]),
        "softmax": probs,
        "logits_of_test_images": spread,
    }


def figure2(study: Study, outcomes: StudyOutcomes) -> "tuple[go.Figure, dict[str, Any]]":
    """One digit, and its softmax at t = 1 and t = 3 as bars; of the first seed."""
    from plotly.subplots import make_subplots

    first = next(outcome for outcome in outcomes.every() if outcome.result is not None)
    data = digit(first.run)
    titles = ["test image 0", *(f"t = {t}" for t in data["softmax"])]
    figure = make_subplots(rows=1, cols=3, subplot_titles=titles)
    figure.add_heatmap(z=data["image"], colorscale="gray", showscale=False, row=1, col=1)
    figure.update_yaxes(autorange="reversed", scaleanchor="x", row=1, col=1)
    for column, probs in enumerate(data["softmax"].values(), start=2):
        colour = COLOURS[column - 2]
        figure.add_bar(
            x=data["classes"], y=probs, marker_color=colour, showlegend=False, row=1, col=column
        )
        figure.update_yaxes(range=[0, 1], row=1, col=column)
    network = study.groups[0].alone.students[0]
    epochs = study.groups[0].alone.settings["epochs"]
    title = (
        f"Figure 2: the softmax of {network} after {epochs} epochs on {study.data[0].title} for one"
        f" digit; {_subtitle(study, outcomes)}"
    )
    figure.update_layout(title_text=title, template="plotly_white")
    return figure, {"title": title, **data}
