"""Publishing: a student's soft labels of every training sample, committed block by block.

Eval mode, clean images or seeded views of them, temperature t (Eq. 4). A block is committed first
and handed over after, both while the next one is computed. One that is committed already and intact
is not computed again, so publishing may be ended and begun anew anywhere. Equal weights give equal
bytes.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from raymd.distillation.encoding import decode_block, encode_block
from raymd.distillation.schedule import Epoch
from raymd.distillation.top_k import Rows, stored_rows, written_out
from raymd.errors import StorageError
from raymd.exchange import names
from raymd.exchange.blocks import (
    commit_block,
    is_complete,
    publication_fields,
    publication_of,
    read_block,
)
from raymd.exchange.facts import Publication
from raymd.exchange.folder import Exchange
from raymd.storage import Storage
from raymd.training.background import Background
from raymd.training.evaluate import held_out_loss, predict
from raymd.training.student import Emit, StudentState, StudentTask
from raymd.view import events
from raymd.view.event_types import SAMPLE_CLASSES, SAMPLE_ROWS


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
    if not task.publishes or task.ranks.from_first(is_complete(task.storage, cycle)):
        return
    started = time.perf_counter()
    model = published_model(task, state)
    publication = Publication(
        cycle, task.student.id, state.accuracy, state.publish_id, published_loss(task, model)
    )
    num_bytes, sample = publish_all(task, model, publication, exchange=exchange)
    emit(
        events.published(
            student=task.student.id,
            cycle=cycle,
            accuracy=publication.accuracy,
            bytes=num_bytes,
            blocks=task.layout.num_blocks,
            seconds=time.perf_counter() - started,
            sample=sample,
        )
    )


def published_model(task: StudentTask, state: StudentState) -> nn.Module:
    """What a student publishes from: its weights, or their average (``--publish``)."""
    return state.kept if task.settings.publish == "ema" else state.model


def published_loss(task: StudentTask, model: nn.Module) -> float | None:
    """The held-out loss of what is published, where teachers are weighted by it."""
    return held_out_loss(task, model) if task.method.weights == "inverse_loss" else None


def publish_all(
    task: StudentTask, model: nn.Module, publication: Publication, *, exchange: Exchange
) -> tuple[int, list[list[float]]]:
    """Commit and announce a publication, then all of its blocks, shared by the student's workers.

    Returns:
        Bytes that were computed, and the first samples' soft labels of this worker's first block.
    """
    publication = _announce(task, publication, exchange)
    num_bytes, sample = publish_blocks(
        task.storage,
        publication,
        task.ranks.mine(range(task.layout.num_blocks)),
        compute=partial(compute_block, task, model, publication),
        fields=partial(block_metadata, task, publication),
        exchange=exchange,
    )
    return task.ranks.sum(num_bytes), sample


def publish_blocks(
    storage: Storage,
    publication: Publication,
    blocks: Iterable[int],
    *,
    compute: Callable[[int], np.ndarray],
    fields: Callable[[int], Mapping[str, Any]],
    exchange: Exchange,
) -> tuple[int, list[list[float]]]:
    """Commit blocks of an announced publication and hand each over, while the next is computed.

    Args:
        storage: The run's.
        publication: Whose blocks.
        blocks: Their numbers. Those that are committed and intact are only told of.
        compute: Makes a block's bytes, uint8; called in this thread.
        fields: What a block's record says of it.
        exchange: Takes the blocks, in order, in another thread; one at a time, so that two blocks
            at most are in memory.

    Returns:
        Bytes that were computed, and the first samples' soft labels of the first block made.
    """
    num_bytes, sample = 0, list[list[float]]()

    def hand_over(block: int, data: np.ndarray | None) -> None:
        if data is not None:
            folder = names.published_folder(publication.cycle, publication.student)
            commit_block(storage, folder, block=block, data=data, fields=fields(block))
        exchange.deliver(publication, block=block, data=data)

    with Background() as background:
        for block in blocks:
            data = None if _is_published(storage, publication, block) else compute(block)
            if data is not None:
                num_bytes += data.nbytes
                sample = sample or sample_of(decode_block(data)[1])
            background.do(hand_over, block, data)
    return num_bytes, sample


def _announce(task: StudentTask, publication: Publication, exchange: Exchange) -> Publication:
    """Commit and announce the publication, once for all workers of the student."""
    if task.ranks.is_first:
        publication = committed_publication(task, publication)
        name = names.publication_record(publication.cycle, publication.student)
        task.storage.commit(name, publication_fields(publication))
        exchange.announce(publication)
    return task.ranks.from_first(publication)


def committed_publication(task: StudentTask, publication: Publication) -> Publication:
    """What was announced of the same weights before, if anything was.

    Accuracy and loss are measured, and another device or number of threads measures a loss of other
    last digits; what was said first counts.
    """
    cycle, student = publication.cycle, publication.student
    try:
        record = task.storage.record(names.publication_record(cycle, student))
    except StorageError:
        return publication
    if record is None or record["publish_id"] != publication.publish_id:
        return publication
    return publication_of(record, cycle=cycle, student=student)


def sample_of(rows_NK: Rows) -> list[list[float]]:
    """The first samples' soft labels, for pictures: as events.published tells them."""
    shown = written_out(rows_NK[:SAMPLE_ROWS])[:, :SAMPLE_CLASSES].astype(np.float64)
    return np.round(shown, 4).tolist()


def _is_published(storage: Storage, publication: Publication, block: int) -> bool:
    folder = names.published_folder(publication.cycle, publication.student)
    try:
        return read_block(storage, folder, block=block) is not None
    except StorageError:
        return False  # damaged since: the same bytes are written again


def publish_block(
    task: StudentTask, model: nn.Module, publication: Publication, block: int
) -> np.ndarray:
    """Compute and commit one block; gives back its bytes, uint8."""
    data = compute_block(task, model, publication, block)
    folder = names.published_folder(publication.cycle, publication.student)
    fields = block_metadata(task, publication, block)
    commit_block(task.storage, folder, block=block, data=data, fields=fields)
    return data


def compute_block(
    task: StudentTask, model: nn.Module, publication: Publication, block: int
) -> np.ndarray:
    """A block of soft labels as it is stored, uint8: a function of the weights and the data.

    Args:
        task: The student that ``publication`` is of.
        model: Its network, with the weights it published from; put into eval mode.
    """
    first, stop = task.layout.rows(block)
    view = task.crops_of(publication.cycle, task.layout.view(block))
    probs_NK = predict(
        task, model, task.data.train, t=task.settings.temperature, start=first, stop=stop, view=view
    )
    rows_NK = stored_rows(probs_NK, form=task.settings.soft_label_format)
    return encode_block(rows_NK, metadata=block_metadata(task, publication, block))


def block_metadata(task: StudentTask, publication: Publication, block: int) -> dict[str, Any]:
    """What a block's rows are."""
    return {
        "run": task.run,
        "cycle": publication.cycle,
        "student": publication.student,
        **publication_fields(publication),
        "first_id": task.layout.rows(block)[0],
        "view": task.layout.view(block),
        "t": task.settings.temperature,
        "fingerprint": task.data.fingerprint,
        "encoding": str(task.settings.soft_label_format),
    }
