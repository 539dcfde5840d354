"""A measurement in a process of its own, so that no side finds what another has warmed or mapped.

A module of measurements ends with ``answer({"name": function, ...})``; ``measure(module, name,
...)`` calls one of them in a fresh process with keyword arguments of JSON, and gives back what it
returned.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MARK = "MEASURED "


def measure(module: str, name: str, **arguments: Any) -> dict[str, Any]:
    """What a function of a module measures in a fresh process."""
    # Ray's workers import what the bench defines, and must not be ended for the machine's memory
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    command = [sys.executable, "-m", module, name, json.dumps(arguments)]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in ended.stdout.splitlines() if line.startswith(MARK)]
    if ended.returncode or not lines:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ended.stdout}\n{ended.stderr}")
    figures: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return figures


def answer(functions: Mapping[str, Callable[..., Mapping[str, Any]]]) -> None:
    """Carry out what the command line of this process asks for."""
    name, arguments = sys.argv[1:]
    print(MARK + json.dumps(dict(functions[name](**json.loads(arguments)))), flush=True)
