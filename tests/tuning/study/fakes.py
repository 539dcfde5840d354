"""Runs that are finished without training, and small studies of them."""

from dataclasses import replace

from raymd.result import EnsembleResult, Score, Scores, StudentResult
from raymd.run_folder import history_part
from raymd.storage import Storage
from raymd.student_options import student_ids
from raymd.view.events import encode_history
from tests.view.examples import epoch
from tests.view.examples import result as example
from tuning.study.groups import ALONE, Group, Line, Study
from tuning.study.points import Point
from tuning.study.scales import SMOKE, Data

NUM_TEST, NUM_VAL = 1000, 100


def scores(correct, val):
    return Scores(Score(correct, NUM_TEST), None if val is None else Score(val, NUM_VAL))


def finished(config, *, correct, val=None, ensemble=None, workers=1, seconds=4.0):
    """Write a run of these test hits (a number for each student), as fit() leaves it."""
    ids = student_ids(config.students)
    held_out = val or [None] * len(ids)
    students = tuple(
        StudentResult(
            id=i, arch=arch, parameters=10, epochs=2, last=scores(hits, v),
            best=None if v is None else scores(hits + 1, v),
            best_epoch=None if v is None else 1,
        )
        for i, arch, hits, v in zip(ids, config.students, correct, held_out, strict=True)
    )  # fmt: skip
    of_ensemble = scores(ensemble or max(correct), held_out[0])
    storage = Storage.at(config.storage).sub(config.name)
    best = ids[held_out.index(max(held_out))] if val else ids[0]
    result = replace(
        example(), run=storage.uri, method=config.method, dataset=config.dataset, students=students,
        num_val=NUM_VAL if val else 0, num_test=NUM_TEST, best_student=best, seed=config.seed,
        ensemble=EnsembleResult(
            members=ids, weights=(1 / len(ids),) * len(ids), last=of_ensemble, best=of_ensemble
        ),
        settings={"students": [{"id": i, "workers_per_student": workers} for i in ids]},
        environment={"cpu": "a CPU", "cores": 2},
    )  # fmt: skip
    for i in ids:
        accuracies = [None, None] if val is None else [0.5, 0.75]
        events = [
            epoch(i, index, epochs=2, seconds=seconds, val_accuracy=accuracy)
            for index, accuracy in enumerate(accuracies)
        ]
        storage.write(history_part(i, 0), encode_history(events))
    storage.write("result.json", result.to_json().encode())
    return result


def point(method="independent", students=("resnet8", "resnet14"), **settings):
    return Point(
        {
            "method": method, "students": students, "dataset": "digits", "epochs": 2, "tin": 1,
            "td": 1, "t": 3.0, "val_fraction": 0.1, **settings,
        }
    )  # fmt: skip


def small_study(**points):
    """A study of one group: independent students and md, the first student printed."""
    variants = {ALONE: point(), "md": point("md"), **points}
    lines = tuple(
        Line(label=f"{name}: first", variant=name, places=(0,), paper=number)
        for name, number in ((ALONE, 77.58), ("md", 79.87))
    )
    group = Group(title="digits: two", variants=variants, lines=lines, key=("alexnet", 2))
    return Study(
        name="table3", title="Table 3: a test", scale=SMOKE, data=(Data("cifar10", "digits"),),
        groups=(group,), cautions=("a caution",),
    )  # fmt: skip


def hits(config):
    """Test hits by method, student and seed; md is 5, 7 and 9 better for seeds 0 to 2."""
    base = [700 + 10 * config.seed + 3 * place for place in range(len(config.students))]
    gain = 5 + 2 * config.seed if config.method == "md" else 0
    return [number + gain for number in base]


def fake_fit(config, on_event):
    on_event(epoch(config.students[0]))
    return finished(config, correct=hits(config), val=[60, 70][: len(config.students)])
