"""Damaged soft labels, made again from the checkpoints they came from, in any student's process.

A student's checkpoint at a barrier stays until everybody has done with that cycle's teacher
(checkpoint.py), so what was published there can be computed once more: same weights, device,
precision and code give the same bytes. Enters: what is damaged. Leaves: the block, committed.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import nn

from raymd.distillation.schedule import Position
from raymd.errors import StorageError
from raymd.exchange import names
from raymd.exchange.blocks import read_block, read_roster
from raymd.exchange.damaged import Damaged, DamagedBlockError
from raymd.exchange.facts import FROZEN, CommitRoster, MergeBlock, Publication
from raymd.exchange.merge import merge_block
from raymd.storage import FILES, checksum
from raymd.training.building import new_model
from raymd.training.checkpoint import checkpoint_record, load_weights, publish_id
from raymd.training.frozen import frozen_publication, frozen_task, load_frozen
from raymd.training.publish import committed_publication, compute_block, publish_block
from raymd.training.ranks import ALONE
from raymd.training.student import Emit, StudentTask
from raymd.view import events

MakeBlock = Callable[[StudentTask, nn.Module, Publication, int], np.ndarray]
OTHERWISE = "another processor, version of torch or number of threads"


def rebuild(task: StudentTask, emit: Emit, damaged: Damaged) -> np.ndarray:
    """Make a damaged block again, commit it, and tell.

    Args:
        task: Any student of the run, for its settings, data, storage and device.
        emit: Takes a ``note``.
        damaged: A student's block or a teacher's.

    Returns:
        The block's bytes, uint8.

    Raises:
        StorageError: a checkpoint that it needs is missing, damaged or another one.
    """
    what = f"block {damaged.block} of {damaged.kind} {damaged.id}, cycle {damaged.cycle},"
    before = _recorded_checksum(task, damaged)
    try:
        if damaged.kind == "student":
            owner = task_of(task, damaged.id)
            data = _student_block(owner, damaged.cycle, damaged.block, make=publish_block)
        else:
            data = _teacher_block(task, damaged)
    except StorageError as error:
        raise DamagedBlockError(
            f"{what} is damaged and cannot be made again: {error}. Restore the files from a backup,"
            " or begin a new run (--name)",
            damaged,
        ) from error
    same = "" if before in (None, checksum(data)) else f", with other last digits: {OTHERWISE}"
    emit(
        events.note(
            text=f"{what} was damaged ({damaged.reason}); made again from the checkpoints it came"
            f" from{same}"
        )
    )
    return data


def _recorded_checksum(task: StudentTask, damaged: Damaged) -> str | None:
    """What the block's bytes were, if its record still says so."""
    try:
        if damaged.kind == "student":
            folder = names.published_folder(damaged.cycle, damaged.id)
        else:
            revision = _roster(task, damaged.cycle).revision
            folder = names.teacher_blocks(damaged.cycle, damaged.id, revision)
        record = task.storage.record(names.block_record(folder, damaged.block))
    except StorageError:
        return None
    if record is None:
        return None
    original: str = record[FILES][names.block_file(folder, damaged.block)]["xxh3_128"]
    return original


def task_of(task: StudentTask, member: str) -> StudentTask:
    """The same run as another student or a frozen teacher sees it, alone on this worker."""
    alone = replace(task, ranks=ALONE)
    for teacher in task.settings.teachers:
        if teacher.id == member:
            return frozen_task(alone, teacher)
    (student,) = (student for student in task.settings.students if student.id == member)
    return alone.as_student(student)


def published(task: StudentTask, cycle: int) -> tuple[Position, Publication]:
    """Where the task's student published in a cycle, and what its checkpoint says it announced.

    Raises:
        StorageError: the checkpoint is missing or damaged, or the roster names other weights.
    """
    (barrier,) = (e.index for e in task.schedule.epochs if e.publishes and e.cycle == cycle)
    position = Position(barrier)
    name = checkpoint_record(task.folder, position)
    record = task.storage.record(name)
    if record is None:
        raise StorageError(f"{task.storage.uri}/{name} is missing")
    publication = Publication(cycle, task.student.id, record["accuracy"], publish_id(task, record))
    roster = read_roster(task.storage, cycle)
    entries = {p.student: p for p in roster.publications} if roster is not None else {}
    entry = entries.get(task.student.id, publication)
    publication = replace(publication, loss=entry.loss)
    if entry != publication:
        raise StorageError(f"{task.storage.uri}/{name} is not what cycle {cycle} was made from")
    return position, publication


def network_of(task: StudentTask, cycle: int) -> nn.Module:
    """What the task's student, or frozen teacher, published from in a cycle.

    Args:
        task: Of ``task_of``.
        cycle: Any that the member took part in; frozen teachers are the same in all.

    Raises:
        StorageError: as ``published``.
    """
    if _is_frozen(task):
        return load_frozen(task)
    position, _ = published(task, cycle)
    model, _ = new_model(task, initialise=False)
    model.load_state_dict(load_weights(task, position, which=task.settings.publish))
    return model


def _is_frozen(task: StudentTask) -> bool:
    return any(teacher.id == task.student.id for teacher in task.settings.teachers)


def _student_block(task: StudentTask, cycle: int, block: int, *, make: MakeBlock) -> np.ndarray:
    model = network_of(task, cycle)
    if _is_frozen(task):
        publication = committed_publication(task, frozen_publication(task, model))
    else:
        _, publication = published(task, cycle)
    return make(task, model, publication, block)


def _teacher_block(task: StudentTask, damaged: Damaged) -> np.ndarray:
    cycle, teacher, block = damaged.cycle, damaged.id, damaged.block
    roster = _roster(task, cycle)
    weights = roster.weights[teacher]
    frozen = frozenset(p.student for p in roster.publications if p.cycle == FROZEN)
    order = MergeBlock(cycle, teacher, block, weights, roster.revision, frozen)
    sources = {
        member: _source(task_of(task, member), order.published_in(member), block)
        for member in weights
    }
    return merge_block(task.storage, order, sources=sources)


def _roster(task: StudentTask, cycle: int) -> CommitRoster:
    roster = read_roster(task.storage, cycle)
    if roster is None:
        raise StorageError(f"{task.storage.uri}/{names.roster_record(cycle)} is missing")
    return roster


def _source(task: StudentTask, cycle: int, block: int) -> np.ndarray:
    """A member's block: its raw one where that is still there and intact."""
    folder = names.published_folder(cycle, task.student.id)
    try:
        data = read_block(task.storage, folder, block=block)
    except StorageError:
        data = None
    if data is not None:
        return data
    # in memory alone: raw blocks of a cycle that is complete are gone for good
    return _student_block(task, cycle, block, make=compute_block)
