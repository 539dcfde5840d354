"""Every message that raymd raises, read from its source, with "…" where values stand.

    python -m tests.docs.messages        # a line for each: file, exception, message

An f-string's constants of the same module are filled in. A message that a function of the same
module writes is what that function returns; one that only passes on another's text is none.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
VALUE = "…"
# these two become part of raymd's errors
OTHERS = ("UnreadableImageError", "ArgumentTypeError")
UNKNOWN_NAME = "unknown_name"


@dataclass(frozen=True)
class Message:
    """One message: its file and line, its exception, and its text with "…" for values."""

    place: str
    error: str
    text: str


def all_messages() -> list[Message]:
    """Of all modules, in their order."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(ROOT.glob("raymd/**/*.py"))}
    errors = error_names(trees.values())
    found = []
    for path, tree in trees.items():
        module = Module(tree)
        name = path.relative_to(ROOT).as_posix()
        for call, scope in module.calls():
            if called(call) in errors and call.args:
                texts = module.texts(call.args[0], scope)
            elif called(call) == UNKNOWN_NAME:
                texts = {module.unknown_name(call)}
            else:
                continue
            place = f"{name}:{call.lineno}"
            found += [Message(place, called(call), text) for text in sorted(texts) if says(text)]
    return found


def error_names(trees) -> set[str]:
    """RaymdError and all that inherits from it, and OTHERS."""
    names = {"RaymdError", *OTHERS}
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while True:
        more = {c.name for c in classes if {getattr(base, "id", "") for base in c.bases} & names}
        if more <= names:
            return names
        names |= more


def called(call: ast.Call) -> str:
    """The name called, without what stands before its last dot."""
    return getattr(call.func, "id", "") or getattr(call.func, "attr", "")


def says(text: str) -> bool:
    """Whether a message says anything of its own."""
    return re.search(r"[a-z]{2}", text) is not None


class Module:
    """What the messages of one module are made of."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        self.constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value.value, str)
        }

    def calls(self) -> Iterator[tuple[ast.Call, ast.FunctionDef | None]]:
        """Every call, with the innermost function around it."""
        scopes: dict[ast.Call, ast.FunctionDef | None] = {}
        # ast.walk comes to what is inside later, so the innermost function stays
        for scope in (None, *(n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef))):
            for node in ast.walk(scope or self.tree):
                if isinstance(node, ast.Call):
                    scopes[node] = scope
        yield from sorted(scopes.items(), key=lambda item: item[0].lineno)

    def texts(self, node: ast.expr, scope: ast.FunctionDef | None) -> set[str]:
        """What an expression may say."""
        if isinstance(node, ast.Call) and called(node) in self.functions:
            helper = self.functions[called(node)]
            values = [n.value for n in ast.walk(helper) if isinstance(n, ast.Return) and n.value]
            return {text for value in values for text in self.texts(value, helper)}
        if isinstance(node, ast.Name) and scope is not None:
            return {text for value in assigned(scope, node.id) for text in self.texts(value, None)}
        return {tidy(self.pattern(node))}

    def pattern(self, node: ast.expr) -> str:
        """The text of a constant or f-string."""
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(map(self.pattern, node.values))
        if isinstance(node, ast.FormattedValue):
            return self.pattern(node.value)
        if isinstance(node, ast.Name):
            return self.constants.get(node.id, VALUE)
        return VALUE

    def unknown_name(self, call: ast.Call) -> str:
        """What errors.unknown_name says when it is called so."""
        (flag,) = (keyword.value for keyword in call.keywords if keyword.arg == "flag")
        return tidy(f"unknown {self.pattern(call.args[0])} {VALUE} ({self.pattern(flag)}): {VALUE}")


def assigned(scope: ast.FunctionDef, name: str) -> Iterator[ast.expr]:
    """What a function assigns to a name."""
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and name in (getattr(t, "id", "") for t in node.targets):
            yield node.value


def tidy(text: str) -> str:
    """One line, with one "…" for values that touch."""
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(f"{VALUE}+", VALUE, text)


if __name__ == "__main__":
    for message in all_messages():
        print(f"{message.place}  {message.error}\n    {message.text}")
