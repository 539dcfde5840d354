"""Waiting for what another process does. Imports nothing, so that helpers may too."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 120.0  # a loaded machine takes its time; nothing waits longer than it has to


def wait_until(
    condition: Callable[[], Any],
    what: str,
    *,
    timeout_s: float = PATIENCE_S,
    pause_s: float = 0.02,
) -> Any:
    """The condition's value once it is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(pause_s)
    raise AssertionError(f"{timeout_s:.0f} s went by without {what}")
