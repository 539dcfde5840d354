"""`python -m raymd.fit`: train students together; flags and YAML in, a printed Result out.

    python -m raymd.fit --students resnet8,resnet20 --dataset digits
    python -m raymd.fit --config study.yaml --t 4        # a flag goes over the file

Place on the data's way: its beginning. Flags go over the YAML file, which goes over the recipe;
config.py reads and checks all values, so a mistake is answered alike wherever it was made, in one
line, before torch or Ray are imported.
"""

import dataclasses
import difflib
import re
import sys
from argparse import ArgumentError, HelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from raymd.config import EXAMPLE, FitConfig, parse_yaml
from raymd.errors import RaymdError, UserError
from raymd.fields import about_of, flag, kind_of, metavar

INTERRUPTED = 130
NO_DATASET = (
    f"dataset {FitConfig.dataset}: none was given (--dataset cifar10, --dataset parquet:DIR)"
)


def build_parser() -> ArgumentParser:
    """The parser of all flags; every value stays a text, which FitConfig reads."""
    parser = ArgumentParser(
        prog="python -m raymd.fit",
        description="Train different image classifiers together so that each ends up better than"
        f" it would alone. Shortest: python -m raymd.fit {EXAMPLE}",
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; flags go over it")
    for entry in dataclasses.fields(FitConfig):
        _add_flag(parser, entry)
    return parser


def _add_flag(parser: ArgumentParser, entry: "dataclasses.Field[Any]") -> None:
    notes = [about_of(entry).limits()]
    if entry.default is not dataclasses.MISSING and entry.default not in (None, False):
        notes.append(f"default: {entry.default}")
    text = " ".join([about_of(entry).help, *(f"({note})" for note in notes if note)])
    optional: dict[str, Any] = {"nargs": "?", "const": "true"} if kind_of(entry) is bool else {}
    parser.add_argument(
        flag(entry), metavar=metavar(entry), help=text.replace("%", "%%"), **optional
    )


def read_settings(argv: Sequence[str]) -> dict[str, object]:
    """The settings that flags and their YAML file name, unread as yet; defaults are not among them.

    Raises:
        UserError: An unknown flag, one without its value, or a file that cannot be read.
        SystemExit: ``--help`` was asked for and printed.
    """
    parser = build_parser()
    _refuse_unknown_flags(argv)
    try:
        given = vars(parser.parse_args(list(argv), defaults=False))
    except ArgumentError as error:
        raise UserError(_in_our_words(error)) from error
    path = given.pop("config", None)
    settings = {} if path is None else _read_yaml_file(path)
    return {**settings, **given}


def _refuse_unknown_flags(argv: Sequence[str]) -> None:
    known = ["help", "config", *(entry.name for entry in dataclasses.fields(FitConfig))]
    for word in argv:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and name not in known:
            near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(f'--{n}' for n in near)}?" if near else "see --help"
            raise UserError(f"unknown flag --{name}: {hint}")


def _in_our_words(error: ArgumentError) -> str:
    text = " ".join(str(error).split())
    if valueless := re.fullmatch(r"argument (--\w+): expected one argument", text):
        name = valueless[1]
        return f"{name} needs a value after it ({name}=VALUE if the value begins with '-')"
    if stray := re.fullmatch(r"unrecognized arguments: (.*)", text):
        return (
            f"no flag before {stray[1]!r}: every setting has one, and names are given with commas"
            f" and no spaces between ({EXAMPLE})"
        )
    return text


def _read_yaml_file(path: str) -> dict[str, object]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not a text file"
        raise UserError(f"{path}: {reason} (--config takes a YAML file)") from error
    return parse_yaml(text)


def _saved_settings(settings: dict[str, object]) -> dict[str, object]:
    from raymd.runs import saved_settings  # pyarrow underneath, which --help has no use for

    return saved_settings(settings)


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 after a run, 2 for a mistake of the user's, 1 for what went wrong later.

    Args:
        argv: The words after the command; default: the process's own.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        settings = read_settings(words)
        if str(settings.get("resume")).lower() == "true":
            settings = _saved_settings(settings)
        config = FitConfig.from_mapping(settings)
        if "dataset" not in settings:
            print(NO_DATASET)
        # only now: torch and Ray take seconds to import, and a mistake needs neither
        from raymd.execution.run import fit

        fit(config)
    except RaymdError as error:
        kind = "" if error.exit_code == INTERRUPTED else "error: "
        print(f"raymd: {kind}{' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("raymd: interrupted; --resume goes on with the run", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
