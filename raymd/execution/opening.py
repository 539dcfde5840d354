"""Before Ray: load the data, resolve the settings, find a place for the run or the run to go on.

    FitConfig -> data, Settings -> Run

What can be refused without a cluster's numbers is refused here.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from raymd.config import FitConfig
from raymd.data import load_dataset
from raymd.data.dataset import Dataset
from raymd.data.names import check_dataset, takes_folder
from raymd.data.remote import Announce, silent
from raymd.data.splits import Prepared
from raymd.errors import UserError
from raymd.execution.plan import check_slots
from raymd.models.initial import check_source, load_initial
from raymd.models.registry import build_model, check_model
from raymd.paths import is_uri, lies_in
from raymd.resolve import resolve
from raymd.result import Result
from raymd.run_folder import RESULT, student_folder
from raymd.runs import check_same_science, choose_run
from raymd.settings import Settings
from raymd.storage import Storage
from raymd.training.checkpoint import committed_positions
from raymd.training.frozen import read_frozen, teacher_record
from raymd.training.student import prepare_for


@dataclass(frozen=True)
class Run:
    """What every attempt of a run needs.

    Attributes:
        name: Of its folder in the storage.
        storage: That folder.
        settings: Its science.
        data: Its data.
        resumed: Whether it was begun before.
    """

    name: str
    storage: Storage
    settings: Settings
    data: Prepared
    resumed: bool = field(default=False, kw_only=True)

    @property
    def result(self) -> Result | None:
        """The run's result, if it is finished."""
        if not self.storage.exists(RESULT):
            return None
        return Result.from_json(self.storage.read(RESULT).to_pybytes().decode())


def open_run(config: FitConfig, announce: Announce) -> Run:
    """Load the data and find a place for the run, or the run to go on with.

    Args:
        config: What the user asked for.
        announce: Takes a line for each choice worth knowing.

    Raises:
        UserError: what cannot work; see the message.
    """
    check_device(config.device)
    check_apart(config)
    base = Storage.to_write(config.storage)
    name, exists = choose_run(config, base)
    storage = base.sub(name)
    dataset = load(config, announce)
    settings, announcements = resolve(
        config, num_train=len(dataset.train), image_size=dataset.image_size
    )
    workers = {unit: of[0].workers_per_student for unit, of in settings.units.items()}
    check_slots(workers, slots=config.slots, placement=config.placement)
    data = prepare_for(settings, dataset)
    settings.check_classes(len(data.classes))
    check_networks(settings, data, begun=storage if exists else None)
    check_teachers(settings, data, begun=storage if exists else None, announce=announce)
    _announce_data(dataset, data, announce)
    for line in announcements:
        announce(line)
    if exists:
        check_same_science(storage, settings=settings, fingerprint=data.fingerprint)
    announce(f"run {storage.uri}" + (" (resumed)" if exists else ""))
    return Run(name, storage, settings, data, resumed=exists)


def check_device(device: str) -> None:
    """Refuse Apple's GPU where this machine has none; a cluster's GPUs are counted later.

    Raises:
        UserError: with the choices.
    """
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            "device mps: this machine has no GPU of Apple's, or this torch no support for it"
            " (--device auto, cpu or cuda)"
        )


def check_apart(config: FitConfig) -> None:
    """Refuse to write runs among the files of an object store that are fetched as data: each node
    would find other ones there.

    Raises:
        UserError: with both places.
    """
    name, argument = check_dataset(config.dataset)
    place = argument if takes_folder(name) else config.data_dir or ""
    if is_uri(place) and is_uri(config.storage) and lies_in(config.storage, place):
        flag = "--dataset" if takes_folder(name) else "--data_dir"
        raise UserError(
            f"storage {config.storage!r} lies in the data's folder {place!r}, all of which is"
            f" fetched: keep runs elsewhere (--storage), or name a folder of images alone ({flag})"
        )


def load(config: FitConfig, announce: Announce = silent) -> Dataset:
    """The data set that a configuration names; what is fetched for it is announced."""
    return load_dataset(
        config.dataset,
        data_dir=config.data_dir,
        image_size=config.image_size,
        subset=config.subset,
        seed=config.seed,
        data_cache=config.data_cache,
        announce=announce,
    )


def check_networks(settings: Settings, data: Prepared, *, begun: Storage | None) -> None:
    """Refuse networks that cannot be built for this data, or weights that do not fit them.

    Args:
        settings, data: The run's.
        begun: The folder of a run that is there: its students may have checkpoints to begin with.

    Raises:
        UserError: naming network and flag.
    """
    for student in settings.students:
        sizes: dict[str, Any] = {
            "num_classes": len(data.classes),
            "in_channels": data.train.channels,
            "image_size": data.image_size,
        }
        check_model(student.arch, **sizes, pretrained=student.pretrained)
        has_checkpoint = begun is not None and committed_positions(
            begun, student_folder(student.id)
        )
        if student.pretrained and not has_checkpoint:
            build_model(student.arch, **sizes, pretrained=True)  # downloads them, or says why not
        if student.init_from is not None and not has_checkpoint:
            check_source(student.init_from, archs=[student.arch])
            load_initial(
                build_model(student.arch, **sizes), source=student.init_from, arch=student.arch
            )


def check_teachers(
    settings: Settings, data: Prepared, *, begun: Storage | None, announce: Announce
) -> None:
    """Refuse frozen teachers whose weights are not there or not for this data.

    Args:
        settings, data: The run's.
        begun: The folder of a run that is there: it may have kept them.
        announce: Takes a line for each.
    """
    for teacher in settings.teachers:
        if begun is None or not begun.exists(teacher_record(teacher.id)):
            _, found = read_frozen(teacher, data)
            announce(f"frozen teacher {teacher.id}: {found}")


def _announce_data(dataset: Dataset, data: Prepared, announce: Announce) -> None:
    announce(
        f"dataset {dataset.name}: {len(data.train):,} to train on, "
        f"{len(data.val) if data.val is not None else 0:,} held out, {len(data.test):,} to test"
    )
    for note in dataset.notes:
        announce(note)
