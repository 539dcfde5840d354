"""Ray Tune's parts for a SearchPlan: the space in its words, an algorithm, a scheduler.

SearchPlan -> param_space, TuneConfig
"""

from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from raymd.errors import UserError
from raymd.execution.trial import EPOCHS, OBJECTIVE, SPEC
from raymd.storage import Storage
from tuning.hpo.halving import Halving
from tuning.hpo.plan import OPTUNA, RUNGS, SearchPlan
from tuning.hpo.space import Choice, Domain, Range

DOMAINS = {
    "uniform": tune.uniform,
    "loguniform": tune.loguniform,
    "randint": lambda low, high: tune.randint(low, high + 1),  # Tune's has no upper end
    "lograndint": lambda low, high: tune.lograndint(low, high + 1),
}


def param_space(plan: SearchPlan, folder: Storage) -> dict[str, Any]:
    """What Tune chooses from, and what it hands to every trial beside it."""
    chosen = {name: _domain(plan, domain) for name, domain in plan.space.search.items()}
    return {**chosen, SPEC: plan.spec(folder).to_json()}


def _domain(plan: SearchPlan, domain: Domain) -> Any:
    if isinstance(domain, Range):
        return DOMAINS[domain.kind](domain.low, domain.high)
    assert isinstance(domain, Choice)
    values = list(domain.values)
    return tune.grid_search(values) if plan.algorithm == "grid" else tune.choice(values)


def tune_config(plan: SearchPlan, folder: Storage) -> tune.TuneConfig:
    """How Tune goes about it."""
    return tune.TuneConfig(
        metric=OBJECTIVE,
        mode="max",
        num_samples=1 if plan.algorithm == "grid" else plan.num_points,
        max_concurrent_trials=plan.max_concurrent if plan.algorithm == "optuna" else None,
        search_alg=_algorithm(plan, folder),
        scheduler=HalvingScheduler(plan.milestones, folder) if plan.milestones else None,
        reuse_actors=False,
    )


def _algorithm(plan: SearchPlan, folder: Storage) -> Any:
    if plan.algorithm != "optuna":
        return BasicVariantGenerator(random_state=plan.seeds[0], max_concurrent=plan.max_concurrent)
    check_optuna()
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(study_name=plan.name, storage=_optuna_storage(folder), seed=plan.seeds[0])


def _optuna_storage(folder: Storage) -> Any:
    """A database that Optuna Dashboard opens; in memory where there is no local folder for one."""
    if not folder.is_local:
        return None
    from optuna.storages import RDBStorage

    return RDBStorage(f"sqlite:///{folder.uri}/{OPTUNA}")


def check_optuna() -> None:
    """Refuse the algorithm where its package is missing.

    Raises:
        UserError: with the command that installs it.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError(
            "algorithm optuna needs Optuna, which is not installed: pip install 'optuna>=4'"
            " (--algorithm random does without)"
        ) from error


class HalvingScheduler(FIFOScheduler):  # type: ignore[misc]
    """halving.py for Tune; what it has seen is written down, and read again after a kill.

    Args:
        milestones: Of the plan.
        folder: Of the search.
    """

    def __init__(self, milestones: tuple[int, ...], folder: Storage) -> None:
        super().__init__()
        self._folder = folder
        self._halving = Halving(milestones)
        self._recalled = False

    def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Go on or stop, at each epoch of each point's first seed."""
        if not self._recalled:  # Tune makes it anew from its beginnings when a search is resumed
            self._halving.recall(self._folder.record(RUNGS) or {})
            self._recalled = True
        if result.get("done"):
            return str(TrialScheduler.CONTINUE)
        goes_on = self._halving.goes_on(
            trial.trial_id, epochs=result[EPOCHS], value=result[OBJECTIVE]
        )
        if result[EPOCHS] in self._halving.seen:
            self._folder.commit(RUNGS, self._halving.to_dict())
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)
