"""The commands and Python of README.md, cluster/README.md and docs/*.md.

A fenced block is marked as not to be run by ``<!-- not run: REASON -->`` in the line above it, a
single command by ``# not run: REASON`` at its end, Python by the same in its first line. A block
whose first line is ``# NAME.yaml`` or ``# NAME.py`` is a file that the page's commands find.
"""

import re
import shlex
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tests.docs.messages import ROOT

PAGES = (
    "README.md",
    "cluster/README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)
NOT_RUN = "not run: "
_FENCE = re.compile(
    rf"^(?:<!-- {NOT_RUN}(?P<reason>.+?) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# (?P<name>[\w.-]+\.(?:yaml|py))\n")
SHELL_SIGNS = "();<>|&"


@dataclass(frozen=True)
class Block:
    """One fenced block: its kind ("bash", …), its text, and why it is not run."""

    kind: str
    text: str
    reason: str | None

    @property
    def file(self) -> str | None:
        """The name of the file that it is."""
        match = _FILE.match(self.text)
        return match["name"] if match else None

    @property
    def runs(self) -> bool:
        """Whether anything of it is to be run."""
        first = self.text.partition("\n")[0]
        return self.reason is None and not first.startswith(f"# {NOT_RUN}")

    def commands(self) -> list[str]:
        """Its commands, a line each; those that go on in the next line are joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page that name their kind, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(m["kind"], m["text"], m["reason"]) for m in _FENCE.finditer(text)]


def is_run(command: str) -> bool:
    """Whether a command has no mark of its own."""
    return f"# {NOT_RUN}" not in command


def raymd_words(line: str) -> list[list[str]]:
    """The words after ``raymd`` in each of its commands; ``python -m raymd.fit`` is raymd's fit."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    found = []
    for is_sign, group in groupby(words, key=lambda word: set(word) <= set(SHELL_SIGNS)):
        command = list(group)
        if command[0] == "srun":
            command.pop(0)
        if command[:3] == ["python", "-m", "raymd.fit"]:
            command[:3] = ["raymd", "fit"]
        if not is_sign and command[0] == "raymd":
            found.append(command[1:])
    return found


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page's blocks are."""
    for block in blocks(page):
        if block.file is not None:
            (folder / block.file).write_text(block.text, encoding="utf-8")
