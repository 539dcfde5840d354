"""`raymd doctor`: look at every node of a cluster, or at this machine, and say what to do.

    raymd doctor                                        # this machine, with a Ray of its own
    raymd doctor --address 10.0.0.1:6379 --storage s3://bucket/runs --device cuda
    raymd doctor --json

Place on the data's way: before it. Exit code 1 if something would stand in a run's way, 0 if not.
What is looked at is execution/doctor's.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from raymd.commands import flags
from raymd.secrets import without_secrets

if TYPE_CHECKING:
    from raymd.execution.doctor.examine import Examination

COLUMNS = ("node", "check", "level", "found", "remedy")


def build_parser() -> flags.Parser:
    """The verb's flags."""
    parser = flags.Parser(
        "doctor",
        "Look at every node of a Ray cluster, or at this machine: versions, GPUs, memory, disks,\n"
        "storage, clocks, network; and say what to do. Trains nothing and leaves nothing behind.",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=os.environ.get("RAY_ADDRESS"),
        help="the Ray cluster to look at (default: RAY_ADDRESS, or a Ray of its own here)",
    )
    flags.add_storage(parser)
    parser.add_argument(
        "--device",
        choices=flags.DEVICES,
        default="auto",
        help="what you mean to train on; cuda: a cluster without GPUs is a problem (default: auto)",
    )
    parser.add_argument("--verbose", action="store_true", help="show Ray's own log too")
    flags.add_output(parser)
    parser.add_argument(
        "--json",
        action="store_const",
        const="json",
        dest="format",
        help="the same as --format json",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Examine; gives 0, or 1 if there are problems."""
    arguments = build_parser().read(argv)
    from raymd.commands.output import check_output, write_output

    check_output(arguments.output)
    # only now: Ray and pyarrow take seconds to import, and a mistake needs none
    from raymd.execution.doctor.examine import examine
    from raymd.execution.doctor.finding import count

    examination = examine(
        arguments.storage,
        address=arguments.address,
        device=arguments.device,
        verbose=arguments.verbose,
        say=lambda text: print(without_secrets(f"{text} ..."), file=sys.stderr, flush=True),
    )
    write_output(_text(examination, arguments), path=arguments.output)
    return 1 if count(examination.findings, "problem") else 0


def _text(examination: "Examination", arguments: argparse.Namespace) -> str:
    from raymd.commands.findings_table import finding_parts
    from raymd.commands.output import as_csv, as_json, as_text
    from raymd.execution.doctor.finding import count

    findings = [asdict(finding) for finding in examination.findings]
    if arguments.format == "csv":
        return as_csv(findings, columns=COLUMNS)
    if arguments.format == "json":
        return as_json(
            {
                "where": examination.where,
                "storage": arguments.storage,
                "nodes": examination.nodes,
                "problems": count(examination.findings, "problem"),
                "warnings": count(examination.findings, "warning"),
                "findings": findings,
            }
        )
    return as_text(finding_parts(examination), path=arguments.output)
