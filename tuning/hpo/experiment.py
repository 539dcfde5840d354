"""A search under way: Ray Tune's Tuner, begun or restored, and what is told and kept of its trials.

    SearchPlan -> Tuner -> trials/ID/point.json (the trials'), trials/ID/ended.json (ours)

Everything that the report needs lies in the search's folder, so it is the same after any kill.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneError, Tuner

from raymd.errors import RaymdError, UserError
from raymd.execution.compat import remove_orphaned_groups
from raymd.execution.trial import EPOCHS, OBJECTIVE, PointTrial
from raymd.point import RECORD, TRIALS
from raymd.secrets import without_secrets
from raymd.storage import Storage
from raymd.view.text import percent
from tuning.hpo.algorithms import param_space, tune_config
from tuning.hpo.plan import TUNE, SearchPlan
from tuning.hpo.ranking import ENDED, told_values

ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the runs have logs of their own
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # what a killed search loses of its state, at most
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
LOST_TRIALS = 2  # new starts of a trial whose process was killed, by a node's end, say
SWEEP_S = 5.0
LAST_SWEEPS_S = 15.0


def search(plan: SearchPlan, folder: Storage, *, resume: bool) -> None:
    """Train all points that have not ended, on the Ray that is connected.

    Args:
        plan: The search.
        folder: Its own.
        resume: Whether it was begun before.

    Raises:
        UserError: it was ended before it had begun with any point.
        RaymdError: Tune itself failed.
        KeyboardInterrupt: it was interrupted a second time.
    """
    os.environ.update({k: v for k, v in ENVIRONMENT.items() if k not in os.environ})
    # a trial's failure is told by Watch, in one line
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tuner = _restored(folder) if resume else _new(plan, folder)
    try:
        with _sigterm_as_sigint():
            tuner.fit()
    except TuneError as error:
        raise RaymdError(
            f"Ray Tune gave up: {error} (--resume goes on; --verbose shows its log)"
        ) from error
    finally:
        _sweep()


def _new(plan: SearchPlan, folder: Storage) -> Tuner:
    return Tuner(
        PointTrial,
        param_space=param_space(plan, folder),
        tune_config=tune_config(plan, folder),
        run_config=RunConfig(
            name=TUNE,
            storage_path=folder.uri,
            callbacks=[Watch(plan, folder)],
            # the runs commit by themselves, and go on from that
            checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=LOST_TRIALS),
            verbose=0,
        ),
    )


def _restored(folder: Storage) -> Tuner:
    place = folder.sub(TUNE).uri
    if not Tuner.can_restore(place):
        raise UserError(
            f"--resume: {folder.uri} holds a search that was ended before its first point; begin it"
            " anew under another --name"
        )
    return Tuner.restore(place, trainable=PointTrial, resume_errored=True)


@contextmanager
def _sigterm_as_sigint() -> Iterator[None]:
    """Tune stops well on SIGINT alone; batch systems send SIGTERM."""

    def pass_on(_number: int, _frame: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    try:
        before = signal.signal(signal.SIGTERM, pass_on)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sweep() -> None:
    """Free the places of trials that were ended before they could do so themselves.

    Their controllers end a moment after them, and only then it is known whose places nobody needs.
    """
    give_up_at = time.monotonic() + LAST_SWEEPS_S
    quiet = 0
    while quiet < 3 and time.monotonic() < give_up_at:
        quiet = 0 if remove_orphaned_groups() else quiet + 1
        time.sleep(0.5)


class Watch(Callback):
    """Tells of trials, keeps how each one ended, and frees what dead ones held.

    Tune pickles it, so it holds no console. Tune names every argument.
    """

    def __init__(self, plan: SearchPlan, folder: Storage) -> None:
        self.plan = plan
        self.folder = folder
        self._swept_at = 0.0

    def on_step_end(self, **_: Any) -> None:  # type: ignore[override]
        """Now and then, look for places that nobody needs any more."""
        if time.monotonic() - self._swept_at > SWEEP_S:
            remove_orphaned_groups()
            self._swept_at = time.monotonic()

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """Tune has found a place for it."""
        self._tell(trial, "begins")

    def on_trial_result(  # type: ignore[override]
        self, *, trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """An epoch of its first seed is over, or all is."""
        if not result.get("done"):
            measured = f"{self.plan.objective} {percent(result[OBJECTIVE])}"
            self._tell(trial, f"epoch {result[EPOCHS]}/{self.plan.epochs}  {measured}")

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """It has ended, by itself or early."""
        result = trial.last_result
        ended = {EPOCHS: result.get(EPOCHS, 0), OBJECTIVE: result.get(OBJECTIVE)}
        seeds = (self.folder.record(f"{TRIALS}/{trial.trial_id}/{RECORD}") or {}).get("seeds", [])
        how = "complete" if len(seeds) == len(self.plan.seeds) else "stopped"
        self._keep(trial, {**ended, "how": how})
        if how == "stopped":
            self._tell(trial, f"is ended early, after epoch {ended[EPOCHS]}")
        elif any(seed["status"] == "diverged" for seed in seeds):
            diverged = sum(seed["status"] == "diverged" for seed in seeds)
            self._tell(trial, f"has ended, {diverged} of {len(seeds)} seeds diverged")
        else:
            self._tell(trial, f"has ended: {self.plan.objective} {percent(ended[OBJECTIVE])}")

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """It has failed, or its process was killed too often."""
        said = self.folder.record(f"{TRIALS}/{trial.trial_id}/{RECORD}") or {}
        reasons = [s["reason"] for s in said.get("seeds", []) if s["status"] == "failed"]
        reason = reasons[0] if reasons else f"its process ended: {_last_line(trial.get_error())}"
        self._keep(trial, {EPOCHS: 0, OBJECTIVE: None, "how": "failed", "reason": reason})
        self._tell(trial, f"failed: {reason}")

    def _keep(self, trial: Any, ended: dict[str, Any]) -> None:
        said = {**ended, "values": self._values(trial)}
        self.folder.commit(f"{TRIALS}/{trial.trial_id}/{ENDED}", said)

    def _values(self, trial: Any) -> dict[str, Any]:
        return {name: trial.config[name] for name in self.plan.space.search}

    def _tell(self, trial: Any, text: str) -> None:
        print(f"point {trial.trial_id}  {told_values(self._values(trial))}  {text}", flush=True)


def _last_line(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return without_secrets(lines[-1]) if lines else "nobody says why"
