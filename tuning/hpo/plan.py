"""A search with everything decided, as ``search_plan.json`` in its folder keeps it for --resume.

Space, flags -> SearchPlan (decide.py) -> experiment.py, ranking.py
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from raymd.errors import UserError
from raymd.point import PointSpec
from raymd.storage import Storage
from tuning.hpo.space import Space
from tuning.hpo.space_file import read_space

PLAN = "search_plan.json"
RUNGS = "rungs.json"
TUNE = "tune"  # Ray Tune's own folder
OPTUNA = "optuna.db"


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What a search was begun with.

    Attributes:
        name: Of its folder in the storage.
        space: What is searched and fixed; CPUs of each worker and the budget are fixed too.
        seeds: Of each point.
        algorithm: ``grid``, ``random`` or ``optuna``.
        num_points: How many there will be.
        milestones: Epochs at which points are compared and ended (halving.py); none without.
        objective: Name of an Objective.
        epochs: The budget of a point's run; the largest if it is searched.
        max_concurrent: Points at a time.
    """

    name: str
    space: Space
    seeds: tuple[int, ...]
    algorithm: str
    num_points: int
    milestones: tuple[int, ...]
    objective: str
    epochs: int
    max_concurrent: int

    def spec(self, folder: Storage) -> PointSpec:
        """What the trials are given."""
        return PointSpec(
            folder=folder.uri,
            fixed=self.space.fixed,
            pool=self.space.pool,
            seeds=self.seeds,
            objective=self.objective,
            epochs=self.epochs,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "space": self.space.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of to_dict."""
        return cls(
            **{
                **document,
                "space": read_space(document["space"], search_epochs=True),
                "seeds": tuple(document["seeds"]),
                "milestones": tuple(document["milestones"]),
            }
        )


def begun(base: Storage, name: str) -> SearchPlan | None:
    """The plan of a search that was begun in a storage; None if there is none of that name."""
    document = base.record(f"{name}/{PLAN}")
    if document is None:
        return None
    return SearchPlan.from_dict(document["plan"])


def latest_search(base: Storage) -> str:
    """Name of the search begun last in a storage.

    Raises:
        UserError: there is none.
    """
    searches = [
        (record["begun"], name)
        for name in base.list()
        if (record := base.record(f"{name}/{PLAN}")) is not None
    ]
    if not searches:
        raise UserError(
            f"--resume: no search in {base.uri}; name its folder (--storage), or leave --resume out"
        )
    return str(max(searches)[1])
