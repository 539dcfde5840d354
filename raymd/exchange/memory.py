"""What the exchange keeps in the object store: which blocks, how many bytes, and how many it will.

Whoever drives the ledger holds references, not bytes; dropping one here is what frees the memory.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from raymd.distillation.formats import SoftLabelFormat

DENSE_HALF = SoftLabelFormat()


def exchange_bytes(
    num_rows: int,
    num_classes: int,
    num_students: int,
    *,
    form: SoftLabelFormat = DENSE_HALF,
    teachers: int = 1,
) -> int:
    """The most bytes that a run's soft labels take in the object store at once.

    That is when the last block of a cycle is merged: every student's own blocks, this cycle's
    teachers, and those of the cycle before, which students read until they have published. Arrow's
    headers (1 kB a block) are left out.

    Args:
        num_rows: N, the training part after subset and hold-out, times the views of each.
        num_classes: K.
        num_students: Who publishes.
        form: What a row holds.
        teachers: Of a cycle: one common one, or one for each student.
    """
    published = form.row_bytes(num_classes)
    merged = form.row_bytes(num_classes, members=num_students)
    return num_rows * (num_students * published + 2 * teachers * merged)


class BlockKey(NamedTuple):
    """A block by what it is."""

    cycle: int
    kind: Literal["student", "teacher"]
    id: str
    block: int


class Held:
    """References to blocks, and their bytes.

    Args:
        base_bytes: What the run holds beside them.
    """

    def __init__(self, *, base_bytes: int = 0) -> None:
        self.bytes = base_bytes  # held now
        self.peak_bytes = base_bytes
        self._blocks: dict[BlockKey, tuple[Any, int]] = {}

    def put(self, key: BlockKey, ref: Any, num_bytes: int) -> None:
        """Hold a block, in place of the reference to it that was held before."""
        _, before = self._blocks.get(key, (None, 0))
        self._blocks[key] = ref, num_bytes
        self.bytes += num_bytes - before
        self.peak_bytes = max(self.peak_bytes, self.bytes)

    def get(self, key: BlockKey) -> Any:
        """A block's reference; None if it is not held."""
        ref, _ = self._blocks.get(key, (None, 0))
        return ref

    def drop(self, where: Callable[[BlockKey], bool]) -> None:
        """Let go of the blocks that a condition holds for."""
        for key in [key for key in self._blocks if where(key)]:
            _, num_bytes = self._blocks.pop(key)
            self.bytes -= num_bytes
