"""A driver's way to admission: hold a lease for all of a run's workers, or wait for one.

    run.py --> admitted() --> Admission (admission.py)

Waiting says for what, asks again whichever admission actor is there by then, and ends when the run
is stopped.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from raymd.errors import RaymdError
from raymd.execution.admission import NAME, Answer, admission_actor
from raymd.execution.monitor import NAMESPACE
from raymd.execution.plan import Resources

POLL_S = 0.5
AGAIN_S = 0.1  # before the next call after one that met a dead actor
SLOW_S = 15.0  # a loaded machine takes a while to start an actor, which is not worth a word
START_S = 60.0  # no answer at all for so long is no loaded machine any more
RELEASE_S = 15.0

NO_ANSWER = Answer("undecided", "the cluster's admission actor has not answered yet")


class AdmissionTimeoutError(RaymdError):
    """The cluster had no room for a run within the time it was to wait."""


class AdmissionError(RaymdError):
    """The admission actor does not start."""


@contextmanager
def admitted(
    bundles: Sequence[Resources],
    *,
    run: str,
    monitor: Any,
    monitor_name: str,
    wait_s: float | None,
    tell: Callable[[str], None],
    stopping: Callable[[], bool],
) -> Iterator[bool]:
    """Hold a lease for all of a run's workers inside the block; waits for it first.

    Args:
        bundles: Resources of each worker.
        run: How people know the run.
        monitor, monitor_name: The driver's, whose death gives the lease back too.
        wait_s: At most so long; 0: not at all; None: for as long as it takes.
        tell: Takes a line, now and then, while there is no room.
        stopping: Whether to wait no longer.

    Yields:
        Whether the lease was granted; False after ``stopping``.

    Raises:
        AdmissionTimeoutError: there was no room within ``wait_s``.
        AdmissionError: the admission actor does not start.
    """
    try:
        yield _wait(_Asker(monitor_name, run, tuple(bundles)), wait_s, tell, stopping)
    finally:
        _release(monitor, monitor_name)


def _wait(
    asker: "_Asker", wait_s: float | None, tell: Callable[[str], None], stopping: Callable[[], bool]
) -> bool:
    started = time.monotonic()
    reports = growing_intervals()
    report_at = next(reports)
    while not stopping():
        answer = asker.poll()
        if answer.verdict == "granted":
            return True
        waited_s = time.monotonic() - started
        # not to wait for room is not to do without an answer, which may take a while
        known = answer.verdict == "waiting"
        if wait_s is not None and waited_s >= max(wait_s, 0.0 if known else START_S):
            raise AdmissionTimeoutError(
                f"no room on the cluster within {wait_s:g} s: {answer.text} (--wait_s; without it "
                "a run waits until there is room)"
            )
        if waited_s >= max(report_at, 0.0 if known else SLOW_S):
            report_at = next(seconds for seconds in reports if seconds > waited_s)
            tell(answer.text)
    return False


class _Asker:
    """Asks the admission actor again and again, whichever is there by then."""

    def __init__(self, *request: Any) -> None:
        self.request = request
        self.answer = NO_ANSWER
        self._answered_at = time.monotonic()
        self._actor: Any = None
        self._call: Any = None

    def poll(self) -> Answer:
        """The newest answer, within about a second.

        Raises:
            AdmissionError: no actor has come to answering for a long time.
        """
        try:
            if self._call is None:
                self._actor = self._actor or admission_actor()
                self._call = self._actor.ask.remote(*self.request)
            if ray.wait([self._call], timeout=POLL_S)[0]:
                call, self._call = self._call, None
                self.answer, self._answered_at = ray.get(call), time.monotonic()
        except RayActorError as error:
            self._actor = self._call = None
            self._check_starting(error)
            time.sleep(AGAIN_S)
        return self.answer

    def _check_starting(self, error: RayActorError) -> None:
        silent_s = time.monotonic() - self._answered_at
        if silent_s > START_S:
            raise AdmissionError(
                f"the cluster's admission actor does not start, for {silent_s:.0f} s: {error} "
                "(raymd must be installed on the cluster's head node as well)"
            ) from error


def _release(monitor: Any, monitor_name: str) -> None:
    """Give the lease back: where it is remembered first, so that no later life finds it."""
    give_up_at = time.monotonic() + RELEASE_S
    # where something does not answer, the monitor's death gives the lease back
    with suppress(RayActorError, GetTimeoutError):
        ray.get(monitor.set_lease.remote(None), timeout=RELEASE_S)
    with suppress(ValueError, GetTimeoutError):  # ValueError: there is no admission any more
        while time.monotonic() < give_up_at:
            try:
                admission: Any = ray.get_actor(NAME, namespace=NAMESPACE)
                ray.get(admission.release.remote(monitor_name), timeout=RELEASE_S)
            except RayActorError:  # the next life may have asked the monitor before
                time.sleep(AGAIN_S)
            else:
                return


def growing_intervals() -> Iterator[float]:
    """Seconds of waiting after which to say so: 1, 5, 15, 60, then every minute."""
    yield from (1.0, 5.0, 15.0)
    minute = 60.0
    while True:
        yield minute
        minute += 60.0
