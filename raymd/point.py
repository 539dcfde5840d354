"""One point of a search: its settings, and what became of its seeds.

    values that a search algorithm chose -> FitConfig of each seed -> PointRecord

tuning/ searches, execution/trial.py runs a point inside the cluster, where tuning/ is not
installed; what both have to know stands here. Pure: imports neither torch nor Ray.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Self

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.plain import from_plain, to_plain
from raymd.student_options import OPTIONS

NUM_STUDENTS = "num_students"
ONE_STUDENT = "student."
TRIALS = "trials"
RECORD = "point.json"

Value = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class PointSpec:
    """What all points of a search have in common.

    Attributes:
        folder: Of the search, a path or a URI; a point's runs lie in ``trials/ID/seed-N`` there.
        fixed: Settings of every point, as FitConfig.from_mapping takes them.
        pool: Networks that ``num_students`` counts off, from the beginning again when it is longer.
        seeds: The same for every point, so that differences are paired.
        objective: Name of an Objective.
        epochs: The budget of a run; the largest if it is searched.
    """

    folder: str
    fixed: dict[str, Any]
    pool: tuple[str, ...]
    seeds: tuple[int, ...]
    objective: str
    epochs: int

    def to_json(self) -> str:
        """As a trial is given it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of to_json."""
        said = json.loads(text)
        return cls(**{**said, "pool": tuple(said["pool"]), "seeds": tuple(said["seeds"])})

    def config(self, values: Mapping[str, Value], *, seed: int, storage: str) -> FitConfig:
        """The run of one seed of a point; going on with it is the same call.

        Args:
            values: What was chosen for the point.
            seed: The seed.
            storage: The point's folder.
        """
        settings = point_settings(values, fixed=self.fixed, pool=self.pool)
        return FitConfig.from_mapping(
            {
                **settings,
                "seed": seed,
                "name": seed_folder(seed),
                "storage": storage,
                "resume": "auto",
                "view": "none",
            }
        )


def seed_folder(seed: int) -> str:
    """Name of a seed's run within its point's folder."""
    return f"seed-{seed}"


def point_settings(
    values: Mapping[str, Value], *, fixed: Mapping[str, Any], pool: Sequence[str]
) -> dict[str, Any]:
    """A point's settings: what was chosen for it over what all points share.

    Args:
        values: By name of a setting, or ``num_students``, or ``student.ID.OPTION``.
        fixed: Settings of every point.
        pool: See PointSpec.
    """
    settings = {**fixed, "student": dict(fixed.get("student") or {})}
    for name, value in values.items():
        if name == NUM_STUDENTS:
            assert isinstance(value, int)
            settings["students"] = tuple(pool[i % len(pool)] for i in range(value))
        elif name.startswith(ONE_STUDENT):
            student, option = split_student(name)
            own = settings["student"].get(student) or {}
            settings["student"][student] = {**own, option: value}
        else:
            settings[name] = value
    return settings


def split_student(name: str) -> tuple[str, str]:
    """Student and option of ``student.ID.OPTION``; ids may hold dots, options do not.

    Raises:
        UserError: It is no such name.
    """
    student, _, option = name.removeprefix(ONE_STUDENT).rpartition(".")
    if not student or option not in OPTIONS:
        raise UserError(
            f"{name!r} in 'search': an option of one student is written student.ID.OPTION, such as"
            f" student.resnet50.lr; options: {', '.join(OPTIONS)}"
        )
    return student, option


@dataclass(frozen=True, kw_only=True)
class SeedRecord:
    """What became of one seed of a point.

    Attributes:
        seed: It.
        status: ``finished``; ``diverged``, which is a finding; ``failed``, which is an accident,
            after which a resumed search tries again.
        objective: Of ``finished``.
        reason: Of the others; also whom a finished run has lost.
    """

    seed: int
    status: str
    objective: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PointRecord:
    """What is known of a point, as ``trials/ID/point.json`` holds it.

    Attributes:
        trial: Its id.
        values: What was chosen for it.
        seeds: Those that have come to an end.
    """

    trial: str
    values: dict[str, Any]
    seeds: tuple[SeedRecord, ...] = ()

    def with_seed(self, record: SeedRecord) -> Self:
        """The same with what became of one more seed."""
        others = (seed for seed in self.seeds if seed.seed != record.seed)
        return replace(self, seeds=(*others, record))

    def of(self, seed: int) -> SeedRecord | None:
        """What became of a seed; None while it has not ended."""
        return next((record for record in self.seeds if record.seed == seed), None)

    def without_failures(self) -> Self:
        """The same with failed seeds to be tried again."""
        return replace(self, seeds=tuple(s for s in self.seeds if s.status != "failed"))

    def objectives(self) -> dict[int, float]:
        """The objective by seed, of those that finished."""
        return {s.seed: s.objective for s in self.seeds if s.objective is not None}

    def score(self) -> float:
        """What search algorithms are told: the mean over the seeds that ended.

        A diverged seed counts as 0: it is of no use to anybody, and an algorithm that never heard
        of it would go on looking there.
        """
        ended = [s.objective or 0.0 for s in self.seeds if s.status != "failed"]
        return fmean(ended) if ended else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of to_dict; DataError for anything else."""
        return from_plain(cls, dict(document), where=RECORD)
