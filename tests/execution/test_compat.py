"""What is taken from inside Ray is there, and does what raymd needs it for."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.placement_group import placement_group, placement_group_table

from raymd.execution.compat import (
    kill_controllers,
    remove_orphaned_groups,
    session_folder,
    trainer_without_cleaner,
)
from tests.execution.conftest import small_ray, titled, wait_until

__all__ = ["small_ray"]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def wait_for_ever() -> None:
    threading.Event().wait()


@pytest.fixture
def training(small_ray: None, tmp_path: Path) -> Iterator[threading.Thread]:
    """A thread in `fit()` of a trainer with one worker, and a group of this process's own."""
    mine = placement_group([{"CPU": 1}])
    ray.get(mine.ready())
    trainer: Any = trainer_without_cleaner(TorchTrainer)(
        wait_for_ever,
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            storage_path=str(tmp_path),
            failure_config=FailureConfig(max_failures=-1, controller_failure_limit=0),
        ),
    )

    def fit() -> None:
        with pytest.raises(ray.exceptions.RayActorError):
            trainer.fit()

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    wait_until(lambda: titled("ray::RayTrainWorker"), "a worker")
    yield thread
    kill_controllers()
    thread.join(60)
    ray.util.remove_placement_group(mine)


def taken() -> list[str]:
    """Ids of placement groups that hold resources."""
    return [key for key, group in placement_group_table().items() if group["state"] != "REMOVED"]


def test_killed_controller_leaves_no_group_and_no_actor(training: threading.Thread) -> None:
    assert titled("ray::PlacementGroupCleaner") == []
    assert remove_orphaned_groups() == []  # its controller lives
    before = taken()
    assert len(before) == 2
    assert kill_controllers() == 1
    training.join(60)
    assert not training.is_alive()
    removed = wait_until(remove_orphaned_groups, "an orphaned group")
    assert len(removed) == 1
    wait_until(lambda: taken() == sorted(set(before) - set(removed)), "one group, ours")
    wait_until(lambda: not titled("ray::RayTrainWorker"), "the worker's end")
    assert (kill_controllers(), remove_orphaned_groups()) == (0, [])


def test_session_has_a_folder(small_ray: None) -> None:
    folder = session_folder()
    assert folder is not None
    assert (folder / "logs").is_dir()
