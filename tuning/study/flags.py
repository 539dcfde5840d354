"""The words of `python -m tuning.paper`, read: which study, where, and what goes to its runs.

    words -> Asked

Flags that are not the study's own are those of `raymd fit`, in its types and with its limits.
"""

import argparse
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from raymd.commands import flags
from raymd.config import FitConfig
from raymd.data.names import absolute_dataset
from raymd.errors import UserError, nearest
from raymd.fields import read
from raymd.fit import read_settings
from raymd.paths import absolute_path
from raymd.storage import Storage
from tuning.study.groups import Study
from tuning.study.points import NO_SCIENCE
from tuning.study.scales import SCALES, choose_data, get_scale
from tuning.study.studies import STUDIES, build_study, check_study

STORAGE = "runs/studies"
OWN_FLAGS = ("scale", "seeds", "stands_for", "dry_run", "show", "background")
# what the study itself decides of its runs
NOT_FOR_RUNS = ("students", "student", "method", "seed", "name", "resume", "config", "teachers")


@dataclass(frozen=True)
class Asked:
    """What the command was asked for.

    Attributes:
        study: With its points.
        seeds: Those of its runs.
        storage: Folder or URI of all studies.
        extra: Settings of where and how runs run.
        said: Settings of the user's that change what is trained, as a text; empty without any.
    """

    study: Study
    seeds: tuple[int, ...]
    storage: str
    extra: dict[str, Any]
    said: str = ""

    @property
    def base(self) -> Storage:
        """The storage that holds the points."""
        return Storage.at(self.storage)

    @property
    def folder(self) -> Path:
        """The study's own folder, of this machine even where the points are in an object store."""
        root = self.base.uri if self.base.is_local else STORAGE
        names = [entry.dataset.partition(":")[0] for entry in self.study.data]
        words = [self.study.name, self.study.scale.name, *names]
        if self.said:  # so that a study of other settings has a folder of its own
            words.append(hashlib.sha256(self.said.encode()).hexdigest()[:6])
        return Path(root) / "-".join(words)


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
    extra = {**scale.where, **{k: v for k, v in said.items() if k in NO_SCIENCE}}
    seeds = tuple(range(arguments.seeds or scale.seeds))
    text = "" if not science and dataset is None else f"{science} {data}"
    return arguments, Asked(study, seeds, arguments.storage, extra, text)


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
    for name in ("epochs", "tin", "td", "val_fraction"):
        if name in values and values[name] is None:
            raise UserError(
                f"{name} {said[name]}: a study has to know it; takes a number (--{name})"
            )
    for name in ("data_dir", "data_cache"):
        if values.get(name):
            values[name] = absolute_path(values[name])
    return values


def _refuse_unknown(words: Sequence[str], known: Iterable[str]) -> None:
    """read_settings would refuse it too, but knows none of the study's own flags."""
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and "." not in name and name not in known:
            meant = [*OWN_FLAGS, *(n for n in known if n not in NOT_FOR_RUNS)]
            near = nearest(name, meant)
            hint = f"did you mean {' or '.join(f'--{n}' for n in near)}?" if near else "see --help"
            raise UserError(f"unknown flag --{name}: {hint}")
