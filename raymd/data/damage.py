"""Images that could not be decoded while training went on: counted, told of, and at last too many.

Place on the data's way: beside encoded.py. One bad file must not end a run in its 37th epoch, so a
flat image of the mean colour stands in for it.
"""

import threading

from raymd.errors import DataError

ALLOWED_PERCENT = 1
SHOWN = 3


class Damage:
    """The damaged images of a split that this process has met; used from several threads.

    Allowed are ALLOWED_PERCENT of the whole split, whichever of it were read and in what order, and
    one in smaller splits; but never all images.

    Args:
        num_images: Of the split.
    """

    def __init__(self, num_images: int) -> None:
        self._lock = threading.Lock()
        self._num_images = num_images
        self._allowed = min(max(1, num_images * ALLOWED_PERCENT // 100), num_images - 1)
        self._told = 0
        self._reasons: dict[str, str] = {}  # by place: an image counts once, not each epoch

    def add(self, place: str, reason: str) -> None:
        """One of them is damaged.

        Raises:
            DataError: more are damaged than allowed.
        """
        with self._lock:
            self._reasons[place] = reason
            if len(self._reasons) > self._allowed:
                raise DataError(
                    f"{len(self._reasons):,} of {self._num_images:,} images cannot be read so far, "
                    f"allowed are {self._allowed:,}: {self._shown()}. Repair or remove them, or "
                    "leave them out (raymd pack)"
                )

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
