"""Commit and restore: a student's state on its way to and from the run directory.

A checkpoint is one record naming weights (safetensors), optimiser state (loadable with
``weights_only``) and, where there is one, the best weights so far; the position and the running
sums stand in the record. The newest two are kept, and the one a student published from stays
until the next cycle's teacher: soft labels can be made again from it, exactly.
"""

import io
import time
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from raymd.distillation.schedule import Position
from raymd.errors import StorageError
from raymd.result import history_part
from raymd.storage import FILES, Storage
from raymd.training.building import new_state
from raymd.training.student import Best, StudentState, StudentTask, Sums
from raymd.view.events import encode_history

KEPT = 2


def checkpoint_record(folder: str, position: Position) -> str:
    """Name of the record at a position; names sort by position."""
    return f"{folder}/checkpoints/{position.epoch:05d}-{position.step:06d}.json"


def committed_positions(storage: Storage, folder: str) -> list[Position]:
    """Positions that a student has committed, in order."""
    stems = (
        name.removesuffix(".json")
        for name in storage.list(f"{folder}/checkpoints")
        if name.endswith(".json")
    )
    return sorted(Position(*map(int, stem.split("-"))) for stem in stems)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's parameters and buffers on the CPU."""
    return {
        key: tensor.detach().cpu().contiguous().clone()
        for key, tensor in model.state_dict().items()
    }


def commit_checkpoint(task: StudentTask, state: StudentState) -> None:
    """Commit the state, if this position is not committed yet, and drop what it replaces."""
    if state.committed == state.position:
        return
    all_sums = task.ranks.gather(state.sums)
    if task.ranks.is_first:
        _commit(task, state, all_sums)
    state.committed = state.position
    state.committed_at = time.monotonic()
    state.steps_since_commit = state.epochs_since_commit = 0
    state.history = []


def _commit(task: StudentTask, state: StudentState, all_sums: list[Sums]) -> None:
    stem = checkpoint_record(task.folder, state.position).removesuffix(".json")
    files: dict[str, Any] = {
        f"{stem}-weights.safetensors": save_safetensors(weights_of(state.model)),
        f"{stem}-optimizer.pt": _optimizer_bytes(state),
    }
    if state.averaged is not None:
        files[f"{stem}-averaged.safetensors"] = save_safetensors(weights_of(state.kept))
    best = state.best
    if best is not None and best.weights is not None:
        files[best.file] = save_safetensors(best.weights)
    carried = {best.file: best.entry} if best is not None and best.entry is not None else {}
    if state.history:
        part = history_part(task.student.id, state.history[0]["epoch"])
        task.storage.write(part, encode_history(state.history))
    name = checkpoint_record(task.folder, state.position)
    record = task.storage.commit(name, {**_fields(state, all_sums), FILES: carried}, files=files)
    _note_committed(state, record)
    _drop_old(task, state)


def _note_committed(state: StudentState, record: dict[str, Any]) -> None:
    state.publish_id = _publish_id(record)
    if state.best is not None:
        state.best.weights = None
        state.best.entry = record[FILES][state.best.file]


def _publish_id(record: dict[str, Any]) -> str:
    """Checksum of the weights: equal weights publish under equal ids, in every attempt."""
    entries = record[FILES].items()
    return next(e["xxh3_128"] for file, e in entries if file.endswith("-weights.safetensors"))


def _optimizer_bytes(state: StudentState) -> bytes:
    buffer = io.BytesIO()
    torch.save(
        {"optimizer": state.optimizer.state_dict(), "scaler": state.scaler.state_dict()}, buffer
    )
    return buffer.getvalue()


def _fields(state: StudentState, all_sums: list[Sums]) -> dict[str, Any]:
    best = state.best
    return {
        "epoch": state.position.epoch,
        "step": state.position.step,
        "accuracy": state.accuracy,
        "best": best and {"epoch": best.epoch, "correct": best.correct, "file": best.file},
        "averaged_steps": state.averaged and int(state.averaged.n_averaged),
        # each worker's own, so that adding them up gives the same bits after a restart
        "sums": [asdict(sums) for sums in all_sums],
    }


def _drop_old(task: StudentTask, state: StudentState) -> None:
    positions = committed_positions(task.storage, task.folder)
    barriers = [Position(epoch) for epoch in task.schedule.barriers]
    # Once past a barrier, a student has seen its teacher: everybody has done with the one before.
    passed = max((b for b in barriers if b < state.position), default=task.schedule.start)
    pinned = {b for b in barriers if b >= passed}
    kept = {*positions[-KEPT:], *(pinned & set(positions))}
    records = {p: task.storage.record(checkpoint_record(task.folder, p)) or {} for p in positions}
    needed = {file for p in kept for file in records[p].get(FILES, {})}
    for position in sorted(set(positions) - kept):
        task.storage.delete(checkpoint_record(task.folder, position))
        for file in set(records[position].get(FILES, {})) - needed:
            task.storage.delete(file)


def restore(task: StudentTask, *, start: Position) -> StudentState:
    """The student at its newest committed position, or new if it has none.

    Args:
        task: The student.
        start: A position the caller knows to be committed; the newest may be further on.

    Raises:
        StorageError: a committed file is damaged, or ``start`` is not there any more.
    """
    positions = task.ranks.from_first(committed_positions(task.storage, task.folder))
    state = new_state(task, initialise=not positions)
    newest = positions[-1] if positions else task.schedule.start
    if newest < start:
        raise StorageError(f"{task.student.id} should be at {start}, storage ends at {newest}")
    if not positions:
        return state
    record = task.storage.record(checkpoint_record(task.folder, newest))
    assert record is not None
    _load(task, state, record, newest)
    return state


def load_weights(task: StudentTask, position: Position) -> dict[str, Tensor]:
    """The weights committed at a position. StorageError if they are missing or damaged."""
    name = checkpoint_record(task.folder, position)
    record = task.storage.record(name)
    if record is None:
        raise StorageError(f"{task.storage.uri}/{name} is missing")
    file = name.removesuffix(".json") + "-weights.safetensors"
    return load_safetensors(task.storage.read_committed(file, record=record).to_pybytes())


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
    state.publish_id = _publish_id(record)


def _load_averaged(
    task: StudentTask, averaged: AveragedModel, record: dict[str, Any], stem: str
) -> None:
    data = task.storage.read_committed(f"{stem}-averaged.safetensors", record=record)
    averaged.module.load_state_dict(load_safetensors(data.to_pybytes()))
    averaged.n_averaged.fill_(record["averaged_steps"])
