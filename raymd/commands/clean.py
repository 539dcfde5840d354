"""`raymd clean [RUN ...]`: list, or remove, what interrupted and crashed runs left behind.

    raymd clean                           # what there is; removes nothing
    raymd clean --yes
    raymd clean --run NAME --all --yes    # a whole run, with its results

Place on the data's way: beside it; see leftovers.py for what may go.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raymd.commands import flags
from raymd.errors import UserError

if TYPE_CHECKING:
    from raymd.commands.leftovers import Found
    from raymd.storage import Storage

DEFAULT_IDLE_MIN = 60
COLUMNS = ("name", "what", "bytes", "removed")


def build_parser() -> flags.Parser:
    """The verb's flags."""
    parser = flags.Parser(
        "clean",
        "List what interrupted and crashed runs left behind; --yes removes it. Results stay, and\n"
        "so does what --resume needs.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="*", help="names of runs (default: all)")
    parser.add_argument(
        "--run", metavar="NAME", action="append", default=[], help="the same as RUN"
    )
    flags.add_storage(parser)
    parser.add_argument("--yes", action="store_true", help="remove what is listed")
    parser.add_argument(
        "--all", action="store_true", help="whole runs, with their results; names are needed"
    )
    parser.add_argument(
        "--idle_min",
        metavar="MINUTES",
        type=flags.at_least(0),
        default=DEFAULT_IDLE_MIN,
        help="a run without a result counts as going on, and is left alone, until it wrote nothing"
        " for so long, and at least for twice its checkpoint_every; 0: none is going on"
        f" (default: {DEFAULT_IDLE_MIN})",
    )
    parser.add_argument("--format", choices=flags.FORMATS, default="table", help="default: table")
    return parser


def main(argv: Sequence[str]) -> int:
    """List, or remove; gives 0, or 1 if something could not be removed."""
    arguments = build_parser().read(argv)
    names = [*arguments.runs, *arguments.run]
    if arguments.all and not names:
        raise UserError("--all removes whole runs; name them (--run NAME)")
    if bad := [name for name in names if not _is_plain(name)]:
        raise UserError(
            f"{bad[0]!r}: takes the name of a run's folder; the folder around it is --storage"
        )
    # only now: pyarrow takes a while to import, and a mistake needs none
    from raymd.commands.leftovers import find_leftovers
    from raymd.storage import Storage

    storage = Storage.at(arguments.storage)
    found = find_leftovers(
        storage,
        runs=list(dict.fromkeys(names)) or None,
        idle_s=60.0 * arguments.idle_min,
        whole=arguments.all,
    )
    if names and arguments.all and found.going_on:
        run = found.going_on[0]
        raise UserError(
            f"run {run.run!r} wrote {run.age_s:.0f} s ago and has no result, so it may be going on;"
            " stop it first (--idle_min 0 if it is stopped)"
        )
    failed = _remove(storage, found) if arguments.yes else ()
    _print(found, failed, storage.uri, arguments)
    return 1 if failed else 0


def _remove(storage: "Storage", found: "Found") -> tuple[str, ...]:
    """Remove what was found; the names of what could not be, each told on stderr."""
    failed = []
    for leftover in found.leftovers:
        try:
            storage.delete(leftover.name)
        except OSError as error:
            failed.append(leftover.name)
            print(f"raymd: {leftover.name} cannot be removed: {error}", file=sys.stderr)
    return tuple(failed)


def _is_plain(name: str) -> bool:
    return "/" not in name and name not in ("", ".", "..")


def _print(
    found: "Found", failed: Sequence[str], storage: str, arguments: argparse.Namespace
) -> None:
    from raymd.commands.output import as_csv, as_json, write_output

    rows = [
        {
            "name": leftover.name,
            "what": leftover.why,
            "bytes": leftover.num_bytes,
            "removed": arguments.yes and leftover.name not in failed,
        }
        for leftover in found.leftovers
    ]
    if arguments.format == "csv":
        text = as_csv(rows, columns=COLUMNS)
    elif arguments.format == "json":
        going_on = [{"run": run.run, "seconds_since_write": run.age_s} for run in found.going_on]
        text = as_json({"storage": storage, "leftovers": rows, "going_on": going_on})
    else:
        text = _as_lines(rows, found, storage, yes=arguments.yes)
    write_output(text, path=None)


def _as_lines(rows: list[dict[str, Any]], found: "Found", storage: str, *, yes: bool) -> str:
    from raymd.view.text import duration, num_bytes

    lines = [f"{num_bytes(row['bytes']):>9}  {row['name']}  ({row['what']})" for row in rows]
    lines += [
        f"left alone: {run.run}, which wrote {duration(run.age_s)} ago and may be going on"
        " (--idle_min)"
        for run in found.going_on
    ]
    if not rows:
        lines.append(f"nothing to clean in {storage}")
    elif yes:
        removed = sum(row["bytes"] for row in rows if row["removed"])
        lines.append(f"{num_bytes(removed)} in {storage} removed")
    else:
        total = num_bytes(sum(row["bytes"] for row in rows))
        lines.append(f"{total} in {storage}; --yes removes what is listed")
    return "\n".join(lines) + "\n"
