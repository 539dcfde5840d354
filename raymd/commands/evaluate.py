"""`raymd evaluate RUN`: measure a finished run's students and their ensemble. Needs no Ray.

    raymd evaluate latest
    raymd evaluate runs/md --baseline runs/independent --per_class
    raymd evaluate runs/NAME --dataset folder:photos --format json --output figures.json

Place on the data's way: after it. A run enters; figures leave. Test images choose nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raymd.commands import flags

if TYPE_CHECKING:
    from raymd.commands.evaluation import Evaluation
    from raymd.commands.saved_data import Images
    from raymd.storage import Storage

PARTS = ("test", "val", "train")


def build_parser() -> flags.Parser:
    """The verb's flags."""
    parser = flags.Parser("evaluate", "Measure a finished run's students and their ensemble.")
    flags.add_run(parser)
    parser.add_argument(
        "--part",
        choices=PARTS,
        default="test",
        help="images: untouched, held out from training, or trained on (default: test)",
    )
    parser.add_argument(
        "--dataset",
        metavar="SPEC",
        help="other images, whose classes have the run's names (default: the run's own data set)",
    )
    parser.add_argument("--data_dir", metavar="DIR", help="where the data set lies")
    flags.add_data_cache(parser)
    flags.add_weights(parser)
    parser.add_argument(
        "--baseline", metavar="RUN", help="another finished run, compared on the same images"
    )
    parser.add_argument("--per_class", action="store_true", help="accuracy of each class too")
    parser.add_argument("--no_latency", action="store_true", help="measure no times")
    flags.add_device(parser)
    flags.add_output(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Evaluate; gives the exit code."""
    arguments = build_parser().read(argv)
    # only now: torch takes seconds to import, and a mistake needs none
    from raymd.commands.evaluation import evaluate
    from raymd.commands.output import check_output, write_output
    from raymd.commands.where import choose_device, find_run, read_result

    check_output(arguments.output)
    run = find_run(arguments.run, storage=arguments.storage)
    read_result(run)  # refuses a run that is not finished before its images are loaded
    baseline = None
    if arguments.baseline is not None:
        baseline = find_run(arguments.baseline, storage=arguments.storage)
        read_result(baseline)
    images = _images(run, arguments)
    evaluation = evaluate(
        run,
        images,
        weights=arguments.weights,
        device=choose_device(arguments.device),
        with_latency=not arguments.no_latency,
        baseline=baseline,
    )
    for note in images.split.notes():
        print(note, file=sys.stderr)
    write_output(_text(evaluation, arguments), path=arguments.output)
    return 0


def _images(run: "Storage", arguments: argparse.Namespace) -> "Images":
    from raymd.commands.saved_data import other_images, own_images

    where = {"data_dir": arguments.data_dir, "data_cache": arguments.data_cache}
    if arguments.dataset is None:
        return own_images(run, part=arguments.part, **where)
    return other_images(run, arguments.dataset, part=arguments.part, **where)


def _text(evaluation: "Evaluation", arguments: argparse.Namespace) -> str:
    from raymd.commands import evaluation_table as tables
    from raymd.commands.output import as_csv, as_json, as_text

    if arguments.format == "json":
        return as_json(evaluation.to_dict())
    if arguments.format == "csv":
        if arguments.per_class:
            return as_csv(tables.class_rows(evaluation), columns=tables.CLASS_COLUMNS)
        return as_csv(tables.figure_rows(evaluation), columns=tables.FIGURE_COLUMNS)
    parts = tables.evaluation_parts(evaluation, per_class=arguments.per_class)
    return as_text(parts, path=arguments.output)
