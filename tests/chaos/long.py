"""Kill, and kill again: the long chaos run. `make chaos` calls it.

    python -m tests.chaos.long --kills 60 --seed 0 --out chaos.json

Run after run is disturbed and compared with one that was not, until there were so many kills. Each
finished run is added to the file at once; called again, it goes on from there.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.chaos.report import by_kind, table
from tests.chaos.scenarios import Scenario, resident, run_disturbed, sliced, undisturbed
from tests.chaos.victims import PAUSE

TWO = {"students": "resnet8,resnet8", "epochs": "108"}
THREE = {"students": "resnet8,resnet8,resnet8", "epochs": "72"}
FOUR = {"students": "resnet8,resnet8,resnet8,resnet8", "epochs": "54"}
HALF_A_CPU, A_CPU = {"cpus_per_worker": "0.5"}, {"cpus_per_worker": "1"}
SCENARIOS = (
    Scenario("two students", {**TWO, **HALF_A_CPU, **resident(2)}, sliced(1)),
    Scenario("two students on two nodes", {**TWO, **A_CPU, **resident(2)}, sliced(1), (1, 1)),
    Scenario("four students take turns", {**FOUR, **HALF_A_CPU, **sliced(2)}, resident(4)),
    Scenario(
        "two students of two workers each",
        {**TWO, **HALF_A_CPU, **resident(4), "workers_per_student": "2"},
        sliced(2),
    ),
    Scenario(
        "three students take turns on two nodes", {**THREE, **A_CPU, **sliced(2)}, sliced(1), (1, 1)
    ),
)
OFTEN = {
    "worker": 3, "group": 2, "controller": 2, "aggregator": 2, "merge": 2, "monitor": 1,
    "admission": 2, "raylet": 3, "driver": 2,
}  # fmt: skip
KILLS_A_RUN = 9


def main(argv: list[str] | None = None) -> int:
    """Disturb runs until there were enough kills; returns 1 if one did not end as it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.long", description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="at least so many")
    parser.add_argument("--seed", type=int, default=0, help="of victims and moments")
    parser.add_argument("--out", type=Path, default=Path("chaos.json"), help="grows run by run")
    args = parser.parse_args(argv)
    console = Console()
    report = read_report(args.out, seed=args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    references: dict[str, dict[str, bytes]] = {}
    while count_kills(report) < args.kills:
        number = len(report["runs"])
        scenario = SCENARIOS[number % len(SCENARIOS)]
        console.print(f"run {number + 1}: {scenario.name} ...")
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        try:
            if scenario.name not in references:
                alone = folder / "undisturbed"
                alone.mkdir()
                references[scenario.name] = undisturbed(scenario.settings, alone)
            draw = random.Random(f"{args.seed}-{number}")
            began = time.time()
            outcome = run_disturbed(
                scenario,
                choose_kinds(draw, number),
                folder,
                draw=draw,
                expected=references[scenario.name],
            )
        except AssertionError as error:
            console.print(f"{error}\nkept: {folder}", markup=False)
            return 1
        shutil.rmtree(folder)
        report["runs"].append({**outcome, "seconds": time.time() - began})
        report["by_kind"] = by_kind(all_kills(report))
        args.out.write_text(json.dumps(report, indent=1) + "\n")
        kinds = ", ".join(kill["kind"] for kill in outcome["kills"])
        console.print(f"  the same bytes after {kinds} ({time.time() - began:.0f} s)")
    console.print(table(report["by_kind"]))
    console.print(f"{count_kills(report)} kills in {len(report['runs'])} runs: no bit changed")
    return 0


def choose_kinds(draw: random.Random, number: int) -> list[str]:
    """What a run is to suffer; the driver is stopped in the first round of scenarios only."""
    chosen = draw.choices(list(OFTEN), weights=list(OFTEN.values()), k=KILLS_A_RUN)
    if number < len(SCENARIOS):
        chosen.insert(KILLS_A_RUN // 2, PAUSE)  # resident students train on, so less is left
    return chosen


def read_report(path: Path, *, seed: int) -> dict[str, Any]:
    """What earlier calls found, or an empty report."""
    if not path.exists():
        return {"seed": seed, "runs": [], "by_kind": []}
    report: dict[str, Any] = json.loads(path.read_text())
    if report["seed"] != seed:
        sys.exit(f"{path} was begun with --seed {report['seed']}; go on with that, or name another")
    return report


def all_kills(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Of all runs."""
    return [kill for run in report["runs"] for kill in run["kills"]]


def count_kills(report: dict[str, Any]) -> int:
    """Pauses kill nobody."""
    return sum(kill["kind"] != PAUSE for kill in all_kills(report))


if __name__ == "__main__":
    sys.exit(main())
