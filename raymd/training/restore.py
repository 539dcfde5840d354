"""Restore: a student's state on its way back from the run directory.

The newest checkpoint that is intact counts. A damaged one is told of and removed, and the one
before it used: training from there makes the same weights again, as long as the teacher of that
cycle is still there.
"""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from safetensors.torch import load as load_safetensors
from torch.optim.swa_utils import AveragedModel

from raymd.distillation.schedule import Position
from raymd.errors import StorageError
from raymd.exchange.blocks import is_complete
from raymd.storage import FILES
from raymd.training.building import new_state
from raymd.training.checkpoint import (
    checkpoint_record,
    committed_positions,
    load_weights,
    publish_id,
    sweep,
)
from raymd.training.student import Best, Member, StudentState, StudentTask, Sums


class Found(NamedTuple):
    """Where a student goes on: the record of its checkpoint (None: it begins anew), and what is
    worth saying."""

    position: Position
    record: dict[str, Any] | None
    notes: list[str]


def restore(task: StudentTask, *, start: Position) -> StudentState:
    """The student at its newest intact checkpoint, or new if it has none.

    Args:
        task: The student.
        start: A position the caller knows to be committed; the newest may be further on. An
            earlier one is told of.

    Raises:
        StorageError: what is intact lies too far back to go on from.
    """
    found = task.ranks.from_first(_find(task, start) if task.ranks.is_first else None)
    assert found is not None
    state = new_state(task, initialise=found.record is None)
    if found.record is not None:
        _load(task, state, found.record, found.position)
    state.notes += found.notes
    return state


def restore_together(tasks: Sequence[StudentTask], *, start: Position) -> list[Member]:
    """Students that are trained together, all at one position: the newest that all have intact.

    Args:
        tasks: The students; mostly one.
        start: As in ``restore``.

    Raises:
        StorageError: as in ``restore``.
    """
    if len(tasks) == 1:
        return [Member(tasks[0], restore(tasks[0], start=start))]
    ranks = tasks[0].ranks
    at = ranks.from_first(_newest_common(tasks) if ranks.is_first else None)
    assert at is not None
    return [Member(task, _restore_at(task, at, start=start)) for task in tasks]


def _newest_common(tasks: Sequence[StudentTask]) -> Position:
    positions = [set(committed_positions(task.storage, task.folder)) for task in tasks]
    for position in sorted(set.intersection(*positions), reverse=True):
        try:
            for task in tasks:
                task.storage.check_committed(checkpoint_record(task.folder, position))
        except StorageError:
            continue  # each step needs nobody but these students, so any earlier one will do
        return position
    return tasks[0].schedule.start


def _restore_at(task: StudentTask, at: Position, *, start: Position) -> StudentState:
    record = task.storage.record(checkpoint_record(task.folder, at))
    if task.ranks.is_first:
        task.storage.remove_leftovers(f"{task.folder}/checkpoints")
        sweep(task, kept=[at])
    state = new_state(task, initialise=record is None)
    if record is not None:
        _load(task, state, record, at)
    if at < start:
        state.notes.append(
            f"{task.student.id}: the checkpoint at {_where(start)} is missing or damaged, here or"
            f" of one it is trained with; going on from {_where(at)}"
        )
    return state


def _find(task: StudentTask, start: Position) -> Found:
    """Decide for all workers of the student, and remove what nobody shall trust later."""
    task.storage.remove_leftovers(f"{task.folder}/checkpoints")
    positions = committed_positions(task.storage, task.folder)
    damage: dict[Position, str] = {}
    position, record = _choose(task, positions, damage)
    sweep(task, kept=[p for p in positions if p not in damage or p == position])
    notes = [
        f"{task.student.id}: the checkpoint at {_where(damaged)} is damaged ({reason})"
        for damaged, reason in damage.items()
    ]
    if position < start and not damage:
        notes.append(f"{task.student.id}: the checkpoint at {_where(start)} is missing")
    if notes:
        without = " without the best weights before it" if position in damage else ""
        anew = f"going on from {_where(position)}{without}"
        notes[-1] += "; beginning anew" if record is None else f"; {anew}"
    return Found(position, record, notes)


def _choose(
    task: StudentTask, positions: list[Position], damage: dict[Position, str]
) -> tuple[Position, dict[str, Any] | None]:
    """Where to go on and that record, None at the beginning; fills in what is damaged.

    Going back ends with the same weights, so it is preferred to going on without the best ones.
    """
    newest = positions[-1] if positions else None
    for position in reversed(positions):
        try:
            record = task.storage.check_committed(checkpoint_record(task.folder, position))
        except StorageError as error:
            damage[position] = str(error)
            continue
        if position == newest or _can_repeat(task, position):
            return position, record
        break
    if _can_repeat(task, task.schedule.start):
        return task.schedule.start, None
    for position in damage:
        record = _without_best(task, position)
        if record is not None and (position == newest or _can_repeat(task, position)):
            return position, record
    reasons = "; ".join(damage.values()) or "none is left"
    raise StorageError(
        f"{task.student.id} has no checkpoint to go on from ({reasons}), and cannot go back"
        " further: the teachers of that time are gone. Restore its files from a backup, or begin a"
        " new run (--name)"
    )


def _can_repeat(task: StudentTask, position: Position) -> bool:
    """Whether training from there finds its teacher, which is gone once the next is complete."""
    if position >= task.schedule.end:
        return True
    return not is_complete(task.storage, task.schedule.epochs[position.epoch].cycle + 1)


def _without_best(task: StudentTask, position: Position) -> dict[str, Any] | None:
    """The record of a checkpoint of which nothing but the best weights is damaged, without them."""
    try:
        record = task.storage.record(checkpoint_record(task.folder, position)) or {}
        best = record["best"]["file"] if record.get("best") else None
        files = {file: entry for file, entry in record.get(FILES, {}).items() if file != best}
        for file in files:
            task.storage.read_committed(file, record=record)
    except StorageError:
        return None
    return {**record, "best": None, FILES: files} if files else None


def _where(position: Position) -> str:
    return f"epoch {position.epoch + 1}, step {position.step + 1}"


def _load(
    task: StudentTask, state: StudentState, record: dict[str, Any], position: Position
) -> None:
    stem = checkpoint_record(task.folder, position).removesuffix(".json")
    state.model.load_state_dict(load_weights(task, position))
    data = task.storage.read_committed(f"{stem}-optimizer.pt", record=record)
    saved = torch.load(io.BytesIO(data.to_pybytes()), map_location=task.device, weights_only=True)
    state.optimizer.load_state_dict(saved["optimizer"])
    state.scaler.load_state_dict(saved["scaler"])
    if state.averaged is not None:
        _load_averaged(task, state.averaged, record, stem)
    state.position = state.committed = position
    state.accuracy = record["accuracy"]
    sums = record["sums"]
    # another number of workers is another science, refused before; none has sums at an epoch's end
    state.sums = Sums(**sums[task.ranks.rank])
    if record["best"] is not None:
        entry = record[FILES][record["best"]["file"]]
        state.best = Best(**record["best"], entry=entry)
    state.publish_id = publish_id(task, record)


def _load_averaged(
    task: StudentTask, averaged: AveragedModel, record: dict[str, Any], stem: str
) -> None:
    data = task.storage.read_committed(f"{stem}-averaged.safetensors", record=record)
    averaged.module.load_state_dict(load_safetensors(data.to_pybytes()))
    averaged.n_averaged.fill_(record["averaged_steps"])
