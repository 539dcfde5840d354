"""What the flags of all verbs have in common: one-line answers to mistakes, and shared flags.

Place on the data's way: words enter, an argparse namespace of checked values leaves. Imports
neither torch nor pyarrow, so that --help and mistakes are answered at once.
"""

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import NoReturn

from raymd.errors import UserError

FORMATS = ("table", "csv", "json")
WEIGHTS = ("best", "last")
DEVICES = ("auto", "cpu", "cuda", "mps")


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are UserErrors that name the nearest flag.

    Flags and names may stand in any order.
    """

    def __init__(self, verb: str, about: str) -> None:
        super().__init__(
            prog=f"raymd {verb}",
            description=about,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split()).removeprefix("argument ")
        raise UserError(f"{text} ({self.prog} --help)")

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags' values.

        Raises:
            UserError: a flag that is unknown or lacks its value, or a name too few.
            SystemExit: ``--help`` was asked for and printed.
        """
        self._refuse_unknown(argv)
        return self.parse_intermixed_args(argv)

    def _refuse_unknown(self, argv: Sequence[str]) -> None:
        known = [name for action in self._actions for name in action.option_strings]
        for word in argv:
            if word == "--":
                return
            name = word.partition("=")[0]
            if name.startswith("--") and name not in known:
                near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
                hint = f"did you mean {' or '.join(near)}?" if near else f"see {self.prog} --help"
                raise UserError(f"unknown flag {name}: {hint}")


def at_least(minimum: int) -> Callable[[str], int]:
    """Reads a whole number, as argparse's ``type``."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {minimum}")
        return number

    return read


def add_run(parser: argparse.ArgumentParser) -> None:
    """RUN and --storage."""
    parser.add_argument("run", metavar="RUN", help="a run's folder or URI, its name, or 'latest'")
    add_storage(parser)


def add_storage(parser: argparse.ArgumentParser) -> None:
    """--storage."""
    parser.add_argument(
        "--storage",
        metavar="DIR",
        default="runs",
        help="folder or URI that holds the runs (default: runs)",
    )


def add_data_cache(parser: argparse.ArgumentParser) -> None:
    """--data_cache."""
    parser.add_argument(
        "--data_cache",
        metavar="DIR",
        help="where data of an object store are kept; default: $RAYMD_DATA_CACHE, or"
        " ~/.cache/raymd/data",
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """--weights."""
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="best",
        help="of the epoch with the highest held-out accuracy, or of the last (default: best)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto: a GPU if there is one"
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """--format and --output."""
    parser.add_argument("--format", choices=FORMATS, default="table", help="default: table")
    parser.add_argument("--output", metavar="FILE", help="write there instead of to the terminal")
