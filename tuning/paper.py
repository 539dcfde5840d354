"""`python -m tuning.paper STUDY`: the paper's tables and figures, run again.

    python -m tuning.paper table1 --scale smoke
    python -m tuning.paper table3 --scale small --dataset parquet:cifar10 --background
    python -m tuning.paper table4 --scale full --dry_run        # what it would cost

Place on the data's way: around it. A study's name and scale enter, runs of raymd are made or read
(points.py), tables and figures leave: on the terminal, and as study.json in the study's folder.
Flags that are not the study's own go to every run, as `raymd fit` takes them.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from raymd.cli import BROKEN_PIPE, INTERRUPTED
from raymd.commands import flags
from raymd.config import FitConfig
from raymd.data.names import absolute_dataset
from raymd.errors import RaymdError, UserError, nearest
from raymd.fields import read
from raymd.fit import read_settings
from raymd.paths import absolute_path
from raymd.storage import Storage
from raymd.view.text import count_of
from tuning import background
from tuning.costs import cost_lines, point_lines
from tuning.points import NO_SCIENCE
from tuning.scales import SCALES, check_has_data, choose_data, get_scale
from tuning.studies import STUDIES, Study, build_study, check_study

STORAGE = "runs/studies"
DOCUMENT = "study.json"
OWN_FLAGS = ("scale", "seeds", "stands_for", "dry_run", "show", "background")
# what the study itself decides of its runs
NOT_FOR_RUNS = ("students", "student", "method", "seed", "name", "resume", "config", "teachers")


@dataclass(frozen=True)
class Asked:
    """What the command was asked for.

    Attributes:
        study: With its points.
        seeds: How many, from 0.
        storage: Folder or URI of all studies.
        extra: Settings of where and how runs run.
    """

    study: Study
    seeds: tuple[int, ...]
    storage: str
    extra: dict[str, Any]

    @property
    def base(self) -> Storage:
        """The storage that holds the points."""
        return Storage.at(self.storage)

    @property
    def folder(self) -> Path:
        """The study's own folder, of this machine even where the points are in an object store."""
        root = self.base.uri if self.base.is_local else STORAGE
        names = [entry.dataset.partition(":")[0] for entry in self.study.data]
        return Path(root) / f"{self.study.name}-{self.study.scale.name}-{'-'.join(names)}"


def build_parser() -> argparse.ArgumentParser:
    """The command's own flags."""
    about = "Run the paper's tables and figures again: " + ", ".join(STUDIES)
    parser = flags.Parser("fit", about)
    parser.prog = "python -m tuning.paper"
    parser.add_argument("study", metavar="STUDY", help="; ".join(e.title for e in STUDIES.values()))
    scales = "; ".join(f"{scale.name}: {scale.about}" for scale in SCALES.values())
    parser.add_argument("--scale", default="small", help=f"{scales} (default: small)")
    parser.add_argument(
        "--seeds", type=flags.at_least(1), metavar="N", help="seeds 0 to N-1 (default: by scale)"
    )
    parser.add_argument("--dataset", metavar="SPEC", help="your data instead of the scale's")
    parser.add_argument(
        "--stands_for", metavar="NAME", help="which of the paper's data sets that one stands for"
    )
    parser.add_argument(
        "--storage", default=STORAGE, metavar="DIR", help=f"of all studies (default: {STORAGE})"
    )
    parser.add_argument("--dry_run", action="store_true", help="print costs and points; run none")
    parser.add_argument("--show", action="store_true", help="print what is there; run nothing")
    parser.add_argument(
        "--background", action="store_true", help="go on without this terminal; a log is kept"
    )
    parser.epilog = "All other flags of `raymd fit` go to every run: --device, --epochs, --lr, ..."
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 when done, 2 for a mistake of the user's, 1 for what went wrong later.

    Args:
        argv: The words after the command; default: the process's own.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        code = _run(words)
        sys.stdout.flush()  # here, so that a reader that has gone is noticed inside the try
    except RaymdError as error:
        kind = "" if error.exit_code == INTERRUPTED else "error: "
        print(f"paper: {kind}{' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("paper: interrupted; the same command again goes on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `... | head` has read enough; Python would complain once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _run(words: list[str]) -> int:
    arguments, asked = read_command(words)
    for line in cost_lines(asked.study, seeds=len(asked.seeds)):
        print(line, flush=True)
    if arguments.dry_run:
        print(*point_lines(asked.study), sep="\n")
        return 0
    if arguments.show:
        show(asked)
        return 0
    check_has_data(asked.study.data)
    check_points(asked)
    if arguments.background:
        return _in_background([word for word in words if word != "--background"], asked)
    with background.alone(asked.folder) as is_alone:
        if not is_alone:
            return _told_running(asked)
        return _run_and_show(asked)


def read_command(words: Sequence[str]) -> tuple[argparse.Namespace, Asked]:
    """The command's flags, and the study that they ask for.

    Raises:
        UserError: an unknown study, scale or flag, or a value that cannot be.
    """
    parser = build_parser()
    own, rest = _own_words(parser, list(words))
    arguments = parser.parse_intermixed_args(own)
    check_study(arguments.study)
    scale = get_scale(arguments.scale)
    said = _settings_for_runs(rest)
    dataset = arguments.dataset and absolute_dataset(arguments.dataset)
    data = choose_data(
        scale, STUDIES[arguments.study].papers, dataset=dataset, stands_for=arguments.stands_for
    )
    science = {k: v for k, v in said.items() if k not in NO_SCIENCE}
    study = build_study(arguments.study, scale, data, said=science)
    extra = {k: v for k, v in said.items() if k in NO_SCIENCE}
    seeds = tuple(range(arguments.seeds or scale.seeds))
    return arguments, Asked(study, seeds, arguments.storage, extra)


def _own_words(parser: argparse.ArgumentParser, words: list[str]) -> tuple[list[str], list[str]]:
    """The words of the study's own flags, and those for runs."""
    takes_value = {a.option_strings[-1]: a.nargs != 0 for a in parser._actions if a.option_strings}
    known = {s for a in parser._actions for s in a.option_strings}
    own, rest = list[str](), list[str]()
    to = own
    while words:
        word = words.pop(0)
        name = word.partition("=")[0]
        if name.startswith("--"):
            to = own if name in known else rest
            to.append(word)
            valued = takes_value.get(name, True) and "=" not in word
            if valued and words and not words[0].startswith("--"):
                to.append(words.pop(0))
        else:
            own.append(word)
    return own, rest


def _settings_for_runs(words: Sequence[str]) -> dict[str, Any]:
    """Settings for every run, in their types."""
    known = {entry.name: entry for entry in fields(FitConfig)}
    _refuse_unknown(words, known)
    said = read_settings(words)
    for name in said:
        if name in NOT_FOR_RUNS or name not in known:
            hint = "; --seeds N says how many" if name == "seed" else ""
            raise UserError(f"--{name}: the study says that of its runs itself{hint}")
    values = {name: read(known[name], value) for name, value in said.items()}
    if values.get("data_dir"):
        values["data_dir"] = absolute_path(values["data_dir"])
    return values


def _refuse_unknown(words: Sequence[str], known: Iterable[str]) -> None:
    """read_settings would refuse it too, but knows none of the study's own flags."""
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and "." not in name and name not in known:
            near = nearest(name, [*OWN_FLAGS, *known])
            hint = f"did you mean {' or '.join(f'--{n}' for n in near)}?" if near else "see --help"
            raise UserError(f"unknown flag --{name}: {hint}")


def check_points(asked: Asked) -> None:
    """UserError if one of the study's runs cannot be, before any has begun."""
    from tuning.points import config_of

    for point in asked.study.points():
        config_of(point, 0, base=asked.base, extra=asked.extra)


def _in_background(words: list[str], asked: Asked) -> int:
    if background.is_running(asked.folder):
        return _told_running(asked)
    pid = background.detach(words, asked.folder)
    log = asked.folder / background.LOG
    if not background.is_running(asked.folder):
        print(f"process {pid} has ended already; see {log}")
        return 1
    print(f"process {pid} goes on in the background; log: {log}; the same command shows progress")
    return 0


def _told_running(asked: Asked) -> int:
    pid = background.running_pid(asked.folder)
    show(asked)
    print(f"process {pid} is running this study; log if in the background: "
          f"{asked.folder / background.LOG}")  # fmt: skip
    return 0


def _run_and_show(asked: Asked) -> int:
    # only now: torch takes seconds to import
    from tuning.running import Runner

    say = partial(print, flush=True)
    runner = Runner(asked.study, asked.seeds, asked.base, asked.extra, announce=say)
    missing, of = len(runner.missing()), len(asked.study.points()) * len(asked.seeds)
    if missing < of:
        print(f"{of - missing} of {count_of(of, 'run')} are there already")
    try:
        runner.run()
    except (RaymdError, KeyboardInterrupt) as error:
        if not isinstance(error, UserError):
            show(asked)  # as far as it has come
        raise
    show(asked)
    return 0


def show(asked: Asked) -> None:
    """Print what is there of a study, and keep it in the study's folder."""
    from raymd.execution.telling import new_console
    from tuning.figures import write_figures
    from tuning.report import document
    from tuning.running import read_all
    from tuning.tables import show as show_tables

    outcomes = read_all(asked.study, asked.seeds, asked.base)
    found = document(asked.study, outcomes)
    asked.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    Storage.at(asked.folder).write(DOCUMENT, text.encode())
    console = new_console()
    show_tables(console, found)
    for path in write_figures(asked.study, outcomes, folder=asked.folder):
        console.print(f"figure: {path}", soft_wrap=True)
    console.print(f"all numbers: {asked.folder / DOCUMENT}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
