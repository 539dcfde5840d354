"""From finished students to a Result: their scores, the ensemble's, and each cycle's teacher.

Everything is read from committed files; nothing is trained or evaluated here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors.numpy import load as load_safetensors

from raymd.data.dataset import AnySplit
from raymd.data.splits import Prepared
from raymd.distillation.methods import accuracy_weights
from raymd.exchange.blocks import begun_cycles, read_losses, read_roster
from raymd.result import (
    CycleRecord,
    EnsembleResult,
    LostStudent,
    Result,
    Score,
    Scores,
    StudentResult,
    environment,
    pick_best,
)
from raymd.run_folder import RESULT, model_record, predictions_file
from raymd.secrets import without_secrets
from raymd.settings import Settings
from raymd.storage import Storage
from raymd.training.evaluate import ensemble


def collect(
    storage: Storage,
    settings: Settings,
    data: Prepared,
    *,
    seconds: float,
    object_store_peak_bytes: int | None = None,
) -> Result:
    """Put a run's result together and write result.json.

    Args:
        storage: The run's folder; all its students are finished but those lost.
        settings: The run's science.
        data: For the labels that the ensemble is scored by.
        seconds: Wall time of this attempt.
        object_store_peak_bytes: See Result.

    Raises:
        StorageError: a student's final files are damaged.
    """
    losses = read_losses(storage)
    lost = tuple(LostStudent(x.student, x.reason, x.epoch, x.cycle or 0) for x in losses)
    finished = [s.id for s in settings.students if s.id not in {loss.student for loss in losses}]
    records = [_record(storage, student) for student in finished]
    students = tuple(_student(record) for record in records)
    result = Result(
        run=without_secrets(storage.uri),
        method=settings.method,
        dataset=settings.dataset,
        num_train=len(data.train),
        num_val=len(data.val) if data.val is not None else 0,
        num_test=len(data.test),
        epochs=settings.epochs,
        t=settings.t,
        tin=settings.tin,
        td=settings.td,
        seed=settings.seed,
        students=students,
        ensemble=_ensemble(storage, records, data),
        best_student=pick_best(students),
        cycles=tuple(_cycles(storage, settings, finished[0])),
        settings=settings.to_dict(),
        environment=environment(),
        seconds=seconds,
        lost=lost,
        object_store_peak_bytes=object_store_peak_bytes,
    )
    storage.write(RESULT, result.to_json().encode())
    return result


def _record(storage: Storage, student: str) -> dict[str, Any]:
    record = storage.record(model_record(student))
    assert record is not None, f"{student} has not finished"
    return record


def _student(record: dict[str, Any]) -> StudentResult:
    held_out = record["best_epoch"] is not None
    return StudentResult(
        id=record["id"],
        arch=record["arch"],
        parameters=record["parameters"],
        epochs=record["epochs"],
        last=_scores(record["scores"]["last"]),
        best=_scores(record["scores"]["best"]) if held_out else None,
        best_epoch=record["best_epoch"],
    )


def _scores(scores: dict[str, Any]) -> Scores:
    val = scores["val"]
    return Scores(Score(**scores["test"]), Score(**val) if val is not None else None)


def _ensemble(
    storage: Storage, records: Sequence[dict[str, Any]], data: Prepared
) -> EnsembleResult:
    """Weighted by last held-out accuracy, as a teacher of the last weights would be (Eq. 8)."""
    weights = accuracy_weights({record["id"]: record["accuracy"] for record in records})
    members = tuple(record["id"] for record in records)
    predictions = [
        load_safetensors(
            storage.read_committed(predictions_file(record["id"]), record=record).to_pybytes()
        )
        for record in records
    ]

    def score(which: str, part: str, split: AnySplit | None) -> Score | None:
        if split is None:
            return None
        probs = [prediction[f"{which}_{part}"] for prediction in predictions]
        mixed_NK = ensemble(probs, [weights[member] for member in members])
        hits_N = mixed_NK.argmax(axis=1) == split.labels.numpy()
        return Score(int(np.count_nonzero(hits_N)), len(split))

    def scores(which: str) -> Scores:
        test = score(which, "test", data.test)
        assert test is not None
        return Scores(test, score(which, "val", data.val))

    ordered = tuple(weights[member] for member in members)
    return EnsembleResult(
        members=members, weights=ordered, last=scores("last"), best=scores("best")
    )


def _cycles(storage: Storage, settings: Settings, student: str) -> list[CycleRecord]:
    """What the teacher of one student was made of, in every cycle."""
    teacher = settings.teaching().teacher_of(student)
    records = []
    for cycle in begun_cycles(storage):
        roster = read_roster(storage, cycle)
        if roster is not None:
            accuracies = {p.student: p.accuracy for p in roster.publications}
            records.append(CycleRecord(cycle, dict(roster.weights[teacher]), accuracies))
    return records
