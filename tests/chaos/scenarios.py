"""Runs that are disturbed, and how: what test_chaos.py and long.py have in common."""

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raymd.config import FitConfig
from raymd.storage import Storage
from tests.chaos.harness import DisturbedRun
from tests.chaos.victims import DRIVER, PAUSE
from tests.execution.conftest import fit_without_ray
from tests.execution.hosts import several_hosts
from tests.training.conftest import final_files

BASE = {
    "dataset": "digits",
    "precision": "fp32",
    "lr": "0.02",
    "batch_size": "32",
    "tin": "1",
    "td": "8",
    "checkpoint_every": "2s",
    "name": "chaos",
}
MOST_DELAY_S = 2.0


def resident(workers: int) -> dict[str, str]:
    """Settings that hold all workers of a run at once."""
    return {"placement": "resident", "slots": str(workers)}


def sliced(slots: int) -> dict[str, str]:
    """Settings that have students take turns."""
    return {"placement": "sliced", "slots": str(slots)}


@dataclass(frozen=True)
class Scenario:
    """One sort of run.

    Attributes:
        name: For people.
        flags: Settings beside BASE.
        other: Settings, of those in ``flags``, that every second attempt changes: the placement.
        nodes: CPUs of each node of a cluster to join; empty: a Ray of its own.
    """

    name: str
    flags: Mapping[str, str]
    other: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[float, ...] = ()

    @property
    def settings(self) -> dict[str, str]:
        return {**BASE, **self.flags}


def run_disturbed(
    scenario: Scenario,
    kinds: Sequence[str],
    folder: Path,
    *,
    draw: random.Random,
    expected: Mapping[str, bytes],
    pause_s: float = 90.0,
) -> dict[str, Any]:
    """Disturb one run until it ends by itself, and compare it with what it must come to.

    Args:
        scenario: What runs.
        kinds: Who is killed, in their order; those that are not there are left out.
        folder: Of the run and of all that is printed.
        draw: Chooses victims and moments.
        expected: Final files of the undisturbed run.
        pause_s: How long the driver is stopped by a ``pause``.

    Returns:
        What happened, for the report.

    Raises:
        AssertionError: the run failed, or something that must hold did not.
    """
    cluster = several_hosts(*scenario.nodes) if scenario.nodes else nullcontext()
    with cluster as hosts:
        run = DisturbedRun(folder, scenario.settings, draw, hosts)
        try:
            run.begin()
            run.wait(lambda: run.told("epoch", since=0), "the first epoch")
            for kind in kinds:
                _wait_a_while(run)
                if run.is_there(kind):
                    run.disturb(kind, **_how(scenario, run, kind, pause_s))
            run.finish()
            check_same(run.storage, expected)
            return {"scenario": scenario.name, **run.outcome()}
        finally:
            run.end()


def _wait_a_while(run: DisturbedRun) -> None:
    until = time.monotonic() + run.draw.uniform(0, MOST_DELAY_S)
    run.wait(lambda: time.monotonic() > until, "its moment")


def _how(scenario: Scenario, run: DisturbedRun, kind: str, pause_s: float) -> dict[str, Any]:
    if kind == PAUSE:
        return {"seconds": pause_s}
    if kind == DRIVER and len(run.commands) % 2 == 1:
        return dict(scenario.other)  # the attempt after next has the placement of the first again
    if kind == DRIVER:
        return {name: scenario.settings[name] for name in scenario.other}
    return {}


def undisturbed(settings: Mapping[str, str], folder: Path) -> dict[str, bytes]:
    """The final files of the same run that nobody disturbs.

    Without Ray where one process can do the same sums; several workers of a student add up
    gradients in an order of their own.
    """
    if int(settings.get("workers_per_student", "1")) == 1:
        config = FitConfig.from_mapping({**settings, "storage": str(folder / "runs")})
        return final_files(fit_without_ray(config))
    run = DisturbedRun(folder, dict(settings), random.Random(0))
    try:
        run.begin()
        run.finish()
        return final_files(run.storage)
    finally:
        run.end()


def check_same(storage: Storage, expected: Mapping[str, bytes]) -> None:
    """Compare a run's final files with the undisturbed ones.

    Raises:
        AssertionError: naming the files that differ.
    """
    found = final_files(storage)
    differing = sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    assert not differing, f"not those of an undisturbed run: {', '.join(differing)}"
