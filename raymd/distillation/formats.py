"""How soft labels are stored: dense or a few classes of each row, and in which precision. No torch.

Enters: what ``--soft_labels`` and ``--soft_label_dtype`` say. Leaves: a SoftLabelFormat, for
publishing (top_k.py makes the rows) and for reckoning bytes.

    K classes
"""

from dataclasses import dataclass
from typing import Literal, Self

SoftLabelDtype = Literal["float16", "float32"]

DENSE, TOP_K = "dense", "top_k:"
ITEM_BYTES: dict[SoftLabelDtype, int] = {"float16": 2, "float32": 4}
BASE_BYTES = 4


def class_bytes(num_classes: int) -> int:
    """Bytes of a class's number, unsigned."""
    return 2 if num_classes <= 2**16 else 4


@dataclass(frozen=True)
class SoftLabelFormat:
    """What a published row holds.

    Attributes:
        dtype: Of the stored numbers; all arithmetic is float32.
        top_k: Classes of a row that keep a probability of their own; None: all of them.
    """

    dtype: SoftLabelDtype = "float16"
    top_k: int | None = None

    @classmethod
    def parse(cls, soft_labels: str, dtype: SoftLabelDtype) -> Self:
        """The format of the two settings.

        Raises:
            ValueError: neither ``dense`` nor ``top_k:K`` with a whole K of 1 at least.
        """
        if soft_labels == DENSE:
            return cls(dtype)
        number = soft_labels.removeprefix(TOP_K)
        if not soft_labels.startswith(TOP_K) or not number.isdecimal() or not int(number):
            raise ValueError(soft_labels)
        return cls(dtype, int(number))

    def __str__(self) -> str:
        return self.dtype if self.top_k is None else f"{TOP_K}{self.top_k} {self.dtype}"

    def row_bytes(self, num_classes: int, *, members: int = 1) -> int:
        """Bytes of a row, at the most.

        Args:
            num_classes: K.
            members: Of how many rows it is the mean, each with classes of its own.
        """
        item = ITEM_BYTES[self.dtype]
        dense = num_classes * item
        if self.top_k is None:
            return dense
        entry = class_bytes(num_classes) + item
        return min(dense, members * self.top_k * entry + BASE_BYTES)
