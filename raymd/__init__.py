"""raymd trains different image classifiers together on Ray, so that each ends up better.

    import raymd
    result = raymd.fit(raymd.FitConfig(students="resnet18,resnet50"))

This file is the public face and nothing more. It imports neither torch nor Ray: each name is
loaded when it is first used, so that ``--help``, a refused flag or reading a result stay quick.
"""

import importlib
import sys
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from raymd.config import FitConfig
    from raymd.data import register_dataset
    from raymd.deploy import load_ensemble, load_student
    from raymd.models import register_model
    from raymd.result import Result

__all__ = [
    "FitConfig",
    "Result",
    "fit",
    "load_ensemble",
    "load_student",
    "register_dataset",
    "register_model",
]

__version__ = version("raymd")

_HOME = {
    "FitConfig": "raymd.config",
    "Result": "raymd.result",
    "load_ensemble": "raymd.deploy",
    "load_student": "raymd.deploy",
    "register_dataset": "raymd.data",
    "register_model": "raymd.models",
}


def fit(
    config: "FitConfig",
    *,
    console: "Console | None" = None,
    on_event: "Callable[[Mapping[str, Any]], None] | None" = None,
) -> "Result":
    """Train the students of a configuration together, on Ray.

    A Ray that this process is connected to already is used, and never shut down; so is the
    cluster of ``RAY_ADDRESS``. Otherwise one is started on this machine and ended again.

    Args:
        config: What to train, on what, and where the results go.
        console: Where people read; the terminal by default.
        on_event: Takes every event of the run (docs/events.md), in the calling thread.

    Returns:
        The result, as result.json in the run directory holds it.

    Raises:
        RaymdError: What was refused or went wrong, with its remedy.
    """
    from raymd.execution.run import fit as fit_on_ray

    return fit_on_ray(config, console=console, on_event=on_event)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'raymd' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps ``raymd.fit`` the function.

    raymd/fit.py, the command line, has the name that the function has to have. When a submodule
    is imported Python sets it as an attribute of its package, which would put the module in the
    function's place as soon as anyone imports raymd.fit. That one assignment is passed over; the
    module is reached as `python -m raymd.fit` and `from raymd.fit import main`.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name == "fit" and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
