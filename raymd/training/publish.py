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
    if task.storage.record(names.complete_record(cycle)) is not None:
        return
    started = time.perf_counter()
    publication = Publication(cycle, task.student.id, state.accuracy, state.publish_id)
    fields = {"accuracy": publication.accuracy, "publish_id": publication.publish_id}
    task.storage.commit(names.publication_record(cycle, task.student.id), fields)
    exchange.announce(publication)
    folder = names.published_folder(cycle, task.student.id)
    done = set(committed_blocks(task.storage, folder))
    num_bytes = 0
    for block in range(task.layout.num_blocks):
        data = None
        if block not in done:
            data = _compute_block(task, state, publication, block)
            metadata = block_metadata(task, publication, block)
            commit_block(task.storage, folder, block=block, data=data, fields=metadata)
            num_bytes += data.nbytes
        exchange.deliver(publication, block=block, data=data)
    emit(
        events.published(
            student=task.student.id,
            cycle=cycle,
            accuracy=publication.accuracy,
            bytes=num_bytes,
            seconds=time.perf_counter() - started,
        )
    )


def _compute_block(
    task: StudentTask, state: StudentState, publication: Publication, block: int
) -> np.ndarray:
    first, stop = task.layout.rows(block)
    probs_NK = predict(
        task, state.model, task.data.train, t=task.settings.t, start=first, stop=stop
    )
    rows_NK = probs_NK.numpy().astype(np.dtype(ENCODING))
    return encode_block(rows_NK, metadata=block_metadata(task, publication, block))


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
