"""One call of the search: on a Ray of its own or a joined one, from the first point to the table.

Asked -> SearchPlan, committed -> experiment.py -> report; gives back the exit code
"""

import time
from collections.abc import Sequence

from rich.console import Console

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.execution.cluster import alive_nodes, node_resources
from raymd.execution.ray_setup import connected
from raymd.execution.shared_storage import check_shared
from raymd.execution.telling import new_console
from raymd.fit import NO_DATASET
from raymd.point import RECORD, TRIALS
from raymd.run_folder import checkpoints_folder
from raymd.storage import Storage
from tuning.hpo.algorithms import check_optuna
from tuning.hpo.dashboard import viewing
from tuning.hpo.decide import choose_algorithm, choose_budget, choose_milestones, make_plan
from tuning.hpo.experiment import search
from tuning.hpo.flags import Asked
from tuning.hpo.plan import PLAN, SearchPlan, begun, latest_search
from tuning.hpo.ranking import Ranked, chosen, read_points
from tuning.hpo.report import report
from tuning.hpo.space import Space

DONE, FAILED, INTERRUPTED = 0, 1, 130


def begin(asked: Asked, space: Space, configs: Sequence[FitConfig]) -> int:
    """Begin a search.

    Raises:
        UserError: it cannot be as asked for; no point was begun.
    """
    if choose_algorithm(asked, space)[0] == "optuna":
        check_optuna()
    base = Storage.to_write(asked.storage)
    if asked.name is not None and base.list(asked.name):
        what = "search" if begun(base, asked.name) else "folder"
        raise UserError(
            f"{what} {asked.name!r} exists in {base.uri}; go on with it (--resume) or choose"
            " another --name"
        )
    console = new_console()

    def announce(text: str) -> None:
        console.print(text, soft_wrap=True)

    if "dataset" not in space.fixed:
        announce(NO_DATASET)
    budget = choose_budget(configs, asked, announce)
    choose_milestones(asked, budget)  # before Ray starts, for it may refuse
    config = configs[0]
    with connected(address=config.address, verbose=config.verbose) as where:
        nodes = alive_nodes()
        announce(f"cluster: {where}")
        check_shared(base, nodes)
        plan = make_plan(
            asked,
            space,
            budget=budget,
            nodes=node_resources(config, nodes),
            announce=announce,
        )
        folder = base.sub(plan.name)
        folder.commit(PLAN, {"begun": time.time(), "plan": plan.to_dict()})
        announce(f"search {folder.uri}")
        announce(viewing(plan, folder))
        search(plan, folder, resume=False)
    return end(plan, folder, console)


def go_on(asked: Asked) -> int:
    """Go on with a search that was killed, stopped, or had points that failed.

    Raises:
        UserError: there is nothing to go on with.
    """
    base = Storage.at(asked.storage)
    name = asked.name or latest_search(base)
    plan = begun(base, name)
    if plan is None:
        raise UserError(
            f"--resume: no search {name!r} in {base.uri}; check --name and --storage, or leave"
            " --resume out to begin one"
        )
    folder, console = base.sub(name), new_console()
    console.print(f"search {folder.uri} (resumed)", soft_wrap=True)
    points = read_points(folder, num_seeds=len(plan.seeds))
    if all_ended(plan, points) and not any(point.status == "failed" for point in points):
        console.print("all its points have ended already")
        return end(plan, folder, console)
    try_failures_again(folder, points)
    fixed = plan.space.fixed
    address = asked.settings.get("address") or fixed.get("address")
    with connected(address=address, verbose=_is_true(asked.settings.get("verbose"))) as where:
        console.print(f"cluster: {where}", soft_wrap=True)
        search(plan, folder, resume=True)
    return end(plan, folder, console)


def _is_true(said: object) -> bool:
    return str(said).lower() == "true"


def try_failures_again(folder: Storage, points: Sequence[Ranked]) -> None:
    """Forget the seeds that failed by accident."""
    for point in points:
        if point.status == "failed":
            name = f"{TRIALS}/{point.record.trial}/{RECORD}"
            folder.commit(name, point.record.without_failures().to_dict())


def all_ended(plan: SearchPlan, points: Sequence[Ranked]) -> bool:
    """Whether nothing is left to train."""
    ended = [point for point in points if point.status != "unfinished"]
    return len(ended) >= plan.num_points


def end(plan: SearchPlan, folder: Storage, console: Console) -> int:
    """Report what there is, and tell what --resume would do."""
    points = read_points(folder, num_seeds=len(plan.seeds))
    for point in points:
        if point.status == "stopped":
            _tidy(point, folder)
    report(plan, points, folder, console)
    if not all_ended(plan, points):
        console.print(
            f"stopped before all {plan.num_points} points had ended; --resume --name {plan.name}"
            " goes on",
            soft_wrap=True,
        )
        return INTERRUPTED
    if chosen(points) is None:
        console.print("no point finished all its seeds, so none is chosen", soft_wrap=True)
        return FAILED
    return DONE


def _tidy(point: Ranked, folder: Storage) -> None:
    """Remove what only going on would need from a point that was ended early."""
    place = folder.sub(f"{TRIALS}/{point.record.trial}")
    for run in place.list():
        place.delete(f"{run}/soft_labels")
        for student in place.list(f"{run}/students"):
            place.delete(f"{run}/{checkpoints_folder(student)}")
