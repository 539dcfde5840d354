"""`raymd VERB`: one command for everything; also `python -m raymd VERB`.

    raymd fit --students resnet18,resnet50
    raymd predict latest photo.jpg

Place on the data's way: in front of it. The words after the verb enter its module's main, an exit
code leaves. Only the module of the verb asked for is imported, and none of them imports torch, Ray
or pyarrow before its flags are checked.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import NamedTuple

from raymd.errors import RaymdError, UserError, unknown_name

USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Verb(NamedTuple):
    """One verb: its module, whose ``main(argv)`` gives the exit code, and its line in the help."""

    module: str
    about: str


VERBS = {
    "fit": Verb("raymd.fit", "train students together"),
    "plan": Verb("raymd.commands.plan", "what a fit would do and need, without training"),
    "predict": Verb("raymd.commands.predict", "classify images with a finished run"),
    "evaluate": Verb("raymd.commands.evaluate", "measure a finished run on its test images"),
    "doctor": Verb(
        "raymd.commands.doctor", "look for what would stand in a run's way, on all nodes"
    ),
    "clean": Verb("raymd.commands.clean", "list or remove what interrupted runs left behind"),
    "pack": Verb("raymd.commands.pack", "make Arrow files of images, to train on ImageNet"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 when done, 2 for a mistake of the user's, 1 for what went wrong later.

    Args:
        argv: The words after the command; default: the process's own.
    """
    return run_command(_run, argv)


def run_command(
    body: Callable[[list[str]], int],
    argv: Sequence[str] | None,
    *,
    name: str = "raymd",
    interrupted: str = "interrupted",
) -> int:
    """Run what a command does, and tell on standard error how it failed, in a line of its own.

    Args:
        body: Takes the words after the command and gives back the exit code.
        argv: These words; None: the process's own.
        name: Of the command, in front of the line.
        interrupted: What to say after Ctrl-C.

    Returns:
        The body's exit code, or that of what it raised.
    """
    try:
        code = body(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()  # here, so that a reader that has gone is noticed inside the try
    except RaymdError as error:
        kind = "" if error.exit_code == INTERRUPTED else "error: "
        print(f"{name}: {kind}{' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `raymd … | head` has read enough; Python would complain once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _run(words: Sequence[str]) -> int:
    if not words:
        print(help_text(), end="", file=sys.stderr)
        return USAGE_ERROR
    name, *rest = words
    if name in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0
    if name == "--version":
        print(f"raymd {version('raymd')}")
        return 0
    return _main_of(name)(rest)


def _main_of(name: str) -> Callable[[Sequence[str]], int]:
    if name.startswith("-"):
        raise UserError(f"{name} stands before any verb; verbs are {', '.join(VERBS)}")
    if name not in VERBS:
        raise unknown_name("verb", name, VERBS, flag="raymd --help")
    found: Callable[[Sequence[str]], int] = importlib.import_module(VERBS[name].module).main
    return found


def help_text() -> str:
    """What ``raymd --help`` prints."""
    width = max(map(len, VERBS))
    verbs = "".join(f"  {name:<{width}}  {verb.about}\n" for name, verb in VERBS.items())
    return (
        "usage: raymd VERB ...\n\n"
        "Train different image classifiers together so that each ends up better than alone.\n\n"
        f"{verbs}\n"
        "raymd VERB --help lists a verb's flags; raymd --version tells the version.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
