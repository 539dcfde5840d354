"""Events for programs: one JSON object a line; docs/events.md says what is in them.

raymd fit ... --log json | jq -c 'select(.event == "epoch") | [.student, .val_accuracy]'
"""

import json
import math
from collections.abc import Mapping
from typing import Any, TextIO


class JsonLines:
    """Writes each event as a line, at once.

    Args:
        stream: Where to, such as ``sys.stdout``; nothing else should write there.
    """

    name = "json"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: Mapping[str, Any]) -> None:
        """Write an event; a number that JSON has no text for (nan, infinity) becomes null."""
        line = json.dumps(_finite(event), allow_nan=False)
        self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to do: every line is written already."""


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
