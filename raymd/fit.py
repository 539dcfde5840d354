"""`python -m raymd.fit`: train students together; flags and YAML in, a printed Result out.

    python -m raymd.fit --students resnet8,resnet20 --dataset digits
    python -m raymd.fit --config study.yaml --t 4        # a flag goes over the file
    python -m raymd.fit --config study.yaml --plan       # what it would do, without training

Place on the data's way: its beginning. Flags go over the YAML file, which goes over the recipe;
config.py reads and checks all values, so a mistake is answered alike wherever it was made, in one
line, before torch or Ray are imported.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from raymd.cli import run_command
from raymd.config import EXAMPLE, FitConfig, commented_yaml, ordered_fields, parse_yaml
from raymd.errors import UserError, nearest
from raymd.fields import about_of, flag, kind_of, metavar
from raymd.student_options import OPTIONS, merge_students

STOPPED = "interrupted; --resume goes on with a run that had begun"
NO_DATASET = (
    f"dataset {FitConfig.dataset}: none was given (--dataset cifar10, --dataset folder:DIR)"
)
STUDENT = "student"
ACTIONS = ("plan", "json", "print_config")


class _Parser(argparse.ArgumentParser):
    """argparse, with its complaints as UserErrors."""

    def error(self, message: str) -> NoReturn:
        raise UserError(_in_our_words(message))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all flags; every value stays a text, which FitConfig reads."""
    parser = _Parser(
        prog="raymd fit",
        description="Train different image classifiers together so that each ends up better than"
        f" it would alone. Shortest: raymd fit {EXAMPLE} (or python -m raymd.fit)",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; flags go over it")
    parser.add_argument(
        "--plan", action="store_true", help="print what the run would do and need; train nothing"
    )
    parser.add_argument(
        "--print_config", action="store_true", help="print all settings as YAML for --config"
    )
    parser.add_argument("--json", action="store_true", help="the same as --view json")
    run = parser.add_argument_group("the run")
    students = parser.add_argument_group(
        "training", "for all students; for one of them: --student.resnet50.lr 0.05"
    )
    for entry in ordered_fields():
        if entry.name != STUDENT:
            _add_flag(students if entry.name in OPTIONS else run, entry)
    return parser


def _add_flag(parser: "argparse._ArgumentGroup", entry: "dataclasses.Field[Any]") -> None:
    notes = [about_of(entry).limits()]
    if entry.default is not dataclasses.MISSING and entry.default not in (None, False, "false"):
        notes.append(f"default: {entry.default}")
    text = " ".join([about_of(entry).help, *(f"({note})" for note in notes if note)])
    switch = kind_of(entry) is bool or entry.name == "resume"
    optional: dict[str, Any] = {"nargs": "?", "const": "true"} if switch else {}
    parser.add_argument(
        flag(entry), metavar=metavar(entry), help=text.replace("%", "%%"), **optional
    )


def read_settings(
    argv: Sequence[str], *, parser: argparse.ArgumentParser | None = None
) -> dict[str, Any]:
    """The settings that flags and their YAML file name, unread as yet; defaults are not among them.

    ACTIONS that were asked for are among them, as True.

    Args:
        argv: The words after the command.
        parser: One with more flags than build_parser's, whose values come along.

    Raises:
        UserError: An unknown flag, one without its value, or a file that cannot be read.
        SystemExit: ``--help`` was asked for and printed.
    """
    words, students = _split_students(argv)
    parser = parser or build_parser()
    _refuse_unknown_flags(words, parser)
    given = vars(parser.parse_args(words))
    path = given.pop("config", None)
    settings: dict[str, Any] = {} if path is None else _read_yaml_file(path)
    if given.pop("json", False):
        given["view"] = "json"
    merged = {**settings, **given}
    if students:
        merged[STUDENT] = merge_students(settings.get(STUDENT), students)
    return merged


def _split_students(argv: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """The other words, and ``{id: {option: text}}`` of ``--student.ID.OPTION`` flags.

    Ids may hold dots, options do not.
    """
    words, students = [], dict[str, dict[str, Any]]()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith(f"--{STUDENT}."):
            words.append(word)
            continue
        name, equals, value = word.partition("=")
        student, _, option = name.removeprefix(f"--{STUDENT}.").rpartition(".")
        if not student:
            raise UserError(
                f"{name}: takes a student's id and an option, such as --student.resnet50.lr 0.05"
            )
        if not equals:
            value = _value_of(name, option, rest)
        students.setdefault(student, {})[option] = value
    return words, students


def _value_of(name: str, option: str, rest: list[str]) -> str:
    if rest and not rest[0].startswith("--"):
        return rest.pop(0)
    if option in OPTIONS and kind_of(FitConfig.__dataclass_fields__[option]) is bool:
        return "true"
    raise UserError(f"{name} needs a value after it")


def _refuse_unknown_flags(argv: Sequence[str], parser: argparse.ArgumentParser) -> None:
    flags = [name for action in parser._actions for name in action.option_strings]
    known = [name.removeprefix("--") for name in flags if name.startswith("--")]
    for word in argv:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and name == STUDENT:
            raise UserError(
                "unknown flag --student: did you mean --students, or --student.ID.OPTION for one of"
                " them (--student.resnet50.lr 0.05)?"
            )
        if word.startswith("--") and name not in known:
            near = nearest(name, known, cutoff=0.6)
            hint = f"did you mean {' or '.join(f'--{n}' for n in near)}?" if near else "see --help"
            raise UserError(f"unknown flag --{name}: {hint}")


def _in_our_words(message: str) -> str:
    text = " ".join(message.split())
    if valueless := re.fullmatch(r"argument (--\w+): expected one argument", text):
        name = valueless[1]
        return f"{name} needs a value after it ({name}=VALUE if the value begins with '-')"
    if stray := re.fullmatch(r"unrecognized arguments: (.*)", text):
        return (
            f"no flag before {stray[1]!r}: every setting has one, and names are given with commas"
            f" and no spaces between ({EXAMPLE})"
        )
    return text


def _read_yaml_file(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not a text file"
        raise UserError(f"{path}: {reason} (--config takes a YAML file)") from error
    return parse_yaml(text)


def _saved_settings(settings: dict[str, Any]) -> dict[str, Any]:
    from raymd.runs import saved_settings  # pyarrow underneath, which --help has no use for

    return saved_settings(settings)


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 after a run, 2 for a mistake of the user's, 1 for what went wrong later.

    Args:
        argv: The words after the command; default: the process's own.
    """
    return run_command(_run, argv, interrupted=STOPPED)


def _run(words: Sequence[str]) -> int:
    settings = read_settings(words)
    actions = {name for name in ACTIONS if settings.pop(name, False)}
    if str(settings.get("resume")).lower() in ("true", "auto"):
        settings = _saved_settings(settings)
    config = FitConfig.from_mapping(settings)
    if "print_config" in actions:
        print(commented_yaml(config), end="")
        return 0
    if "dataset" not in settings and config.view not in ("json", "none"):
        print(NO_DATASET)
    # only now: torch and Ray take seconds to import, and a mistake needs neither
    if "plan" in actions:
        from raymd.execution.preview import show_plan

        show_plan(config)
    else:
        from raymd.execution.run import fit

        fit(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
