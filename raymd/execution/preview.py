"""preview(): what a run would do, need and take, found out without training it.

    FitConfig -> Run (opening.py), Plan -> a few steps in Ray actors -> Preview

A few steps are taken of as many students at the same time as will train at the same time, on the
resources and threads that their workers would have, because that is how students will run. Nothing
of it is kept: no run directory, no file.
"""

import json
import time

from rich.console import Console

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.execution.cluster import alive_nodes, plan_of
from raymd.execution.foresight import Foresight
from raymd.execution.opening import Announce, open_run
from raymd.execution.ray_setup import connected
from raymd.execution.timing import measure
from raymd.storage import Storage
from raymd.view.plan_table import show_preview
from raymd.view.preview import Preview


def show_plan(config: FitConfig, *, console: Console | None = None) -> Preview:
    """What a run of this configuration would do, printed as ``--view`` says: a table, or JSON.

    Args:
        config: As for fit(); with ``resume`` the rest of that run.
        console: Where to; the terminal by default.

    Raises:
        UserError: it cannot run; with numbers and the flags to change.
    """
    console = console or Console(highlight=False)
    quiet = config.view in ("json", "none")

    def announce(text: str) -> None:
        if not quiet:
            console.print(text, soft_wrap=True, markup=False)

    foreseen = preview(config, announce=announce)
    if config.view == "json":
        console.file.write(json.dumps(foreseen.to_dict(), indent=1) + "\n")
    elif not quiet:
        show_preview(console, foreseen)
    return foreseen


def preview(config: FitConfig, *, announce: Announce = lambda _: None) -> Preview:
    """Find out what a run of this configuration would do, need and take.

    Args:
        config: As for fit(); with ``resume`` the rest of that run.
        announce: Takes a line for each choice worth knowing.

    Raises:
        UserError: it cannot run; with numbers and the flags to change.
    """
    started = time.perf_counter()
    with Storage.at(config.storage).left_as_it_was():
        run = open_run(config, announce)
        if run.result is not None:
            raise UserError(
                f"run {run.name} is finished, so nothing is left to plan; its result: "
                f"{run.storage.uri}/result.json (another --name begins a new run)"
            )
        with connected(address=config.address, verbose=config.verbose) as where:
            plan = plan_of(config, run, alive_nodes(), announce=announce)
            announce(f"cluster: {where}; taking a few steps of each student ...")
            measured = measure(run, plan)
            nodes = alive_nodes()  # an autoscaler may have brought some for it
        startup_s = measured.ready_at - started
        return Foresight(config, run, plan, where, nodes, measured, startup_s).preview()
