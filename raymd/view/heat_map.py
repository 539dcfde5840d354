"""Soft labels as a picture: a row a training image, a column a class, brighter is more probable.

Enters: the ``sample`` of a ``published`` or ``taught`` event. Leaves: pixels, for TensorBoard and
W&B.
"""

from collections.abc import Sequence

import numpy as np

# Dark violet to yellow, evenly spaced; as bright as it is large, also to the colour-blind.
STOPS = np.array(
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=np.float64
)
PICTURE_PIXELS = 400  # about as wide; a class has at least CELL_PIXELS
CELL_PIXELS = 4


def heat_map(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Paint soft labels.

    Args:
        rows: [N, K] probabilities; both at least 1.

    Returns:
        uint8 [N * cell, K * cell, 3]; the largest probability of all has the brightest colour, so
        that one class's 0.02 of 100 classes can be seen too.
    """
    probs_NK = np.nan_to_num(np.asarray(rows, dtype=np.float64))
    top = probs_NK.max()
    values_NK = np.clip(probs_NK / top, 0, 1) if top > 0 else np.zeros_like(probs_NK)
    places = np.linspace(0, 1, len(STOPS))
    channels = [np.interp(values_NK, places, STOPS[:, channel]) for channel in range(3)]
    pixels_NK3 = np.stack(channels, axis=-1).round().astype(np.uint8)
    cell = max(PICTURE_PIXELS // probs_NK.shape[1], CELL_PIXELS)
    return pixels_NK3.repeat(cell, axis=0).repeat(cell, axis=1)
