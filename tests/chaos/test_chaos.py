"""Kills at random moments: whoever is killed, the run ends with the bytes of an undisturbed one."""

import random
from pathlib import Path

import pytest

from tests.chaos.report import by_kind
from tests.chaos.scenarios import Scenario, resident, run_disturbed, sliced, undisturbed
from tests.chaos.watcher import Watcher

TWO = {"students": "resnet8,resnet8"}
ON_NODES = Scenario(
    "on two nodes",
    {**TWO, "epochs": "108", "cpus_per_worker": "1", **resident(2)},
    other=sliced(1),
    nodes=(1, 1),
)
TAKING_TURNS = Scenario(
    "taking turns",
    {"students": "resnet8,resnet8,resnet8", "epochs": "36", "cpus_per_worker": "0.5", **sliced(1)},
    other=resident(3),
)


def kinds_killed(scenario: Scenario, kinds: list[str], folder: Path, *, seed: int) -> set[str]:
    """Disturb a run, compare it with an undisturbed one, and say who was killed."""
    alone = folder / "undisturbed"
    alone.mkdir()
    expected = undisturbed(scenario.settings, alone)
    draw = random.Random(seed)
    draw.shuffle(kinds)
    outcome = run_disturbed(scenario, kinds, folder, draw=draw, expected=expected, pause_s=10)
    return {kill["kind"] for kill in outcome["kills"]}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_run_on_two_nodes_survives_the_loss_of_anything(tmp_path: Path) -> None:
    kinds = ["raylet", "group", "controller", "driver", "merge", "pause"]
    assert {"raylet", "driver", "controller"} <= kinds_killed(ON_NODES, kinds, tmp_path, seed=1)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_students_that_take_turns_survive_the_loss_of_anything(tmp_path: Path) -> None:
    kinds = ["worker", "driver", "aggregator", "monitor", "admission"]
    assert {"worker", "driver"} <= kinds_killed(TAKING_TURNS, kinds, tmp_path, seed=2)


# -- the harness itself -----------------------------------------------------------------------


def test_watcher_tells_what_was_written_again_from_what_changed(tmp_path: Path) -> None:
    block = tmp_path / "teacher" / "cycle-000" / "common" / "block-00000.arrow"
    block.parent.mkdir(parents=True)
    watcher = Watcher(tmp_path)

    def write(data: bytes) -> None:
        new = block.with_name(".block.tmp")
        new.write_bytes(data)
        new.replace(block)
        watcher.look()

    write(b"one")
    write(b"one")
    assert (watcher.written_again, watcher.changed) == (1, set())
    block.unlink()
    watcher.look()
    write(b"two")
    assert watcher.changed == {"teacher/cycle-000/common/block-00000.arrow"}


def test_report_counts_what_was_seen_to_recover() -> None:
    kills = [
        {"kind": "worker", "lost_s": 4.0},
        {"kind": "driver", "lost_s": 20.0},
        {"kind": "worker", "lost_s": None},
        {"kind": "worker", "lost_s": 6.0},
    ]
    driver, worker = by_kind(kills)
    assert driver == {
        "kind": "driver", "kills": 1, "recoveries": 1, "ended_first": 0, "median_s": 20.0,
        "max_s": 20.0,
    }  # fmt: skip
    assert (worker["kills"], worker["recoveries"], worker["ended_first"]) == (3, 2, 1)
    assert (worker["median_s"], worker["max_s"]) == (5.0, 6.0)
