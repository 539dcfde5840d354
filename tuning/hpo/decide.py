"""Everything that a search decides before its first point, and says why.

    Asked, the space file -> Space, checked -> the data: Budget -> the cluster: SearchPlan

What can be refused is refused here, before Ray starts where that is possible.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.objectives import OBJECTIVES
from raymd.resolve import resolve
from raymd.runs import new_run_name
from raymd.settings import Settings
from raymd.view.text import count_of
from tuning.hpo.concurrency import choose_concurrency
from tuning.hpo.flags import Asked, over
from tuning.hpo.halving import rungs
from tuning.hpo.plan import SearchPlan
from tuning.hpo.space import Space
from tuning.hpo.space_file import NOT_SEARCHED, load_space, read_space

Announce = Callable[[str], None]


def read_checked_space(asked: Asked) -> tuple[Space, list[FitConfig]]:
    """The space that was asked for, and configurations at all its choices and bounds.

    Raises:
        UserError: whatever is wrong with it.
    """
    if asked.space is None:
        raise UserError("no space: what to search is in a YAML file (--space FILE, docs/tuning.md)")
    document = load_space(asked.space)
    fixed = document.get("fixed") or {}
    if isinstance(fixed, dict):
        document = {**document, "fixed": over(fixed, asked.settings)}
    space = read_space(document, search_epochs=asked.search_epochs)
    return space, space.check()


def choose_algorithm(asked: Asked, space: Space) -> tuple[str, int]:
    """The algorithm, and how many points there will be.

    Raises:
        UserError: they do not go together.
    """
    algorithm = asked.algorithm
    if algorithm is None:
        algorithm = "grid" if space.is_grid and asked.samples is None else "random"
    if algorithm == "grid":
        if not space.is_grid:
            ranges = [n for n, d in space.search.items() if not isinstance(d.to_plain(), list)]
            raise UserError(
                f"algorithm grid: {', '.join(ranges)} of the space has a range, and a grid needs"
                " choices such as [1, 2, 5] (--algorithm random, optuna)"
            )
        if asked.samples is not None:
            raise UserError(
                f"samples {asked.samples}: a grid tries all its {space.num_points} points (leave"
                " out --samples, or --algorithm random)"
            )
        return algorithm, space.num_points
    if asked.samples is None:
        raise UserError(f"algorithm {algorithm}: say how many points to try (--samples N)")
    return algorithm, asked.samples


@dataclass(frozen=True)
class Budget:
    """What the points' settings come to, with the data's recipe.

    Attributes:
        epochs: Of a run; the largest if it is searched.
        grace: Epochs of the longest first cycle.
        num_workers: Of the point with the most, over all its students.
        widest: The most workers of one student.
    """

    epochs: int
    grace: int
    num_workers: int
    widest: int


def choose_budget(configs: Sequence[FitConfig], asked: Asked, announce: Announce) -> Budget:
    """Load the data once, which downloads it too, and resolve all configurations.

    Raises:
        UserError: nothing is held out, or points differ in their budget unasked.
    """
    from raymd.execution.opening import load

    dataset = load(configs[0])
    facts: dict[str, Any] = {"num_train": len(dataset.train), "image_size": dataset.image_size}
    settings = [resolve(config, **facts)[0] for config in configs]
    _check_held_out(settings[0])
    for line in resolve(configs[0], **facts)[1]:
        announce(f"first point: {line}")
    budgets = sorted({s.epochs for s in settings})
    if len(budgets) > 1 and not asked.search_epochs:
        raise UserError(
            f"points have budgets of {', '.join(map(str, budgets))} epochs:"
            f" {NOT_SEARCHED['epochs']}; fix it (--epochs {budgets[-1]})"
        )
    announce(f"{count_of(budgets[-1], 'epoch')} for every run of every point (--epochs)")
    workers = [[s.workers_per_student for s in one.students] for one in settings]
    return Budget(
        epochs=budgets[-1],
        grace=max(s.tin for s in settings) + max(s.td for s in settings),
        num_workers=max(map(sum, workers)),
        widest=max(map(max, workers)),
    )


def _check_held_out(settings: Settings) -> None:
    if not settings.val_fraction:
        raise UserError(
            "val_fraction 0: points are compared on held-out images, never on test images; hold"
            " some out (--val_fraction 0.1)"
        )


def choose_milestones(asked: Asked, budget: Budget) -> tuple[int, ...]:
    """Epochs at which points may be ended early.

    Raises:
        UserError: asha does not go with the rest.
    """
    if asked.scheduler == "none":
        return ()
    if OBJECTIVES[asked.objective].reduce is None:
        raise UserError(
            f"scheduler asha with objective {asked.objective}: it is known only at the end of a"
            " run, and asha compares epochs (--objective mean_last)"
        )
    if asked.search_epochs:
        raise UserError(
            "scheduler asha with --search_epochs: after equal epochs, runs of different budgets are"
            " at different places of their schedules (--scheduler none)"
        )
    return rungs(grace=budget.grace, epochs=budget.epochs)


def make_plan(
    asked: Asked,
    space: Space,
    *,
    budget: Budget,
    nodes: Sequence[Any],
    announce: Announce,
) -> SearchPlan:
    """The search, on the cluster that is connected.

    Raises:
        UserError: the cluster has not what was asked for.
    """
    algorithm, num_points = choose_algorithm(asked, space)
    milestones = choose_milestones(asked, budget)
    config = space.check()[0]
    concurrency = choose_concurrency(
        config,
        num_workers=budget.num_workers,
        widest=budget.widest,
        nodes=nodes,
        num_points=num_points,
        most=asked.max_concurrent,
    )
    decided: dict[str, Any] = {"cpus_per_worker": concurrency.cpus_per_worker}
    if "epochs" not in space.search:
        decided["epochs"] = budget.epochs
    space = replace(space, fixed={**space.fixed, **decided}).placed()
    runs = f"{count_of(num_points, 'point')} of {count_of(asked.seeds, 'seed')}"
    announce(f"algorithm {algorithm}: {runs} (--algorithm, --samples, --seeds)")
    announce(
        f"{count_of(concurrency.points, 'point')} at a time, each worker"
        f" {concurrency.cpus_per_worker:g} CPUs: {concurrency.why} (--max_concurrent,"
        " --cpus_per_worker)"
    )
    if milestones:
        announce(
            f"asha: points are compared after epochs {', '.join(map(str, milestones))}, the first"
            " being the longest first cycle (tin + td) of the space"
        )
    return SearchPlan(
        name=asked.name or new_run_name(),
        space=space,
        seeds=tuple(range(config.seed, config.seed + asked.seeds)),
        algorithm=algorithm,
        num_points=num_points,
        milestones=milestones,
        objective=asked.objective,
        epochs=budget.epochs,
        max_concurrent=concurrency.points,
    )
