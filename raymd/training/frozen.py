"""Frozen teachers: networks that were trained before, and only teach.

Their weights are copied into the run directory when it is begun, so that a run depends on nothing
outside it. Where soft labels are exchanged they publish once, for every cycle, like a student that
has arrived; where the teacher is live, students load them.
"""

from typing import Any, cast

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from raymd.data.splits import Prepared
from raymd.errors import StorageError
from raymd.exchange.facts import FROZEN, Publication
from raymd.exchange.folder import Exchange
from raymd.frozen import FLAG, TeacherConfig
from raymd.models import build_model
from raymd.models.initial import load_whole
from raymd.settings import Settings, StudentConfig
from raymd.storage import FILES, Storage
from raymd.training.checkpoint import weights_of
from raymd.training.evaluate import count_correct
from raymd.training.publish import publish_all, published_loss
from raymd.training.student import Emit, StudentTask
from raymd.view import events
from raymd.view.text import percent


def teacher_record(teacher: str) -> str:
    """The record that makes a frozen teacher's weights count."""
    return f"teachers/{teacher}.json"


def teacher_file(teacher: str) -> str:
    """A frozen teacher's weights."""
    return f"teachers/{teacher}.safetensors"


def read_frozen(teacher: TeacherConfig, data: Prepared) -> tuple[nn.Module, str]:
    """A frozen teacher with the weights of its source, and what they are.

    Raises:
        UserError: no such source, or weights of another network or of other classes.
    """
    model = _build(teacher.arch, data)
    found = load_whole(model, source=teacher.source, arch=teacher.arch, flag=FLAG)
    return model, found


def keep_frozen(storage: Storage, settings: Settings, data: Prepared) -> None:
    """Copy the weights of all frozen teachers into the run directory, those that are not there."""
    for teacher in settings.teachers:
        try:
            kept = storage.check_committed(teacher_record(teacher.id)) is not None
        except StorageError:
            kept = False  # damaged: copied anew, as long as the source is there
        if not kept:
            model, found = read_frozen(teacher, data)
            files = {teacher_file(teacher.id): save_safetensors(weights_of(model))}
            fields = {"arch": teacher.arch, "source": found}
            storage.commit(teacher_record(teacher.id), fields, files=cast("dict[str, Any]", files))


def frozen_task(task: StudentTask, teacher: TeacherConfig) -> StudentTask:
    """A frozen teacher as a student that takes no step: what evaluating and publishing need."""
    like = min(task.settings.students, key=lambda student: student.id)
    student = StudentConfig(
        id=teacher.id,
        arch=teacher.arch,
        lr=0.0,
        batch_size=like.batch_size,
        precision=like.precision,
        channels_last=like.channels_last,
    )
    return task.as_student(student)


def load_frozen(task: StudentTask) -> nn.Module:
    """The network of a ``frozen_task``, with the weights that the run keeps, on the device.

    Raises:
        StorageError: they are missing or damaged.
    """
    name = teacher_record(task.student.id)
    record = task.storage.record(name)
    if record is None:
        raise StorageError(f"{task.storage.uri}/{name} is missing")
    data = task.storage.read_committed(teacher_file(task.student.id), record=record)
    model = _build(task.student.arch, task.data)
    model.load_state_dict(load_safetensors(data.to_pybytes()))
    return model.to(task.device).to(memory_format=task.memory_format)


def publish_frozen(task: StudentTask, *, exchange: Exchange, emit: Emit) -> None:
    """Publish a frozen teacher's soft labels for all cycles; what is committed is not made anew.

    Args:
        task: Of ``frozen_task``.
        exchange: Who hears of it.
        emit: Takes a ``note``.
    """
    model = load_frozen(task)
    publication = frozen_publication(task, model)
    num_bytes, _ = publish_all(task, model, publication, exchange=exchange)
    if num_bytes or not task.layout.num_blocks:
        where = f"held-out {percent(publication.accuracy).strip()}" if task.data.val else "frozen"
        emit(events.note(text=f"teacher {task.student.id}: {where}"))


def frozen_publication(task: StudentTask, model: nn.Module) -> Publication:
    """What a frozen teacher announces: v_i on the held-out slice, or on the training images."""
    split = task.data.val if task.data.val is not None else task.data.train
    accuracy = count_correct(task, model, split) / len(split)
    record = task.storage.record(teacher_record(task.student.id)) or {}
    publish_id = record[FILES][teacher_file(task.student.id)]["xxh3_128"]
    return Publication(FROZEN, task.student.id, accuracy, publish_id, published_loss(task, model))


def _build(arch: str, data: Prepared) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return build_model(
            arch,
            num_classes=len(data.classes),
            in_channels=data.train.channels,
            image_size=data.image_size,
        )
