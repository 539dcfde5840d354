"""Commit: a student's state on its way to the run directory; restore.py is the way back.

A checkpoint is one record naming weights (safetensors), optimiser state (loadable with
``weights_only``) and, where there is one, the best weights so far; the position and the running
sums stand in the record. The newest two are kept. So is the one a student published from until the
next cycle's teacher is complete, which says that everybody has done with this one: until then its
soft labels can be made again, exactly (rebuild.py).
"""

import io
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from raymd.distillation.schedule import Position
from raymd.errors import StorageError
from raymd.exchange.blocks import is_complete
from raymd.run_folder import history_part
from raymd.storage import FILES, Storage
from raymd.training.student import StudentState, StudentTask, Sums
from raymd.view.events import encode_history

KEPT = 2
PUBLISHED = {"weights": "-weights.safetensors", "ema": "-averaged.safetensors"}


def checkpoint_record(folder: str, position: Position) -> str:
    """Name of the record at a position; names sort by position."""
    return f"{folder}/checkpoints/{position.epoch:05d}-{position.step:06d}.json"


def committed_positions(storage: Storage, folder: str) -> list[Position]:
    """Positions that a student has committed, in order; restore may find some of them damaged."""
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
    _note_committed(task, state, record)
    _drop_old(task)


def _note_committed(task: StudentTask, state: StudentState, record: dict[str, Any]) -> None:
    state.publish_id = publish_id(task, record)
    if state.best is not None:
        state.best.weights = None
        state.best.entry = record[FILES][state.best.file]


def publish_id(task: StudentTask, record: dict[str, Any]) -> str:
    """Checksum of the weights in a checkpoint that are published from: equal weights publish under
    equal ids, always."""
    ending = PUBLISHED[task.settings.publish]
    return next(e["xxh3_128"] for file, e in record[FILES].items() if file.endswith(ending))


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


def _drop_old(task: StudentTask) -> None:
    positions = committed_positions(task.storage, task.folder)
    sweep(task, kept={*positions[-KEPT:], *(p for p in positions if _is_pinned(task, p))})


def _is_pinned(task: StudentTask, position: Position) -> bool:
    """Whether the soft labels published here may still be wanted, by whoever is behind."""
    barrier = task.schedule.barrier_at(position)
    return barrier is not None and not is_complete(task.storage, barrier.cycle + 1)


def sweep(task: StudentTask, *, kept: Iterable[Position]) -> None:
    """Remove all of a student's checkpoints but these, and files that belong to none.

    Records go first. A kept record that cannot be read keeps the files of its own name: restore
    tells of it.
    """
    folder = f"{task.folder}/checkpoints"
    stems = [checkpoint_record(task.folder, position).removesuffix(".json") for position in kept]
    named = {file for stem in stems for file in _files_of(task, f"{stem}.json")}
    there = [f"{folder}/{name}" for name in task.storage.list(folder)]
    for file in sorted(there, key=lambda name: not name.endswith(".json")):
        if file not in named and not file.startswith(tuple(stems)):
            task.storage.delete(file)


def _files_of(task: StudentTask, record: str) -> Iterable[str]:
    try:
        return (task.storage.record(record) or {}).get(FILES, {})
    except StorageError:
        return ()


def load_weights(
    task: StudentTask, position: Position, *, which: str = "weights"
) -> dict[str, Tensor]:
    """The weights committed at a position, or their average (``ema``).

    Raises:
        StorageError: they are missing or damaged.
    """
    name = checkpoint_record(task.folder, position)
    record = task.storage.record(name)
    if record is None:
        raise StorageError(f"{task.storage.uri}/{name} is missing")
    file = name.removesuffix(".json") + PUBLISHED[which]
    return load_safetensors(task.storage.read_committed(file, record=record).to_pybytes())
