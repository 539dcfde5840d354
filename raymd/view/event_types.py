"""The keys of every event, and what they mean; events.py makes and checks them.

Epochs, steps, cycles and r count from 0, as in the run directory; people are shown counts from 1.
Accuracies are parts of 1, times are seconds, losses are means over samples in nats. An event that
has left the driver has ``time`` too: when the driver took it, in seconds since 1970 (events.py).
"""

from typing import Any, Literal, TypedDict

Phase = Literal["independent", "distillation"]

SAMPLE_ROWS = 8
SAMPLE_CLASSES = 100


class StudentField(TypedDict):
    """A student of the run: its id there and its network's name."""

    id: str
    arch: str


class RunStartedFields(TypedDict):
    """A run begins or goes on; the first event of all.

    Attributes:
        run: The run directory, a path or a URI, as in result.json.
        students: All, in the order asked for.
        method: Name of the method.
        epochs: The budget of each student.
        tin, td: Epochs of a cycle's two phases.
        t: Temperature of the soft labels.
        dataset: As given to ``--dataset``.
        num_train, num_val, num_test: Images trained on, held out, and tested on.
        plan: What was chosen and why, in lines for people.
    """

    run: str
    students: list[StudentField]
    method: str
    epochs: int
    tin: int
    td: int
    t: float
    dataset: str
    num_train: int
    num_val: int
    num_test: int
    plan: list[str]


class StartedFields(TypedDict):
    """A student began or went on; ``epoch`` and ``step`` come next.

    Attributes:
        parameters: Of its network.
        device: Such as ``cpu`` or ``cuda:0``.
        threads: Of torch, in each of its workers.
        workers: That train it together.
    """

    student: str
    epoch: int
    step: int
    parameters: int
    device: str
    threads: int
    workers: int


class ProgressFields(TypedDict):
    """How an epoch under way stands; about once a second, and never part of the history.

    The losses, the accuracy and the throughput are those of the epoch so far.

    Attributes:
        student, epoch, epochs, cycle, phase, r, lr: As in ``epoch``.
        step: The step that comes next, so that many of the epoch's are done.
        steps: Steps of an epoch.
        loss, task_loss, kd_loss, train_accuracy, images_per_s: As in ``epoch``.
    """

    student: str
    epoch: int
    epochs: int
    step: int
    steps: int
    cycle: int
    phase: Phase
    r: int
    lr: float
    loss: float
    task_loss: float
    kd_loss: float | None
    train_accuracy: float
    images_per_s: float


class EpochFields(TypedDict):
    """One epoch of one student has ended.

    Attributes:
        student: Its id.
        epoch: Index of the epoch.
        epochs: The run's budget: the last epoch is ``epochs - 1``.
        cycle: The epoch's cycle.
        phase: Whether there was a teacher.
        r: The epoch's place within its phase.
        lr: Learning rate of the epoch.
        alpha, beta: Weights of ``task_loss`` and ``kd_loss`` (Eq. 11); 1 and 0 without a teacher.
        task_loss: Cross entropy with the labels, on augmented images.
        kd_loss: KL from the teacher, scaled as ``kl_scale`` says; None without a teacher.
        loss: What was minimised (Eq. 9).
        train_accuracy: Running accuracy on the augmented images.
        val_accuracy: On the held-out images at the epoch's end; None without any.
        images_per_s: Training throughput, over all workers of the student.
        seconds: Spent training; not evaluating, publishing or waiting.
    """

    student: str
    epoch: int
    epochs: int
    cycle: int
    phase: Phase
    r: int
    lr: float
    alpha: float
    beta: float
    task_loss: float
    kd_loss: float | None
    loss: float
    train_accuracy: float
    val_accuracy: float | None
    images_per_s: float
    seconds: float


class PublishedFields(TypedDict):
    """A student's soft labels of a cycle are committed.

    Attributes:
        accuracy: v_i, which weighs it in the teacher (Eq. 8).
        bytes: Written this time; 0 if all blocks were there already.
        seconds: Spent computing and committing.
        blocks: Blocks of its soft labels, those that were there already too.
        sample: Soft labels of the first training images, for pictures: at most SAMPLE_ROWS rows
            of at most SAMPLE_CLASSES probabilities.
    """

    student: str
    cycle: int
    accuracy: float
    bytes: int
    seconds: float
    blocks: int
    sample: list[list[float]]


class WaitingFields(TypedDict):
    """A student waits for a cycle's teacher; sent again and again while it does.

    Attributes:
        missing: Students that have not published all yet; empty while the teacher is merged.
        seconds: Waited so far.
    """

    student: str
    cycle: int
    missing: list[str]
    seconds: float


class TaughtFields(TypedDict):
    """A student has its teacher of a cycle.

    Attributes:
        teacher: The teacher's id.
        weights: a_i of each student in it (Eq. 8); they sum to 1.
        waited_s: From asking for it to having it.
        sample: The teacher's rows, as in ``published``.
    """

    student: str
    cycle: int
    teacher: str
    weights: dict[str, float]
    waited_s: float
    sample: list[list[float]]


class RestartedFields(TypedDict):
    """A student lost its workers and begins again at what it last committed.

    Attributes:
        epoch, step: Where it goes on.
        attempt: 1 for the first restart.
        reason: What ended the attempt before, in one line.
    """

    student: str
    epoch: int
    step: int
    attempt: int
    reason: str


class StoppedFields(TypedDict):
    """A student was told to stop and has committed; ``epoch`` and ``step`` come next."""

    student: str
    epoch: int
    step: int


class SegmentFields(TypedDict):
    """A slot has brought a student from one position to another, with all that belongs to it:
    restoring, training, publishing, waiting.

    Attributes:
        slot: Number of the worker group that did it.
        start_epoch, stop_epoch: The epoch that came first, and the one that comes next.
        seconds: From the order to the record.
    """

    student: str
    slot: int
    start_epoch: int
    stop_epoch: int
    seconds: float


class LostFields(TypedDict):
    """A student is not trained any further, and the others go on without it.

    Attributes:
        epoch, step: What comes next after its last commit.
        reason: In one line.
    """

    student: str
    epoch: int
    step: int
    reason: str


class MemoryFields(TypedDict):
    """What the run holds in the cluster's object stores: its images, and soft labels.

    Attributes:
        bytes: Now.
        peak_bytes: At most so far, in this attempt.
    """

    bytes: int
    peak_bytes: int


class FinishedFields(TypedDict):
    """A student's final files are committed."""

    student: str


class NoteFields(TypedDict):
    """Something to tell people: a line of text, as of a choice made or of a view that failed."""

    text: str


class RunFinishedFields(TypedDict):
    """The run has come to its result; the last event of all.

    Attributes:
        run: As in ``run_started``.
        seconds: Wall time of the attempt that finished it.
        best_student: Id of the student to use.
        result: What result.json holds (docs/result.md).
    """

    run: str
    seconds: float
    best_student: str
    result: dict[str, Any]


class RunStartedEvent(RunStartedFields):
    event: Literal["run_started"]


class StartedEvent(StartedFields):
    event: Literal["started"]


class ProgressEvent(ProgressFields):
    event: Literal["progress"]


class EpochEvent(EpochFields):
    event: Literal["epoch"]


class PublishedEvent(PublishedFields):
    event: Literal["published"]


class WaitingEvent(WaitingFields):
    event: Literal["waiting"]


class TaughtEvent(TaughtFields):
    event: Literal["taught"]


class RestartedEvent(RestartedFields):
    event: Literal["restarted"]


class StoppedEvent(StoppedFields):
    event: Literal["stopped"]


class FinishedEvent(FinishedFields):
    event: Literal["finished"]


class SegmentEvent(SegmentFields):
    event: Literal["segment"]


class LostEvent(LostFields):
    event: Literal["lost"]


class MemoryEvent(MemoryFields):
    event: Literal["memory"]


class NoteEvent(NoteFields):
    event: Literal["note"]


class RunFinishedEvent(RunFinishedFields):
    event: Literal["run_finished"]
