"""The search's command line: its own flags beside those of `python -m raymd.fit`.

    words -> Asked

Flags of raymd.fit go over the space's ``fixed``, as they go over --config there. All are read and
checked by FitConfig.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from raymd.config import Resume
from raymd.errors import UserError, unknown_name
from raymd.fit import ACTIONS, STUDENT, build_parser, read_settings
from raymd.objectives import OBJECTIVES
from raymd.student_options import merge_students

ALGORITHMS = ("grid", "random", "optuna")
SCHEDULERS = ("none", "asha")
DEFAULT_SPACE = "tuning/spaces/default.yaml"
# Settings that have a meaning of their own here, and those that a resumed search may change.
OWN_SETTINGS = ("storage", "name", "resume")
ON_RESUME = (*OWN_SETTINGS, "address", "verbose")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says, names and numbers checked.

    Attributes:
        settings: Of raymd.fit, unread, for every point; ``storage``, ``name`` apart.
        resume: "auto": go on with the named search if there is one, or else begin it.
        own: Which of the search's own flags were given.
    """

    settings: dict[str, Any]
    own: tuple[str, ...]
    space: str | None = None
    samples: int | None = None
    algorithm: str | None = None
    scheduler: str = "none"
    seeds: int = 1
    objective: str = "mean_last"
    max_concurrent: int | None = None
    search_epochs: bool = False
    storage: str = "runs"
    name: str | None = None
    resume: Resume = "false"


def build_search_parser() -> argparse.ArgumentParser:
    """All flags; every value stays a text."""
    parser = build_parser()
    parser.prog = "python -m tuning.search"
    parser.description = (
        "Search settings of raymd with Ray Tune. Shortest: python -m tuning.search --space"
        f" {DEFAULT_SPACE} --samples 20"
    )
    own = parser.add_argument_group("the search", "flags of the runs follow from raymd fit")
    own.add_argument("--space", metavar="FILE", help="YAML file of what to search (docs/tuning.md)")
    own.add_argument("--samples", metavar="N", help="points to try; a grid tries all there are")
    own.add_argument(
        "--algorithm",
        metavar="|".join(ALGORITHMS),
        help="default: grid if the space has choices only and --samples is not given, else random",
    )
    own.add_argument(
        "--scheduler",
        metavar="|".join(SCHEDULERS),
        help="asha ends points early that are behind at the same epoch (default: none)",
    )
    own.add_argument("--seeds", metavar="K", help="paired seeds of each point (default: 1)")
    own.add_argument(
        "--objective",
        metavar="|".join(OBJECTIVES),
        help="on held-out images (default: mean_last)",
    )
    own.add_argument(
        "--max_concurrent", metavar="N", help="points at a time; default: as the cluster holds"
    )
    own.add_argument(
        "--search_epochs",
        nargs="?",
        const="true",
        metavar="true|false",
        help="let the space search the budget, which mostly finds the largest",
    )
    return parser


def read_flags(argv: Sequence[str]) -> Asked:
    """The command line.

    Raises:
        UserError: an unknown flag or name, or a wrong number; with what is allowed.
        SystemExit: ``--help`` was asked for and printed.
    """
    given = read_settings(argv, parser=build_search_parser())
    for action in ACTIONS:
        if given.pop(action, False):
            raise UserError(f"--{action} is a flag of raymd fit; a search has none such")
    own: dict[str, Any] = {}
    for name in ("space", "algorithm", "scheduler", "objective"):
        if name in given:
            own[name] = given.pop(name)
    for name in ("samples", "seeds", "max_concurrent"):
        if name in given:
            own[name] = _whole(name, given.pop(name))
    if "search_epochs" in given:
        own["search_epochs"] = _truth("search_epochs", given.pop("search_epochs"))
    _check_names(own)
    flags = tuple(own)
    if "resume" in given:
        own["resume"] = _resume(given)
        del given["resume"]
    for name in ("storage", "name"):
        if given.get(name) is not None:
            own[name] = str(given.pop(name))
    _check_settings(given)
    return Asked(settings=given, own=flags, **own)


def _whole(name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{name} {text!r}: takes a whole number, at least 1 (--{name})")
    return number


def _truth(name: str, text: str) -> bool:
    if str(text).lower() not in ("true", "false"):
        raise UserError(f"{name} {text!r}: takes true or false (--{name})")
    return str(text).lower() == "true"


def _resume(given: Mapping[str, Any]) -> Resume:
    text = str(given["resume"]).lower()
    if text not in get_args(Resume):
        raise UserError(
            f"resume {text!r}: one of {', '.join(get_args(Resume))} (--resume; auto begins the"
            " named search if there is none)"
        )
    if text == "auto" and given.get("name") is None:
        raise UserError("--resume auto: which search? (--name)")
    return cast(Resume, text)


def _check_names(own: Mapping[str, Any]) -> None:
    choices = {"algorithm": ALGORITHMS, "scheduler": SCHEDULERS, "objective": tuple(OBJECTIVES)}
    for name, known in choices.items():
        if name in own and own[name] not in known:
            raise unknown_name(name, own[name], known, flag=f"--{name}")


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name in ("view", "log"):
        if name in settings:
            raise UserError(
                f"--{name}: a search shows its points, not the runs' own views; each run's history"
                " is in its folder, and TensorBoard's files too"
            )


def check_resumable(asked: Asked) -> None:
    """See that a resumed search is told nothing that would make it another one.

    Raises:
        UserError: naming the flags.
    """
    more = [*asked.own, *(name for name in asked.settings if name not in ON_RESUME)]
    if more:
        flags = ", ".join(f"--{name}" for name in more)
        raise UserError(
            f"--resume goes on with what the search was begun with: leave out {flags}, or begin"
            " another one (--name)"
        )


def over(fixed: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flags over the space's ``fixed``."""
    merged = {**fixed, **settings}
    if STUDENT in settings:
        merged[STUDENT] = merge_students(fixed.get(STUDENT), settings[STUDENT])
    return merged
