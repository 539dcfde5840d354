"""A run's gauges in Ray, on the metrics port of its driver's node (docs/metrics.md).

Enters: events. Leaves: view/gauges.py's readings, said to Ray again and again: it forgets a gauge
that was not set for two of its reports (20 s; Ray 2.60). So nothing of a run that was killed stays,
and a student that is quiet for minutes must not vanish.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ray.util.metrics import Gauge

from raymd.view.gauges import GAUGES, Gauges, Reading

EVERY_S = 5.0


class RayGauges:
    """Shows a run in Ray's metrics.

    Args:
        gauges: What they show.
        every_s: How often all of it is said again.
    """

    name = "Ray's metrics"

    def __init__(self, gauges: Gauges, *, every_s: float = EVERY_S) -> None:
        self._gauges = gauges
        self._every_s = every_s
        self._of = {one.name: Gauge(one.name, one.about, tag_keys=one.tags) for one in GAUGES}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="raymd gauges", daemon=True)
        self._thread.start()

    def show(self, event: Mapping[str, Any]) -> None:
        """Take an event; what it says of a student is shown at once, all else within seconds."""
        now = time.monotonic()
        with self._lock:
            self._gauges.take(event, now=now)
            if event.get("student") in self._gauges.students:
                self._set(self._gauges.of_student(event["student"], now=now))

    def close(self) -> None:
        """Say for the last time how it ended."""
        self._over.set()
        self._thread.join()
        self._gauges.end()
        self._set(self._gauges.readings(now=time.monotonic()))

    def _repeat(self) -> None:
        while not self._over.wait(self._every_s):
            with self._lock:
                self._set(self._gauges.readings(now=time.monotonic()))

    def _set(self, readings: Iterable[Reading]) -> None:
        for reading in readings:
            self._of[reading.name].set(float(reading.value), tags=dict(reading.tags))
