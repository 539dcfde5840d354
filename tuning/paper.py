"""`python -m tuning.paper STUDY`: the paper's tables and figures, run again.

    python -m tuning.paper table1 --scale smoke
    python -m tuning.paper table3 --scale small --dataset parquet:cifar10 --background
    python -m tuning.paper table4 --scale full --dry_run        # what it would cost

Place on the data's way: around it. A study's name and scale enter, runs of raymd are made or read
(points.py), tables and figures leave: on the terminal, and as study.json in the study's folder.
Flags that are not the study's own go to every run, as `raymd fit` takes them.
"""

import json
import sys
from collections.abc import Sequence
from functools import partial

from raymd.cli import run_command
from raymd.errors import RaymdError, UserError
from raymd.storage import Storage
from raymd.view.text import count_of
from tuning.study import background
from tuning.study.costs import cost_lines, point_lines
from tuning.study.figures import write_figures
from tuning.study.flags import Asked, read_command
from tuning.study.points import config_of
from tuning.study.report import document
from tuning.study.running import Runner, read_all
from tuning.study.scales import check_has_data
from tuning.study.tables import show as show_tables

DOCUMENT = "study.json"


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 when done, 2 for a mistake of the user's, 1 for what went wrong later.

    Args:
        argv: The words after the command; default: the process's own.
    """
    return run_command(
        _run,
        argv,
        name="paper",
        interrupted="interrupted; the same command again goes on",
    )


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
    asked.base.check_writable()
    if arguments.background:
        return _in_background([word for word in words if word != "--background"], asked)
    with background.alone(asked.folder) as is_alone:
        if not is_alone:
            return _told_running(asked)
        return _run_and_show(asked)


def check_points(asked: Asked) -> None:
    """UserError if one of the study's runs cannot be, before any has begun."""
    for point in asked.study.points():
        config_of(point, 0, base=asked.base, extra=asked.extra)


def _in_background(words: list[str], asked: Asked) -> int:
    if background.is_running(asked.folder):
        return _told_running(asked)
    if not _runner(asked).missing():
        show(asked)
        return 0
    process = background.detach(words, asked.folder)
    log = asked.folder / background.LOG
    if process.poll() is not None:
        print(f"process {process.pid} has ended with exit code {process.returncode}; see {log}")
        return process.returncode
    print(f"process {process.pid} goes on in the background; log: {log}")
    print("the same command again shows its progress")
    return 0


def _told_running(asked: Asked) -> int:
    pid = background.running_pid(asked.folder)
    show(asked)
    log = asked.folder / background.LOG
    print(f"process {pid} is running this study; if it is in the background its log is {log}")
    return 0


def _runner(asked: Asked) -> Runner:
    say = partial(print, flush=True)
    return Runner(asked.study, asked.seeds, asked.base, asked.extra, announce=say)


def _run_and_show(asked: Asked) -> int:
    runner = _runner(asked)
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
    from raymd.execution.telling import new_console  # torch underneath, which mistakes do not need

    outcomes = read_all(asked.study, asked.seeds, asked.base)
    found = document(asked.study, outcomes)
    text = json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    console = new_console()
    show_tables(console, found)
    if not found["runs"]["done"]:
        return
    Storage.at(asked.folder).write(DOCUMENT, text.encode())
    for path in write_figures(asked.study, outcomes, folder=asked.folder):
        console.print(f"figure: {path}", soft_wrap=True)
    console.print(f"all numbers: {asked.folder / DOCUMENT}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
