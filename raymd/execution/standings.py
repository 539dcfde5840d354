"""Where a run's students stand, read from what is committed."""

from raymd.distillation.schedule import Position, Schedule
from raymd.errors import StorageError
from raymd.exchange import names
from raymd.exchange.blocks import committed_blocks, is_complete, read_losses
from raymd.execution.dispatch import Standing
from raymd.execution.opening import Run
from raymd.execution.work import newest_position
from raymd.result import model_record
from raymd.storage import Storage


def standings(run: Run) -> dict[str, Standing]:
    """Every student of a run but those lost, by id."""
    lost = {loss.student for loss in read_losses(run.storage)}
    schedule = run.settings.schedule()
    return {
        student.id: _standing(run.storage, schedule, student.id, run.data.layout.num_blocks)
        for student in run.settings.students
        if student.id not in lost
    }


def _standing(storage: Storage, schedule: Schedule, student: str, num_blocks: int) -> Standing:
    position = newest_position(storage, student)
    return Standing(
        position,
        has_published=_has_published(storage, schedule, student, position, num_blocks),
        is_finished=position == schedule.end and _is_there(storage, model_record(student)),
    )


def _has_published(
    storage: Storage, schedule: Schedule, student: str, position: Position, num_blocks: int
) -> bool:
    epoch = schedule.barrier_at(position)
    if epoch is None:
        return False
    done = committed_blocks(storage, names.published_folder(epoch.cycle, student))
    return len(done) == num_blocks or is_complete(storage, epoch.cycle)


def _is_there(storage: Storage, record: str) -> bool:
    try:
        return storage.check_committed(record) is not None
    except StorageError:  # damaged: it will be made again
        return False
