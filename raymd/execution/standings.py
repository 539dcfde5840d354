"""Where a run's students stand, read from what is committed."""

from raymd.distillation.schedule import Position, Schedule
from raymd.errors import StorageError
from raymd.exchange import names
from raymd.exchange.blocks import committed_blocks, is_complete, read_losses
from raymd.exchange.facts import FROZEN
from raymd.execution.dispatch import Standing
from raymd.execution.opening import Run
from raymd.execution.work import newest_position
from raymd.run_folder import model_record
from raymd.storage import Storage
from raymd.student_options import members_of
from raymd.training.student import layout_of


def standings(run: Run) -> dict[str, Standing]:
    """Every student of a run but those lost, by id."""
    lost = {loss.student for loss in read_losses(run.storage)}
    method = run.settings.teaching()
    frozen = run.settings.teachers if method.exchanges else ()
    found = {unit: _standing(run, unit) for unit in run.settings.units}
    found |= {teacher.id: _frozen(run, teacher.id) for teacher in frozen}
    return {unit: standing for unit, standing in found.items() if unit not in lost}


def _standing(run: Run, unit: str) -> Standing:
    """Of a student, or of those that are trained together."""
    schedule = run.settings.schedule()
    position = newest_position(run.storage, unit)
    records = [model_record(student) for student in members_of(unit)]
    return Standing(
        position,
        has_published=_has_published(run, schedule, unit, position),
        is_finished=position == schedule.end and all(_is_there(run.storage, r) for r in records),
    )


def _has_published(run: Run, schedule: Schedule, student: str, position: Position) -> bool:
    epoch = schedule.barrier_at(position)
    if epoch is None:
        return False
    if student not in run.settings.publishers:
        return True
    return is_complete(run.storage, epoch.cycle) or _is_whole(run, epoch.cycle, student)


def _frozen(run: Run, teacher: str) -> Standing:
    """Of a frozen teacher: it has all behind it once it has published."""
    done = _is_whole(run, FROZEN, teacher)
    return Standing(Position(0), has_published=done, is_finished=done, is_frozen=True)


def _is_whole(run: Run, cycle: int, publisher: str) -> bool:
    """Whether a publication is committed with all of its blocks."""
    blocks = committed_blocks(run.storage, names.published_folder(cycle, publisher))
    announced = _is_there(run.storage, names.publication_record(cycle, publisher))
    return announced and len(blocks) == layout_of(run.settings, run.data).num_blocks


def _is_there(storage: Storage, record: str) -> bool:
    try:
        return storage.check_committed(record) is not None
    except StorageError:  # damaged: it will be made again
        return False
