"""A run's gauges reach the metrics port of Ray, are kept there, and go with the run."""

import re
import socket
import urllib.request
from collections.abc import Iterator

import pytest
import ray

from raymd.execution.gauges import RayGauges
from raymd.view.gauges import Gauges
from tests.execution.conftest import wait_until
from tests.view.examples import about, progress, waiting

REPORT_S = 1.0  # Ray forgets a gauge after two reports


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The metrics port of a small Ray that reports every second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        _metrics_export_port=number,
        _system_config={"metrics_report_interval_ms": int(1000 * REPORT_S)},
    )
    try:
        yield number
    finally:
        ray.shutdown()


def scraped(port: int, name: str) -> dict[str, float]:
    """A gauge's values by student (empty: the run's own), and by phase if it has phases."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for line in lines:
        match = re.fullmatch(rf"ray_raymd_{name}{{(.*)}} (\S+)", line)
        if match:
            tags = dict(re.findall(r'(\w+)="([^"]*)"', match[1]))
            assert tags["run"] == "scraped"
            student = tags.get("student", "")
            found[f"{student} {tags['phase']}" if "phase" in tags else student] = float(match[2])
    return found


@pytest.mark.slow
@pytest.mark.ray
def test_gauges_are_scraped_while_the_run_goes_on_and_gone_after_it(port: int) -> None:
    viewer = RayGauges(Gauges("scraped", about=about(("a", "b"))), every_s=0.5)
    viewer.show(progress("a", index=2))
    viewer.show(waiting("b", missing=("a",), seconds=5.0))
    wait_until(lambda: scraped(port, "images_per_s") == {"a": 1034.4, "b": 0}, "images/s")
    assert scraped(port, "phase") == {"a distillation": 1, "b waits": 1}
    # nobody sends an event any more, and still it is shown, and grows
    begun = scraped(port, "barrier_wait_s")["b"]
    wait_until(lambda: scraped(port, "barrier_wait_s")["b"] > begun + 3 * REPORT_S, "a longer wait")
    assert scraped(port, "active") == {"": 1}
    viewer.close()
    wait_until(lambda: scraped(port, "active") == {"": 0}, "the end")
    assert scraped(port, "phase")["a ended"] == 1
    assert scraped(port, "images_per_s") == {"a": 0, "b": 0}
    wait_until(lambda: scraped(port, "active") == {}, "silence")
    assert scraped(port, "phase") == {}
