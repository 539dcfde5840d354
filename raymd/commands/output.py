"""What a command found, as a table, CSV or JSON, in the terminal or in a file."""

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from raymd.errors import UserError
from raymd.secrets import without_secrets

LOG_COLUMNS = 120


def check_output(path: str | None) -> None:
    """Refuse a file that could not be written, before anything is computed.

    Raises:
        UserError: naming --output.
    """
    if path is None:
        return
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder; --output takes a file")
    if not Path(path).parent.is_dir():
        raise UserError(f"{path}: no folder {Path(path).parent} to write it to (--output)")


def write_output(text: str, *, path: str | None) -> None:
    """Print the text, or write it to the file, without credentials of a storage's URI.

    Raises:
        UserError: the file cannot be written.
    """
    text = without_secrets(text)
    if path is None:
        sys.stdout.write(text)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror} (--output)") from error


def as_json(document: Mapping[str, Any]) -> str:
    """JSON; what is not a number becomes null, as JSON has no text for it."""
    return json.dumps(_finite(document), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str]) -> str:
    """CSV with a header; None becomes an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_text(parts: Sequence[RenderableType], *, path: str | None) -> str:
    """Tables and sentences, each followed by an empty line; as wide as the terminal or the log."""
    to_terminal = path is None and sys.stdout.isatty()
    text = io.StringIO()
    console = Console(
        file=text,
        highlight=False,
        force_terminal=to_terminal,
        width=None if to_terminal else LOG_COLUMNS,
    )
    for n, part in enumerate(parts):
        if n:
            console.print()
        console.print(part, soft_wrap=isinstance(part, Text))
    return text.getvalue()
