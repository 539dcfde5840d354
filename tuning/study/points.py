"""One point of a study: a raymd run that is read if it is there, gone on with if begun, else made.

    Point, seed -> <storage>/points/<slug>/seed-N -> Outcome

The slug follows from the settings alone, so tables of one storage share their points, and a study
that was stopped goes on where it was. A run that diverged leaves seed-N-diverged.json beside it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from raymd.config import FitConfig
from raymd.errors import DataError, RaymdError
from raymd.result import Result
from raymd.run_folder import RESULT
from raymd.runs import IDENTITY
from raymd.storage import Storage
from raymd.student_options import student_ids

if TYPE_CHECKING:
    from raymd.execution.telling import OnEvent  # torch underneath

POINTS = "points"
DIVERGED_SIGN = " diverged: "  # of NonFiniteLossError's message, as the driver passes it on
# Where and how a run runs; nothing of it changes the weights that a point stands for.
NO_SCIENCE = frozenset({
    "data_dir", "device", "cpus_per_worker", "gpus_per_worker", "placement", "slots", "wait_s",
    "checkpoint_every", "storage", "name", "resume", "address", "view", "log", "verbose",
    "data_cache",
})  # fmt: skip

Fit = Callable[[FitConfig, "OnEvent"], Result]


@dataclass(frozen=True, eq=False)
class Point:
    """The settings of a run, without its seed.

    Attributes:
        settings: FitConfig's fields by name, plain values; ``students`` is a tuple of networks.
    """

    settings: Mapping[str, Any]

    @property
    def students(self) -> tuple[str, ...]:
        """The networks, in order."""
        return tuple(self.settings["students"])

    @property
    def ids(self) -> tuple[str, ...]:
        """Their ids in the run."""
        return student_ids(self.students)

    @cached_property
    def slug(self) -> str:
        """A folder's name that follows from what decides the weights."""
        science = {k: v for k, v in self.settings.items() if k not in NO_SCIENCE}
        text = json.dumps(science, sort_keys=True, default=list)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        words = (self.settings["method"], *self.students, self.settings["dataset"].split(":")[0])
        return f"{re.sub(r'[^A-Za-z0-9.-]+', '.', '-'.join(words))[:60]}-{digest}"

    def with_settings(self, **settings: Any) -> "Point":
        """The point with other settings over these."""
        return Point({**self.settings, **settings})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.slug == other.slug

    def __hash__(self) -> int:
        return hash(self.slug)


@dataclass(frozen=True)
class Outcome:
    """What a point came to under one seed; one of the two is there.

    Attributes:
        result: Of the finished run.
        diverged: What was said when its loss was no number any more.
        run: The run's folder or URI.
    """

    run: str
    result: Result | None = None
    diverged: str | None = None


def point_folder(point: Point) -> str:
    """The point's folder below the storage."""
    return f"{POINTS}/{point.slug}"


def _run_of(base: Storage, point: Point, seed: int) -> Storage:
    return base.sub(point_folder(point)).sub(f"seed-{seed}")


def _diverged_file(point: Point, seed: int) -> str:
    return f"{point_folder(point)}/seed-{seed}-diverged.json"


def read_outcome(base: Storage, point: Point, seed: int) -> Outcome | None:
    """What a point came to, if it has come to anything yet.

    Raises:
        DataError: a result.json that is damaged; with the run's folder.
    """
    run = _run_of(base, point, seed)
    if run.exists(RESULT):
        try:
            result = Result.from_json(run.read(RESULT).to_pybytes().decode())
        except DataError as error:
            raise DataError(f"{run.uri}: {error}; remove that folder to run it again") from error
        return Outcome(run.uri, result=result)
    if base.exists(_diverged_file(point, seed)):
        said = json.loads(base.read(_diverged_file(point, seed)).to_pybytes())
        return Outcome(run.uri, diverged=said["message"])
    return None


def was_begun(base: Storage, point: Point, seed: int) -> bool:
    """Whether there is a run to go on with."""
    return _run_of(base, point, seed).exists(IDENTITY)


def config_of(
    point: Point, seed: int, *, base: Storage, extra: Mapping[str, Any] | None = None
) -> FitConfig:
    """The run of a point under a seed.

    Args:
        point, seed: Which.
        base: The studies' storage.
        extra: Settings of NO_SCIENCE: where and how it runs.

    Raises:
        UserError: a setting that cannot be.
    """
    return FitConfig.from_mapping(
        {
            "view": "none",
            **(extra or {}),
            **point.settings,
            "seed": seed,
            "storage": base.sub(point_folder(point)).uri,
            "name": f"seed-{seed}",
            "resume": "auto",
        }
    )


def run_point(
    point: Point,
    seed: int,
    *,
    base: Storage,
    extra: Mapping[str, Any] | None = None,
    fit: Fit | None = None,
    on_event: "OnEvent" = lambda _: None,
) -> Outcome:
    """A point's outcome under a seed; it is trained if it has none yet.

    Args:
        point, seed, base, extra: As in config_of.
        fit: Trains; raymd's own by default.
        on_event: Takes the run's events (docs/events.md).

    Raises:
        RaymdError: it was stopped or failed; calling again goes on with it.
    """
    with _alone(base, point, seed):
        found = read_outcome(base, point, seed)
        if found is not None:
            return found
        config = config_of(point, seed, base=base, extra=extra)
        run = _run_of(base, point, seed).uri
        try:
            return Outcome(run, result=(fit or _fit)(config, on_event))
        except RaymdError as error:
            if DIVERGED_SIGN not in str(error):
                raise
            said = {"message": str(error), "seed": seed, "settings": dict(point.settings)}
            text = json.dumps(said, indent=2, default=list) + "\n"
            base.write(_diverged_file(point, seed), text.encode())
            return Outcome(run, diverged=str(error))


def _fit(config: FitConfig, on_event: "OnEvent") -> Result:
    from raymd.execution.run import fit

    return fit(config, on_event=on_event)


def _alone(base: Storage, point: Point, seed: int) -> Any:
    """No other study of this storage trains it meanwhile; on an object store nobody knows."""
    if not base.is_local:
        return nullcontext()
    return _locked(Path(base.uri) / point_folder(point) / f"seed-{seed}.lock")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield
