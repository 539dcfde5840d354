"""Finished runs on real digits, made without Ray, for the verbs that come after training."""

from pathlib import Path

import pytest
import torch

from raymd.config import FitConfig
from raymd.data import load_dataset
from raymd.data.splits import Prepared, prepare
from raymd.execution.collect import collect
from raymd.resolve import resolve
from raymd.runs import begin
from raymd.storage import Storage
from tests.training.conftest import run_to, tiny_tasks

SUBSET = 120


def finished_run(folder: Path, **changes: object) -> Storage:
    """Train resnet8 and resnet14 on a few digits, and put the result together."""
    fields = {
        "students": "resnet8,resnet14", "dataset": "digits", "subset": SUBSET, "epochs": 3,
        "tin": 1, "td": 2, "val_fraction": 0.2, "storage": str(folder.parent),
        "name": folder.name,
    }  # fmt: skip
    config = FitConfig.from_mapping({**fields, **changes})
    dataset = load_dataset("digits")
    settings, _ = resolve(config, num_train=len(dataset.train), image_size=dataset.image_size)
    data: Prepared = prepare(
        dataset, subset=settings.subset, val_fraction=settings.val_fraction, seed=settings.seed
    )
    storage = Storage.at(folder)
    begin(storage, config=config, settings=settings, fingerprint=data.fingerprint)
    run_to(tiny_tasks(storage, settings, data=data, every_steps=100))
    collect(storage, settings, data, seconds=1.0)
    return storage


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with two finished runs, ``first`` and then ``second`` with another seed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("commands") / "runs"
    finished_run(folder / "first")
    finished_run(folder / "second", seed=1)
    return folder


@pytest.fixture(scope="session")
def run(runs: Path) -> Path:
    return runs / "first"
