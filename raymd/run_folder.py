"""Names in a run's directory, relative to it: the interface to everything that comes after.

Whoever writes or reads a run's files asks here where they lie; docs/result.md shows all of it.
"""

CONFIG = "config.yaml"
PLAN = "plan.json"
RESULT = "result.json"
REPORT = "report.html"
TENSORBOARD = "tensorboard"
WANDB = "wandb"
HISTORY = "history"
ENDED = "ended"  # an empty file: the last attempt was stopped or failed, and is over
SCRATCH = ".ray_train"  # Ray Train's own, of no use after the attempt


def history_part(student: str, number: int) -> str:
    """A numbered part of a student's history, JSON lines (view/events.py)."""
    return f"{HISTORY}/{student}/part-{number:05d}.jsonl"


def student_folder(student: str) -> str:
    """A student's final files and checkpoints."""
    return f"students/{student}"


def checkpoints_folder(student: str) -> str:
    """A student's checkpoints, until the run is finished."""
    return f"{student_folder(student)}/checkpoints"


def model_record(student: str) -> str:
    """The record that makes a student's final files count."""
    return f"{student_folder(student)}/model.json"


def weights_file(student: str, which: str) -> str:
    """A student's ``best`` or ``last`` weights."""
    return f"{student_folder(student)}/{which}.safetensors"


def predictions_file(student: str) -> str:
    """What a student's ``best`` and ``last`` weights predict for held-out and test images."""
    return f"{student_folder(student)}/predictions.safetensors"
