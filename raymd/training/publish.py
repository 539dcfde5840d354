"""Publishing: a student's soft labels of every training sample, committed block by block.

Eval mode, clean images, temperature t (Eq. 4). A block is committed first and handed over
after; one that is committed already is not computed again, so publishing may be ended and
begun anew anywhere. Equal weights give equal bytes.
"""

import time
from typing import Any

import numpy as np

from raymd.distillation.schedule import Epoch
from raymd.distillation.soft_labels import encode_block
from raymd.exchange import names
from raymd.exchange.blocks import commit_block, committed_blocks
from raymd.exchange.folder import Exchange
from raymd.exchange.ledger import Publication
from raymd.training.evaluate import predict
from raymd.training.student import Emit, StudentState, StudentTask
from raymd.view import events
from raymd.view.event_types import SAMPLE_CLASSES, SAMPLE_ROWS

ENCODING = "float16"


def publish(
    task: StudentTask, state: StudentState, epoch: Epoch, *, exchange: Exchange, emit: Emit
) -> None:
    """Publish soft labels of the epoch's cycle, unless its teacher is complete already.

    Args:
        task, state: The student, committed at this position.
        epoch: The first epoch that the coming teacher is for.
        exchange: Who hears of it.
        emit: Takes the ``published`` event.
    """
    cycle = epoch.cycle
    complete = task.storage.record(names.complete_record(cycle)) is not None
    if task.ranks.from_first(complete):
        return
    started = time.perf_counter()
    publication = _announce(task, state, cycle, exchange)
    folder = names.published_folder(cycle, task.student.id)
    done = set(committed_blocks(task.storage, folder))
    num_bytes, sample = 0, list[list[float]]()
    for block in task.ranks.mine(range(task.layout.num_blocks)):
        data = None
        if block not in done:
            rows_NK = _compute_rows(task, state, block)
            metadata = block_metadata(task, publication, block)
            data = encode_block(rows_NK, metadata=metadata)
            commit_block(task.storage, folder, block=block, data=data, fields=metadata)
            num_bytes += data.nbytes
            sample = sample or sample_of(rows_NK)
        exchange.deliver(publication, block=block, data=data)
    emit(
        events.published(
            student=task.student.id,
            cycle=cycle,
            accuracy=publication.accuracy,
            bytes=task.ranks.sum(num_bytes),
            blocks=task.layout.num_blocks,
            seconds=time.perf_counter() - started,
            sample=sample,
        )
    )


def _announce(
    task: StudentTask, state: StudentState, cycle: int, exchange: Exchange
) -> Publication:
    """Commit and announce the publication, once for all workers of the student."""
    publication = Publication(cycle, task.student.id, state.accuracy, state.publish_id)
    if task.ranks.is_first:
        fields = {"accuracy": publication.accuracy, "publish_id": publication.publish_id}
        task.storage.commit(names.publication_record(cycle, task.student.id), fields)
        exchange.announce(publication)
    return task.ranks.from_first(publication)


def sample_of(rows_NK: np.ndarray) -> list[list[float]]:
    """The first samples' soft labels, for pictures: as events.published tells them."""
    shown = rows_NK[:SAMPLE_ROWS, :SAMPLE_CLASSES].astype(np.float64)
    return np.round(shown, 4).tolist()


def _compute_rows(task: StudentTask, state: StudentState, block: int) -> np.ndarray:
    """A block's soft labels, [rows, K] as they are stored."""
    first, stop = task.layout.rows(block)
    probs_NK = predict(
        task, state.model, task.data.train, t=task.settings.t, start=first, stop=stop
    )
    rows_NK: np.ndarray = probs_NK.numpy().astype(np.dtype(ENCODING))
    return rows_NK


def block_metadata(task: StudentTask, publication: Publication, block: int) -> dict[str, Any]:
    """What a block's rows are."""
    return {
        "run": task.run,
        "cycle": publication.cycle,
        "student": publication.student,
        "publish_id": publication.publish_id,
        "accuracy": publication.accuracy,
        "first_id": task.layout.rows(block)[0],
        "view": task.layout.view(block),
        "t": task.settings.t,
        "fingerprint": task.data.fingerprint,
        "encoding": ENCODING,
    }
