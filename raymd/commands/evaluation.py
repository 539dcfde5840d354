"""A finished run on images -> every figure of its students and of their ensemble.

Place on the data's way: after it. It reads what is committed and predicts as training's evaluation
does: the same pixels, batches and precision. Nothing is chosen by the images evaluated on: the
best student and the ensemble's weights are the result's.

    N images   K classes   S students
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from raymd import metrics
from raymd.commands.latency import Latency, measure_latency
from raymd.commands.saved_data import Images, as_trained, saved_identity
from raymd.commands.where import read_result
from raymd.data.splits import Prepared
from raymd.deploy import LoadedEnsemble, LoadedStudent, Weights, load_student
from raymd.errors import UserError
from raymd.plain import to_plain
from raymd.result import Result, Score
from raymd.run_folder import model_record, weights_file
from raymd.settings import Settings, StudentConfig
from raymd.storage import FILES, Storage
from raymd.training.evaluate import ensemble, predict
from raymd.training.student import StudentTask

SCHEMA_VERSION = 1
TOP_K = 5
ENSEMBLE = "ensemble"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One student, or all of them as an ensemble.

    Attributes:
        id, arch: ``ensemble`` and None for the ensemble.
        parameters: Of the network; the members' sum for the ensemble.
        weights_bytes: Size of its weights' file; the members' sum for the ensemble.
        top1, top5: Images whose label is the most probable class, or among the five most; top5 is
            None for five classes or fewer.
        nll: Mean negative log-likelihood in nats.
        calibration: Expected calibration error and the reliability table.
        class_accuracy: Part of each class's images; nan for a class without any.
        latency: Measured here; None if not asked for.
    """

    id: str
    arch: str | None
    parameters: int
    weights_bytes: int
    top1: Score
    top5: Score | None
    nll: float
    calibration: metrics.Calibration
    class_accuracy: tuple[float, ...]
    latency: Latency | None


@dataclass(frozen=True)
class Comparison:
    """One of the run's against one of the baseline's, by id; ``ensemble`` is one too."""

    id: str
    baseline: str
    difference: metrics.PairedDifference


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All figures of a run on some images.

    Attributes:
        run, dataset, part, weights, device: What was evaluated, on what, where.
        num_images: N.
        classes, class_counts: Names, and images of each.
        students: In the result's order.
        ensemble: The weighted mean prediction of all.
        best_student: The result's, picked on held-out images.
        agreement: [S][S], part of the images for which two students predict the same class.
        gain_over_best, gain_over_mean: The ensemble's over the best student and over the mean
            student.
        baseline: The other run; None without.
        comparisons: Of this run with it: best student, ensemble, and students of equal ids.
    """

    run: str
    dataset: str
    part: str
    weights: str
    device: str
    num_images: int
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    students: tuple[Figures, ...]
    ensemble: Figures
    best_student: str
    agreement: tuple[tuple[float, ...], ...]
    gain_over_best: metrics.PairedDifference
    gain_over_mean: metrics.Difference
    baseline: str | None = None
    comparisons: tuple[Comparison, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"schema_version": SCHEMA_VERSION, **to_plain(self)}


@dataclass(frozen=True)
class Predicted:
    """What a run's students and their ensemble predict.

    Attributes:
        result: The run's.
        models: The students, in the result's order, on the device.
        probs: float32 [N, K] by student id, and of the ensemble under ENSEMBLE.
    """

    result: Result
    models: tuple[LoadedStudent, ...]
    probs: dict[str, np.ndarray]

    def hits(self, name: str, labels_N: np.ndarray) -> np.ndarray:
        """bool [N]: whether the most probable class is the label."""
        hits_N: np.ndarray = self.probs[name].argmax(axis=1) == labels_N
        return hits_N


def evaluate(
    run: Storage,
    images: Images,
    *,
    weights: Weights,
    device: torch.device,
    with_latency: bool = True,
    baseline: Storage | None = None,
) -> Evaluation:
    """Every figure of a finished run.

    Args:
        run: The run.
        images: What to evaluate on.
        weights: Of each student.
        device: Where to compute.
        with_latency: Whether to measure how long the networks take.
        baseline: Another finished run, to compare with on the same images.

    Raises:
        UserError: a run that is not finished, or a baseline that cannot be compared with.
        StorageError: damaged files.
    """
    if baseline is not None:
        _check_comparable(run, baseline, images)
    predicted = predict_run(run, images, weights=weights, device=device)
    labels_N = images.split.labels.numpy()
    students = tuple(
        _figures(_facts(run, model, weights), predicted.probs[model.id], labels_N)
        for model in predicted.models
    )
    together = _figures(_sum_of(students), predicted.probs[ENSEMBLE], labels_N)
    if with_latency:
        *students_, together = _with_latency([*students, together], predicted, images, device)
        students = tuple(students_)
    hits_SN = np.stack([predicted.hits(s.id, labels_N) for s in students])
    best_hits_N = predicted.hits(predicted.result.best_student, labels_N)
    ensemble_hits_N = predicted.hits(ENSEMBLE, labels_N)
    classes_SN = np.stack([predicted.probs[s.id].argmax(axis=1) for s in students])
    evaluation = Evaluation(
        run=run.uri,
        dataset=images.data.name,
        part=images.part,
        weights=weights,
        device=device.type,
        num_images=len(labels_N),
        classes=images.data.classes,
        class_counts=tuple(np.bincount(labels_N, minlength=len(images.data.classes)).tolist()),
        students=students,
        ensemble=together,
        best_student=predicted.result.best_student,
        agreement=tuple(map(tuple, metrics.agreement(classes_SN).tolist())),
        gain_over_best=metrics.paired_difference(ensemble_hits_N, best_hits_N),
        gain_over_mean=metrics.difference_to_mean(ensemble_hits_N, hits_SN),
    )
    if baseline is None:
        return evaluation
    other = predict_run(baseline, images, weights=weights, device=device)
    comparisons = tuple(_comparisons(predicted, other, labels_N))
    return replace(evaluation, baseline=baseline.uri, comparisons=comparisons)


def predict_run(
    run: Storage, images: Images, *, weights: Weights, device: torch.device
) -> Predicted:
    """What a finished run's students predict, exactly as training's evaluation would."""
    result = read_result(run)
    settings, _ = saved_identity(run)
    data = as_trained(images.data, run, settings)
    configs = {student.id: student for student in settings.students}
    models, probs = [], dict[str, np.ndarray]()
    for student in result.students:
        task = _task(run, configs[student.id], settings, data=data, device=device)
        model = load_student(run.uri, student=student.id, weights=weights).to(device)
        network = model.network.to(memory_format=task.memory_format)  # type: ignore[call-overload]
        probs[student.id] = predict(task, network, images.split).numpy()
        models.append(model)
    members = [probs[member] for member in result.ensemble.members]
    probs[ENSEMBLE] = ensemble(members, list(result.ensemble.weights))
    return Predicted(result, tuple(models), probs)


def _task(
    run: Storage,
    student: StudentConfig,
    settings: Settings,
    *,
    data: Prepared,
    device: torch.device,
) -> StudentTask:
    return StudentTask(
        student=student, settings=settings, data=data, storage=run, run=run.uri, device=device
    )


def _check_comparable(run: Storage, baseline: Storage, images: Images) -> None:
    if not images.is_own or images.part == "test":
        return
    if saved_identity(run)[1] != saved_identity(baseline)[1]:
        raise UserError(
            f"part {images.part!r}: {baseline.uri} held out other images, so it may have been"
            " trained on these; compare on the test images (--part test, --baseline)"
        )


@dataclass(frozen=True)
class _Facts:
    """What is known of a student or ensemble without looking at images."""

    id: str
    arch: str | None
    parameters: int
    weights_bytes: int


def _facts(run: Storage, model: LoadedStudent, weights: Weights) -> _Facts:
    record = run.record(model_record(model.id))
    assert record is not None
    num_bytes = record[FILES][weights_file(model.id, weights)]["bytes"]
    return _Facts(model.id, model.arch, record["parameters"], num_bytes)


def _sum_of(students: tuple[Figures, ...]) -> _Facts:
    parameters = sum(student.parameters for student in students)
    return _Facts(ENSEMBLE, None, parameters, sum(student.weights_bytes for student in students))


def _figures(facts: _Facts, probs_NK: np.ndarray, labels_N: np.ndarray) -> Figures:
    num_classes = probs_NK.shape[1]
    top1_N = metrics.top_k_correct(probs_NK, labels_N, k=1)
    top5 = None
    if num_classes > TOP_K:
        top5 = _score(metrics.top_k_correct(probs_NK, labels_N, k=TOP_K))
    by_class_K = metrics.class_accuracy(top1_N, labels_N, num_classes=num_classes)
    return Figures(
        id=facts.id,
        arch=facts.arch,
        parameters=facts.parameters,
        weights_bytes=facts.weights_bytes,
        top1=_score(top1_N),
        top5=top5,
        nll=metrics.negative_log_likelihood(probs_NK, labels_N),
        calibration=metrics.calibration(probs_NK, labels_N),
        class_accuracy=tuple(by_class_K.tolist()),
        latency=None,
    )


def _score(hits_N: np.ndarray) -> Score:
    return Score(int(hits_N.sum()), len(hits_N))


def _with_latency(
    figures: list[Figures], predicted: Predicted, images: Images, device: torch.device
) -> list[Figures]:
    """The same figures, measured: the students, then the ensemble of them."""
    result = predicted.result
    members = {model.id: model for model in predicted.models}
    together = LoadedEnsemble(
        [members[name] for name in result.ensemble.members], result.ensemble.weights
    )
    side = images.data.image_size
    shape = (images.data.train.channels, side, side)
    modules = [*predicted.models, together.to(device)]
    return [
        replace(figure, latency=measure_latency(module, shape=shape, device=device))
        for figure, module in zip(figures, modules, strict=True)
    ]


def _comparisons(one: Predicted, other: Predicted, labels_N: np.ndarray) -> list[Comparison]:
    pairs = [(one.result.best_student, other.result.best_student), (ENSEMBLE, ENSEMBLE)]
    pairs += [(name, name) for name in one.probs if name in other.probs]
    return [
        Comparison(
            name,
            name_there,
            metrics.paired_difference(one.hits(name, labels_N), other.hits(name_there, labels_N)),
        )
        for name, name_there in dict.fromkeys(pairs)
    ]
