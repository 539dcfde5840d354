"""`raymd predict RUN IMAGE|DIR...`: classify images with a finished run. Needs no Ray.

    raymd predict latest photo.jpg
    raymd predict runs/NAME photos/ --student ensemble --format csv --output classes.csv

Place on the data's way: after it. A run and images enter; their most probable classes leave.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from raymd.commands import flags

if TYPE_CHECKING:
    from rich.table import Table

    from raymd.commands.classify import Prediction
    from raymd.deploy import LoadedEnsemble, LoadedStudent
    from raymd.storage import Storage

DEFAULT_TOP = 5
DEFAULT_BATCH_SIZE = 64
BEST, ENSEMBLE = "best", "ensemble"


def build_parser() -> flags.Parser:
    """The verb's flags."""
    parser = flags.Parser("predict", "Classify images with a finished run.")
    flags.add_run(parser)
    parser.add_argument(
        "images", metavar="IMAGE|DIR", nargs="+", help="files, or folders with images at any depth"
    )
    parser.add_argument(
        "--student",
        metavar="ID",
        default=BEST,
        help="a student's id; best: picked on held-out data; ensemble: all, weighted by accuracy"
        " (default: best)",
    )
    flags.add_weights(parser)
    parser.add_argument(
        "--top",
        metavar="K",
        type=flags.at_least(1),
        default=DEFAULT_TOP,
        help=f"classes of each image, at most all (default: {DEFAULT_TOP})",
    )
    parser.add_argument(
        "--batch_size",
        metavar="N",
        type=flags.at_least(1),
        default=DEFAULT_BATCH_SIZE,
        help=f"images at once (default: {DEFAULT_BATCH_SIZE})",
    )
    flags.add_device(parser)
    flags.add_output(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Predict; gives 0, or 1 if an image could not be read."""
    arguments = build_parser().read(argv)
    # only now: torch takes seconds to import, and a mistake needs none
    from raymd.commands.classify import classify, find_images
    from raymd.commands.output import check_output, write_output
    from raymd.commands.where import choose_device, find_run

    check_output(arguments.output)
    found = find_images(arguments.images)
    run = find_run(arguments.run, storage=arguments.storage)
    model = _load(run, arguments)
    predictions = list(
        classify(
            model,
            found.images,
            top=arguments.top,
            batch_size=arguments.batch_size,
            device=choose_device(arguments.device),
        )
    )
    failed = [p for p in predictions if p.error is not None]
    write_output(_text(predictions, run, arguments), path=arguments.output)
    for prediction in failed:
        print(f"raymd: {prediction.image}: {prediction.error}", file=sys.stderr)
    if found.num_skipped:
        print(f"raymd: {found.num_skipped} files that are no images skipped", file=sys.stderr)
    return 1 if failed else 0


def _load(run: "Storage", arguments: argparse.Namespace) -> "LoadedStudent | LoadedEnsemble":
    from raymd.deploy import load_ensemble, load_student

    if arguments.student == ENSEMBLE:
        return load_ensemble(run.uri, weights=arguments.weights)
    return load_student(run.uri, student=arguments.student, weights=arguments.weights)


def _text(
    predictions: Sequence["Prediction"], run: "Storage", arguments: argparse.Namespace
) -> str:
    from raymd.commands.output import as_csv, as_json, as_text

    readable = [p for p in predictions if p.error is None]
    if arguments.format == "csv":
        return as_csv([row for p in readable for row in _rows(p)], columns=COLUMNS)
    if arguments.format == "json":
        return as_json(
            {
                "run": run.uri,
                "student": arguments.student,
                "weights": arguments.weights,
                "images": [
                    {"image": str(p.image), "predictions": [_without_image(r) for r in _rows(p)]}
                    for p in readable
                ],
                "failed": [
                    {"image": str(p.image), "error": p.error}
                    for p in predictions
                    if p.error is not None
                ],
            }
        )
    return as_text([_table(readable)], path=arguments.output)


COLUMNS = ("image", "rank", "class", "probability")


def _rows(prediction: "Prediction") -> list[dict[str, Any]]:
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    return [
        dict(zip(COLUMNS, (str(prediction.image), rank, name, probability), strict=True))
        for rank, (name, probability) in enumerate(pairs, start=1)
    ]


def _without_image(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "image"}


def _table(predictions: Sequence["Prediction"]) -> "Table":
    """An image a row: its class, how probable, and what else it may be."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from raymd.view.text import percent

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("image", "class", "probability", "or"):
        justify: Literal["left", "right"] = "right" if name == "probability" else "left"
        table.add_column(name, overflow="fold", justify=justify)
    for p in predictions:
        others = zip(p.classes[1:], p.probabilities[1:], strict=True)
        rest = ", ".join(f"{name} {percent(part).strip()}" for name, part in others)
        cells = (str(p.image), p.classes[0], percent(p.probabilities[0]), rest)
        table.add_row(*map(Text, cells))
    return table
