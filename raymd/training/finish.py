"""A student's final files: last and best weights, what they predict, and model.json.

model.json is the record that makes them count; it holds all that is needed to build the network
again and to feed it, so loading a student needs neither Ray nor the training data.
"""

from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from raymd.errors import StorageError
from raymd.run_folder import model_record, predictions_file, weights_file
from raymd.storage import FILES
from raymd.training.checkpoint import weights_of
from raymd.training.evaluate import num_correct, predict
from raymd.training.student import StudentState, StudentTask


def finish(task: StudentTask, state: StudentState) -> None:
    """Commit the student's final files, unless they are there already and intact."""
    if _is_finished(task):
        return
    last = weights_of(state.kept)
    best = _best_weights(task, state) or last
    predictions: dict[str, Tensor] = {}
    scores = {
        "last": _score(task, state.kept, "last", predictions),
        "best": _score(task, _with_weights(state.kept, best), "best", predictions),
    }
    files = {
        weights_file(task.student.id, "last"): save_safetensors(last),
        weights_file(task.student.id, "best"): save_safetensors(best),
        predictions_file(task.student.id): save_safetensors(predictions),
    }
    fields = {**_description(task, state), "scores": scores}
    task.storage.commit(model_record(task.student.id), fields, files=files)


def _is_finished(task: StudentTask) -> bool:
    try:
        return task.storage.check_committed(model_record(task.student.id)) is not None
    except StorageError:
        return False  # damaged since; the last checkpoint has all that it takes to write them again


def _best_weights(task: StudentTask, state: StudentState) -> dict[str, Tensor] | None:
    best = state.best
    if best is None:
        return None
    if best.weights is not None:
        return best.weights
    data = task.storage.read_committed(best.file, record={FILES: {best.file: best.entry}})
    return load_safetensors(data.to_pybytes())


def _with_weights(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    model.load_state_dict(weights)
    return model


def _score(
    task: StudentTask, model: nn.Module, name: str, predictions: dict[str, Tensor]
) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for part, split in (("val", task.data.val), ("test", task.data.test)):
        if split is None:
            scores[part] = None
            continue
        probs_NK = predict(task, model, split)
        predictions[f"{name}_{part}"] = probs_NK
        correct = num_correct(probs_NK, split.labels)
        scores[part] = {"correct": correct, "total": len(split.labels)}
    return scores


def _description(task: StudentTask, state: StudentState) -> dict[str, Any]:
    train = task.data.train
    return {
        "id": task.student.id,
        "arch": task.student.arch,
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "num_classes": len(task.data.classes),
        "in_channels": train.channels,
        "image_size": task.data.image_size,
        "stored_size": list(train.stored_size),
        "classes": list(task.data.classes),
        "mean": list(task.data.mean),
        "std": list(task.data.std),
        "epochs": state.position.epoch,
        "best_epoch": state.best and state.best.epoch,
        "accuracy": state.accuracy,
        "torch": torch.__version__,
    }
