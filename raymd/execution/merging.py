"""The aggregator's tasks: merging a block, or loading one, in processes that come and go.

What a task returns is owned by whoever submitted it, so the aggregator owns the teachers. It takes
a small outcome by itself, and passes the reference to the bytes on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from raymd.errors import RaymdError
from raymd.exchange.blocks import read_teacher_block
from raymd.exchange.damaged import Damaged, DamagedBlockError
from raymd.exchange.facts import CommitRoster, MergeBlock
from raymd.storage import Storage

ATTEMPTS = 5

Outcome = Damaged | int  # what is damaged, or the bytes that a task returned


def merge(
    storage: Storage, order: MergeBlock, students: Sequence[str], *blocks: np.ndarray | None
) -> tuple[Outcome, np.ndarray | None]:
    """Task: merge and commit one block; what came of it, and the block's bytes."""
    from raymd.exchange.merge import merge_block

    sources = dict(zip(students, blocks, strict=True))
    try:
        data = merge_block(storage, order, sources=sources)
    except DamagedBlockError as error:
        return error.damaged, None
    return data.nbytes, data


def load(
    storage: Storage, roster: CommitRoster, teacher: str, block: int
) -> tuple[Outcome, np.ndarray | None]:
    """Task: a teacher's committed block out of storage and into the object store."""
    data = read_teacher_block(storage, roster, teacher, block)
    return (data, None) if isinstance(data, Damaged) else (data.nbytes, np.array(data))


def warm_up() -> None:
    """Task: start a worker and have it do once what merging does, while the students still train.

    What is done first takes long: imports, and Ray's own when it is given memory to share.
    """
    from raymd.exchange.merge import rehearse

    ray.put(rehearse())


# Without CPUs a task starts although students hold them all; DEFAULT keeps it out of whatever
# placement group its caller may be in. Ray must not run one again by itself: it would do so for a
# lost object too, from blocks that are gone.
_task = ray.remote(num_cpus=0, scheduling_strategy="DEFAULT", max_retries=0)
merge_task = _task(merge).options(num_returns=2)
load_task = _task(load).options(num_returns=2)
warm_up_task = _task(warm_up)


async def with_attempts(submit: Callable[[int], Any]) -> tuple[Outcome, Any]:
    """What came of a task, and the reference to its data; tried again when a process dies.

    Args:
        submit: Submits the task, given the number of tries before.

    Raises:
        RaymdError: the task raised it: a full disk, say, which no other try would find empty.
        RayError: the task failed again and again.
    """
    for attempt in range(ATTEMPTS):
        outcome, data = submit(attempt)
        try:
            return await outcome, data
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else None
            if isinstance(cause, RaymdError):
                raise cause from None
            if attempt + 1 == ATTEMPTS:
                raise
    raise AssertionError("unreachable")
