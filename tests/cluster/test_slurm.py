"""cluster/slurm/raymd.sbatch under a real Slurm, on two hosts made on this machine."""

from collections.abc import Iterator

import pytest

from raymd.config import FitConfig
from raymd.storage import Storage
from tests.cluster.slurm import Slurm, missing, slurm
from tests.execution.commands import as_flags
from tests.execution.conftest import fit_without_ray, wait_until
from tests.training.conftest import final_files

SETTINGS = {
    "students": "resnet8,resnet14",
    "dataset": "digits",
    "subset": "600",
    "epochs": "6",
    "tin": "1",
    "td": "1",
    "precision": "fp32",
    "cpus_per_worker": "1",
    "checkpoint_every": "1s",
    "name": "requeued",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(missing()), reason=f"no Slurm: {missing()}"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with slurm(num_hosts=2) as two:
        yield two


def test_a_run_on_two_nodes_is_requeued_before_its_time_limit_and_ends_as_if_it_was_not(
    cluster: Slurm,
) -> None:
    runs = cluster.shared / "runs"
    job = cluster.sbatch(
        *("--nodes=2", "--time=30", f"--output={cluster.shared}/job.log"),
        *("cluster/slurm/raymd.sbatch", "--storage", str(runs), *as_flags(SETTINGS)),
    )
    job.wait_for("cycle 2 alone")
    cluster.run("scancel", "--batch", "--signal=USR1", job.id)  # as Slurm does before the limit
    wait_until(lambda: job.show()["Restarts"] == "1", "a requeue", timeout_s=400)
    assert job.end(timeout_s=600) == "COMPLETED 0:0", job.log
    assert "SIGTERM: stopping" in job.log
    assert "goes on at epoch" in job.log
    again = {**SETTINGS, "storage": str(cluster.shared / "alone")}
    alone = fit_without_ray(FitConfig.from_mapping(again))
    assert final_files(Storage.at(runs / "requeued")) == final_files(alone)
    assert cluster.run("bash", "-c", "ls -d /tmp/raymd-* || true") == ""
    wait_until(lambda: not cluster.ray_processes(), "an end of all Ray")
