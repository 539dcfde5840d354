"""`raymd clean [RUN ...]`: list, or remove, what interrupted and crashed runs left behind.

    raymd clean                           # what there is; removes nothing
    raymd clean --yes
    raymd clean --run NAME --all --yes    # a whole run, with its results

Place on the data's way: beside it. What may go of files is leftovers.py's to say; of Ray on this
machine and of actors in a cluster, execution/remains.py's.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raymd.commands import flags
from raymd.errors import UserError
from raymd.secrets import without_secrets

if TYPE_CHECKING:
    from raymd.commands.leftovers import GoingOn, Leftover
    from raymd.execution.remains import Remains

DEFAULT_IDLE_MIN = 60
COLUMNS = ("place", "name", "what", "bytes", "removed")


def build_parser() -> flags.Parser:
    """The verb's flags."""
    parser = flags.Parser(
        "clean",
        "List what interrupted and crashed runs left behind: files and, unless runs are named,\n"
        "Ray's sessions on this machine, and actors in a cluster, whose driver is gone. --yes\n"
        "removes it. Results stay, and so does what --resume needs.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="*", help="names of runs (default: all)")
    parser.add_argument(
        "--run", metavar="NAME", action="append", default=[], help="the same as RUN"
    )
    flags.add_storage(parser)
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=os.environ.get("RAY_ADDRESS"),
        help="the Ray cluster to look into (default: RAY_ADDRESS, or one started on this machine)",
    )
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
    with _ray_remains(None if names else arguments) as remains:
        leftovers: list[Leftover | Remains] = [*found.leftovers, *remains]
        failed = _remove(leftovers) if arguments.yes else ()
    _print(leftovers, found.going_on, failed, storage.uri, arguments)
    return 1 if failed else 0


@contextmanager
def _ray_remains(arguments: argparse.Namespace | None) -> "Iterator[list[Remains]]":
    """What lies in Ray, on this machine and in a cluster; nothing if not asked for."""
    if arguments is None:
        yield []
        return
    from raymd.execution.remains import in_cluster, on_machine

    with in_cluster(arguments.address) as actors:
        yield [*on_machine(), *actors]


def _remove(leftovers: "Sequence[Leftover | Remains]") -> tuple[str, ...]:
    """Remove what was found; the names of what could not be, each told on stderr."""
    failed = []
    for leftover in leftovers:
        try:
            leftover.remove()
        except OSError as error:
            failed.append(leftover.name)
            text = f"raymd: {leftover.name} cannot be removed: {error}"
            print(without_secrets(text), file=sys.stderr)
    return tuple(failed)


def _is_plain(name: str) -> bool:
    return "/" not in name and name not in ("", ".", "..")


def _print(
    leftovers: "Sequence[Leftover | Remains]",
    going_on: "Sequence[GoingOn]",
    failed: Sequence[str],
    storage: str,
    arguments: argparse.Namespace,
) -> None:
    from raymd.commands.output import as_csv, as_json, write_output

    rows = [
        {
            "place": leftover.place,
            "name": leftover.name,
            "what": leftover.why,
            "bytes": leftover.num_bytes,
            "removed": arguments.yes and leftover.name not in failed,
        }
        for leftover in leftovers
    ]
    if arguments.format == "csv":
        text = as_csv(rows, columns=COLUMNS)
    elif arguments.format == "json":
        runs = [{"run": run.run, "seconds_since_write": run.age_s} for run in going_on]
        text = as_json({"storage": storage, "leftovers": rows, "going_on": runs})
    else:
        text = _as_lines(rows, going_on, storage, yes=arguments.yes)
    write_output(text, path=None)


def _as_lines(
    rows: list[dict[str, Any]], going_on: "Sequence[GoingOn]", storage: str, *, yes: bool
) -> str:
    from raymd.view.text import duration, num_bytes

    lines = [f"{num_bytes(row['bytes']):>9}  {row['name']}  ({row['what']})" for row in rows]
    lines += [
        f"left alone: {run.run}, which wrote {duration(run.age_s)} ago and may be going on"
        " (--idle_min)"
        for run in going_on
    ]
    where = f" in {storage}" if all(row["place"] == "storage" for row in rows) else ""
    if not rows:
        lines.append(f"nothing to clean in {storage}")
    elif yes:
        removed = sum(row["bytes"] for row in rows if row["removed"])
        lines.append(f"{num_bytes(removed)}{where} removed")
    else:
        total = num_bytes(sum(row["bytes"] for row in rows))
        lines.append(f"{total}{where}; --yes removes what is listed")
    return "\n".join(lines) + "\n"
