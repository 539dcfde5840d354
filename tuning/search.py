"""`python -m tuning.search`: search settings of raymd with Ray Tune.

    python -m tuning.search --space tuning/spaces/default.yaml --dataset cifar10 --samples 20
    python -m tuning.search --space tuning/spaces/quick.yaml          # minutes, on two CPU cores
    python -m tuning.search --resume --name NAME                      # after anything
    python -m tuning.search --resume auto --name NAME --space FILE    # for queues: begin or go on

Place on the data's way: in front of many runs. Flags and a space file enter; a table, search.json
and ordinary runs leave (docs/tuning.md). Exit codes are raymd's, and 1 if no point finished.
"""

import sys
from collections.abc import Sequence

from raymd.cli import run_command
from tuning.hpo.decide import choose_algorithm, read_checked_space
from tuning.hpo.flags import Asked, check_resumable, read_flags


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 with a point chosen, 1 without, 2 for a mistake, 130 when interrupted.

    Args:
        argv: The words after the command; default: the process's own.
    """
    return run_command(
        lambda words: run(read_flags(words)),
        argv,
        name="search",
        interrupted="interrupted; --resume goes on with it",
    )


def run(asked: Asked) -> int:
    """Begin a search or go on with one, and report it; gives back the exit code."""
    if asked.resume == "true":
        check_resumable(asked)
    # an automatic one is typed as it was begun, by a queue that starts it again
    if asked.resume == "true" or (asked.resume == "auto" and was_begun(asked)):
        from tuning.hpo.session import go_on

        return go_on(asked)
    space, configs = read_checked_space(asked)
    choose_algorithm(asked, space)
    # only now: torch and Ray take seconds to import, and a mistake needs neither
    from tuning.hpo.session import begin

    return begin(asked, space, configs)


def was_begun(asked: Asked) -> bool:
    """Whether the named search is there to go on with."""
    from raymd.storage import Storage
    from tuning.hpo.plan import begun

    return begun(Storage.at(asked.storage), str(asked.name)) is not None


if __name__ == "__main__":
    sys.exit(main())
