"""Events and a result to show; the numbers are made up."""

import io
from dataclasses import replace

from rich.console import Console

from raymd.result import CycleRecord, EnsembleResult, Result, Score, Scores, StudentResult
from raymd.view import events
from raymd.view.about import About

SAMPLE = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]


def about(students=("resnet18", "densenet100-2"), **changes):
    return About(students=tuple(students), **{"epochs": 24, "tin": 2, "td": 4, **changes})


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


def started(student="resnet18", index=0, step=0, **changes):
    fields = {
        "student": student,
        "epoch": index,
        "step": step,
        "parameters": 11_173_962,
        "device": "cpu",
        "threads": 1,
        "workers": 1,
    }
    return events.started(**{**fields, **changes})


def progress(student="resnet18", index=0, step=10, **changes):
    whole = epoch(student, index)
    kept = ("student", "epoch", "epochs", "cycle", "phase", "r", "lr", "loss", "task_loss")
    fields = {key: whole[key] for key in (*kept, "kd_loss", "train_accuracy", "images_per_s")}
    return events.progress(**{**fields, "step": step, "steps": 40, **changes})


def published(student="resnet18", cycle=0, **changes):
    fields = {"accuracy": 0.5, "bytes": 25_860, "seconds": 1.0, "blocks": 2, "sample": SAMPLE}
    return events.published(**{"student": student, "cycle": cycle, **fields, **changes})


def waiting(student="resnet18", cycle=0, *, missing=("densenet100-2",), seconds=12.0):
    return events.waiting(student=student, cycle=cycle, missing=list(missing), seconds=seconds)


def taught(student="resnet18", cycle=0, **changes):
    fields = {
        "teacher": "common",
        "weights": {"resnet18": 0.48, "densenet100-2": 0.52},
        "waited_s": 1.5,
        "sample": SAMPLE,
    }
    return events.taught(**{"student": student, "cycle": cycle, **fields, **changes})


def segment(student="resnet18", *, slot=0, start=0, stop=2):
    return events.segment(
        student=student, slot=slot, start_epoch=start, stop_epoch=stop, seconds=9.0
    )


def lost(student="resnet18", index=8, step=3, reason="[worker] died"):
    return events.lost(student=student, epoch=index, step=step, reason=reason)


def run_started(students=("resnet18", "densenet100-2"), **changes):
    fields = {
        "run": "runs/[one]",
        "students": [{"id": student, "arch": student.split("-")[0]} for student in students],
        "method": "md",
        "epochs": 24,
        "tin": 2,
        "td": 4,
        "t": 3.0,
        "dataset": "digits",
        "num_train": 1293,
        "num_val": 144,
        "num_test": 360,
        "plan": ["2 students at once"],
    }
    return events.run_started(**{**fields, **changes})


def run_finished(whole):
    return events.run_finished(
        run=whole.run, seconds=12.5, best_student=whole.best_student, result=whole.to_dict()
    )


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


ONE_OF_EACH = [
    run_started(),
    started(),
    progress(),
    epoch(),
    published(),
    waiting(),
    taught(),
    events.restarted(student="a", epoch=1, step=2, attempt=1, reason="killed"),
    events.stopped(student="a", epoch=1, step=2),
    segment("a"),
    lost("a"),
    events.memory(bytes=1_200_000_000, peak_bytes=2_400_000_000),
    events.finished(student="a"),
    events.note(text="precision fp32: no GPU in sight"),
    run_finished(result()),
]
