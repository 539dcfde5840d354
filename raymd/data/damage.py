"""Images that could not be decoded while training went on: counted, told of, and at last too many.

Place on the data's way: beside encoded.py. One bad file must not end a run in its 37th epoch, so a
flat image of the mean colour stands in for it.
"""

import math
import threading

import numpy as np

from raymd.errors import DataError

ALLOWED_SHARE = 0.01
LEAST_SEEN = 100
SHOWN = 3


class Damage:
    """The damaged images of a split that this process has met; used from several threads.

    Args:
        num_images: Of the split.
    """

    def __init__(self, num_images: int) -> None:
        self._lock = threading.Lock()
        self._is_seen = np.zeros(num_images, dtype=bool)  # an image counts once, not each epoch
        self._seen = self._told = 0
        self._reasons: dict[str, str] = {}

    def saw(self, rows: list[int]) -> None:
        """Images were looked at, damaged ones among them.

        Raises:
            DataError: more than ALLOWED_SHARE are damaged, by more than chance.
        """
        with self._lock:
            self._seen += len(rows) - int(np.count_nonzero(self._is_seen[rows]))
            self._is_seen[rows] = True
            damaged, expected = len(self._reasons), ALLOWED_SHARE * self._seen
            # one in a hundred falls into some hundred twice or thrice
            if self._seen >= LEAST_SEEN and damaged > expected + 3 * math.sqrt(expected):
                raise DataError(
                    f"{damaged:,} of {self._seen:,} images looked at cannot be read, allowed "
                    f"is {ALLOWED_SHARE:.0%}: {self._shown()}. Repair or remove them, or leave "
                    "them out (raymd pack)"
                )

    def add(self, place: str, reason: str) -> None:
        """One of them is damaged."""
        with self._lock:
            self._reasons[place] = reason

    def notes(self, *, again: bool = False) -> list[str]:
        """What is new since it was last asked, or, ``again``, all of it; as lines to announce."""
        with self._lock:
            if len(self._reasons) == (0 if again else self._told):
                return []
            self._told = len(self._reasons)
            what = "image cannot be read, and a flat one stands in for it"
            if self._told > 1:
                what = "images cannot be read, and flat ones stand in for them"
            return [f"{self._told:,} {what}: {self._shown()}"]

    def _shown(self) -> str:
        first = sorted(self._reasons)[:SHOWN]
        more = len(self._reasons) - len(first)
        rest = f"; and {more:,} more" if more else ""
        return "; ".join(f"{place}: {self._reasons[place]}" for place in first) + rest
