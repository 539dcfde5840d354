"""Merging one block of a teacher: a pure function of committed bytes, with torch underneath.

A merge that runs twice writes the same bytes twice. The policy is in ledger.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from raymd.distillation.aggregation import merge_rows
from raymd.distillation.encoding import decode_block, empty_block, encode_block
from raymd.distillation.top_k import Rows, TopKRows
from raymd.errors import StorageError
from raymd.exchange import names
from raymd.exchange.blocks import commit_block, read_block
from raymd.exchange.damaged import Damaged, damaged_error
from raymd.exchange.facts import MergeBlock
from raymd.storage import Storage

SHARED_METADATA = ("run", "cycle", "first_id", "view", "t", "fingerprint", "encoding")


def merge_block(
    storage: Storage, order: MergeBlock, *, sources: Mapping[str, np.ndarray | None]
) -> np.ndarray:
    """Merge one block of a teacher (Eq. 8), commit it and give back its bytes.

    Args:
        storage: The run's.
        order: Which block of which teacher, and the weights.
        sources: The members' encoded blocks by student; None where only storage has it.

    Raises:
        DamagedBlockError: a member's block is neither at hand nor intact in storage.
    """
    decoded = {
        student: decode_block(_source(storage, order, student, sources.get(student)))
        for student in order.weights
    }
    rows = [decoded[student][1] for student in order.weights]
    first = next(iter(decoded.values()))[0]
    shared = {key: first[key] for key in SHARED_METADATA}
    metadata = {**shared, "teacher": order.teacher, "weights": dict(order.weights)}
    data = _merged(rows, list(order.weights.values()), metadata)
    folder = names.teacher_blocks(order.cycle, order.teacher, order.revision)
    commit_block(storage, folder, block=order.block, data=data, fields=metadata)
    return data


def _merged(
    rows: Sequence[Rows], weights: Sequence[float], metadata: Mapping[str, Any]
) -> np.ndarray:
    if any(isinstance(block, TopKRows) for block in rows):
        return encode_block(merge_rows(rows, weights), metadata=metadata)
    data, merged_NK = empty_block(*rows[0].shape, dtype=rows[0].dtype, metadata=metadata)
    merge_rows(rows, weights, out_NK=merged_NK)
    return data


def _source(
    storage: Storage, order: MergeBlock, student: str, data: np.ndarray | None
) -> np.ndarray:
    if data is not None:
        return data
    cycle = order.published_in(student)
    damaged = Damaged(cycle, "student", student, order.block)
    try:
        data = read_block(storage, names.published_folder(cycle, student), block=order.block)
    except StorageError as error:
        raise damaged_error(replace(damaged, reason=str(error))) from error
    if data is None:
        raise damaged_error(replace(damaged, reason="it is missing"))
    return data
