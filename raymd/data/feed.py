"""From a split's rows to what networks see: one tensor of images for each request.

Place on the data's way: loader.py says which rows and which crops are wanted, step after step; a
split's feed makes them. A feed is given all requests of a pass at once, so that one whose images
are decoded on the way (encoded.py) can begin with the next while the network works on this one.

    B rows of a request   C channels   S side that the network sees
"""

from collections.abc import Generator, Iterable
from typing import NamedTuple, Protocol

import torch

from raymd.data.augment import Pixels, clean_images, training_images
from raymd.data.placing import placed

MAX_DEVICE_BYTES = 4 * 2**30

Images = Generator[torch.Tensor, None, None]


class Request(NamedTuple):
    """Rows wanted together; on the host, as nothing has to wait for a GPU to know them.

    Attributes:
        ids: int64 [B], rows of the split.
        hash: int64 [B] of ``sample_hash``, which decides crops; None: the clean middle.
    """

    ids: torch.Tensor
    hash: torch.Tensor | None = None


class Feed(Protocol):
    """What ``Split.feed`` and ``EncodedSplit.feed`` give."""

    def images(self, requests: Iterable[Request], *, pixels: Pixels) -> Images:
        """One float32 [B, C, S, S] in channels_last on the device for each request, in order."""
        ...


class MemoryFeed:
    """Images that lie in memory, as one uint8 tensor.

    Args:
        images_NCHW: The split's.
        device: Where networks want them.
        place: Whether to move all of them there now, unless they are many: several students may
            share a GPU, and each has a copy.
    """

    def __init__(
        self, images_NCHW: torch.Tensor, *, device: torch.device, place: bool = False
    ) -> None:
        self.device = device
        images_NHWC = images_NCHW.permute(0, 2, 3, 1)
        if place and images_NHWC.nbytes <= MAX_DEVICE_BYTES:
            images_NHWC = images_NHWC.to(device)
        self.images_NHWC = images_NHWC.contiguous()  # no copy where they are so already

    def images(self, requests: Iterable[Request], *, pixels: Pixels) -> Images:
        """As ``Feed.images``."""
        for ids_B, hash_B in requests:
            here_B = placed(ids_B, self.images_NHWC.device)
            chosen_BHWC = self.images_NHWC.index_select(0, here_B)
            images_BCHW = placed(chosen_BHWC, self.device).permute(0, 3, 1, 2)
            yield finished(images_BCHW, hash_B, pixels=pixels)


def finished(
    images_BCHW: torch.Tensor, hash_B: torch.Tensor | None, *, pixels: Pixels
) -> torch.Tensor:
    """Stored uint8 images as a network sees them: augmented by their hashes, or clean."""
    if hash_B is None:
        return clean_images(images_BCHW, pixels=pixels)
    hash_B = placed(hash_B, images_BCHW.device)
    return training_images(images_BCHW, hash_B=hash_B, pixels=pixels)
