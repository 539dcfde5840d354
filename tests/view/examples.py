"""Events and a result to show; the numbers are made up."""

import io
from dataclasses import replace

from rich.console import Console

from raymd.result import CycleRecord, EnsembleResult, Result, Score, Scores, StudentResult
from raymd.view import events


def recording_console(width):
    return Console(file=io.StringIO(), width=width, highlight=False)


def printed(console):
    return console.file.getvalue().splitlines()


def epoch(student="resnet18", index=0, **changes):
    distils = index % 6 >= 2
    fields = {
        "student": student,
        "epoch": index,
        "epochs": 24,
        "cycle": index // 6,
        "phase": "distillation" if distils else "independent",
        "r": index % 6 - 2 if distils else index % 6,
        "lr": 0.1,
        "alpha": 1.0,
        "beta": 1.0 if distils else 0.0,
        "task_loss": 0.412,
        "kd_loss": 0.133 if distils else None,
        "loss": 0.545,
        "train_accuracy": 0.9,
        "val_accuracy": 0.951,
        "images_per_s": 1034.4,
        "seconds": 4.0,
    }
    return events.epoch(**{**fields, **changes})


def scores(test, val, *, total=360):
    return Scores(Score(test, total), None if val is None else Score(val, 144))


def student(student_id, *, parameters=1000, test=340, val=138):
    best = None if val is None else scores(test + 1, val)
    return StudentResult(
        id=student_id,
        arch="resnet18",
        parameters=parameters,
        epochs=24,
        last=scores(test, val),
        best=best,
        best_epoch=None if val is None else 20,
    )


def result(**changes):
    whole = Result(
        run="runs/[one]",
        method="md",
        dataset="digits",
        num_train=1293,
        num_val=144,
        num_test=360,
        epochs=24,
        t=3.0,
        tin=2,
        td=4,
        seed=0,
        students=(
            student("densenet100-2", parameters=769_162),
            student("vgg19", parameters=20_040_522, test=350, val=130),
        ),
        ensemble=EnsembleResult(
            members=("densenet100-2", "vgg19"),
            weights=(0.5, 0.5),
            last=scores(344, 141),
            best=scores(346, 142),
        ),
        best_student="densenet100-2",
        cycles=(CycleRecord(0, {"densenet100-2": 0.5, "vgg19": 0.5}, {"vgg19": 0.9}),),
        settings={"t": 3.0, "students": [{"id": "vgg19"}]},
        environment={"python": "3.11.7", "ray": None},
        seconds=12.5,
    )
    return replace(whole, **changes)
