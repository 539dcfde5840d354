"""A point of a search as a trial of Ray Tune: its seeds, one ordinary run after the other.

    Tune's config -> PointTrial -> fit() of each seed -> epochs to the scheduler, point.json

The trial is a driver like any other: it joins the Ray that it lives in, asks the common admission
for a lease, and has a monitor whose death ends whatever is left. It stands in raymd because every
node has to import it.
"""

import logging
import queue
import threading
from collections.abc import Mapping
from typing import Any

from ray.tune import PlacementGroupFactory, Trainable

from raymd.errors import RaymdError
from raymd.execution.compat import kill_controllers, remove_orphaned_groups
from raymd.execution.drive import DivergedError
from raymd.execution.run import InterruptedRunError, fit
from raymd.execution.signals import Interruption
from raymd.objectives import OBJECTIVES, EpochMeter
from raymd.point import RECORD, TRIALS, PointRecord, PointSpec, SeedRecord
from raymd.result import Result
from raymd.runs import read_history
from raymd.secrets import without_secrets
from raymd.storage import FILES, Storage
from raymd.student_options import student_ids

log = logging.getLogger(__name__)

SPEC = "spec"  # the key in Tune's config beside the values of the point
EPOCHS = "epochs"
OBJECTIVE = "objective"
STOP_GRACE_S = 40.0
# Every node has memory to count, and a byte of it takes nothing from the students. A part of a CPU,
# however small, would leave a machine one worker short.
RESOURCES = {"memory": 1.0}


class PointTrial(Trainable):  # type: ignore[misc]
    """One point, in an actor of Tune's; ``step`` waits for the next epoch of the first seed.

    The runs are in a thread of their own, so that a trial that is to end early can be told so.
    """

    @classmethod
    def default_resource_request(cls, _config: Mapping[str, Any]) -> PlacementGroupFactory:
        """What the trial itself takes of the cluster; its students have leases of their own."""
        return PlacementGroupFactory([dict(RESOURCES)])

    def setup(self, config: dict[str, Any]) -> None:
        """Begin with the point's runs, or go on with them."""
        values = {name: value for name, value in config.items() if name != SPEC}
        self._seeds = Seeds(PointSpec.from_json(config[SPEC]), self.trial_id, values)
        self._thread = threading.Thread(target=self._seeds.run, name="seeds", daemon=True)
        self._thread.start()

    def step(self) -> dict[str, Any]:
        """The next result: of an epoch, or the last one. Raises what ended a seed by accident."""
        result = self._seeds.results.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def cleanup(self) -> None:
        """End what still runs: students commit and leave; whoever does not is ended."""
        self._seeds.interruption.name = "the search"
        self._thread.join(STOP_GRACE_S)
        if self._thread.is_alive():
            kill_controllers()
            remove_orphaned_groups()


class Seeds:
    """The runs of a point.

    Args:
        spec: Of the search.
        trial: Tune's id of the point.
        values: What was chosen for it.

    Attributes:
        results: For Tune, or the exception that ends the trial.
        interruption: Stops the run under way.
    """

    def __init__(self, spec: PointSpec, trial: str, values: Mapping[str, Any]) -> None:
        self.spec, self.values, self.trial = spec, dict(values), trial
        self.objective = OBJECTIVES[spec.objective]
        self.storage = Storage.at(spec.folder).sub(f"{TRIALS}/{trial}")
        self.results: queue.SimpleQueue[dict[str, Any] | BaseException] = queue.SimpleQueue()
        self.interruption = Interruption()

    def run(self) -> None:
        """The thread's body: all seeds that have not ended yet, then the last result."""
        try:
            record = self._read()
            self.storage.commit(RECORD, record.to_dict())
            for seed in self.spec.seeds:
                ended = record.of(seed)
                if ended is None:
                    ended = self._run(seed)
                    record = record.with_seed(ended)
                    self.storage.commit(RECORD, record.to_dict())
                if ended.status == "failed":
                    raise RaymdError(ended.reason)  # noqa: TRY301  # Tune is to see it as one
        except InterruptedRunError:
            return  # Tune has turned away already
        except BaseException as error:
            self.results.put(error)
        else:
            self._tell(self.spec.epochs, record.score(), done=True)

    def _read(self) -> PointRecord:
        """What is known of this point from before the search was killed."""
        said = self.storage.record(RECORD)
        if said is None:
            return PointRecord(trial=self.trial, values=self.values)
        return PointRecord.from_dict({k: v for k, v in said.items() if k != FILES})

    def _run(self, seed: int) -> SeedRecord:
        """One seed's run, to whatever end."""
        try:
            result = self._fit(seed)
            value = self.objective.of_result(result)
        except InterruptedRunError:
            raise
        except DivergedError as error:
            return SeedRecord(seed=seed, status="diverged", reason=str(error))
        except Exception as error:
            log.exception("a seed of a search failed")
            reason = str(error) if isinstance(error, RaymdError) else repr(error)
            return SeedRecord(seed=seed, status="failed", reason=without_secrets(reason))
        lost = ", ".join(f"{loss.id} was lost: {loss.reason}" for loss in result.lost)
        return SeedRecord(seed=seed, status="finished", objective=value, reason=lost)

    def _fit(self, seed: int) -> Result:
        config = self.spec.config(self.values, seed=seed, storage=self.storage.uri)
        if seed != self.spec.seeds[0]:  # schedulers judge by the first one alone
            return fit(config, interruption=self.interruption)
        students, budget = student_ids(config.students), config.epochs or self.spec.epochs
        meter = EpochMeter(students, objective=self.objective)

        def tell(event: Mapping[str, Any]) -> None:
            for epochs, value in meter.take(event):
                if epochs < budget:  # the last one is told once all seeds have ended
                    self._tell(epochs, value)

        for event in read_history(self.storage.sub(config.name or "")):
            tell(event)
        return fit(config, on_event=tell, interruption=self.interruption)

    def _tell(self, epochs: int, value: float, *, done: bool = False) -> None:
        self.results.put({EPOCHS: epochs, OBJECTIVE: value, "done": done})
