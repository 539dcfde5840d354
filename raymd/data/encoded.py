"""Images that stay encoded, decoded batch by batch while networks train: those beyond memory.

Place on the data's way: images.py makes an EncodedSplit where decoded images would not fit; its
feed is given a pass's requests and decodes a few of them ahead, in threads, since decoders leave
Python's lock alone. Each image of a request is cropped from its original by its own hash and
resized to the side that networks see; flips and what follows are done by batch, as for all images.

    N images   B rows of a request   C channels   S side that the network sees
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa
import torch
import xxhash

from raymd.data.augment import Pixels
from raymd.data.crops import crop_boxes, middle_boxes
from raymd.data.damage import Damage
from raymd.data.decode import UnreadableImageError
from raymd.data.feed import Images, Request, finished
from raymd.data.geometry import STORED_PER_SEEN
from raymd.data.jpeg import Box, Picture, decode_box, open_picture
from raymd.data.manifest import Manifest
from raymd.data.remote import Origin
from raymd.distillation.aggregation import as_tensor

CHANNELS = 3
REQUESTS_AHEAD = 3
TASK_IMAGES = 16  # for one thread at a time: few enough to share a batch, enough to draw together


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """Encoded images with their labels; it answers what ``Split`` does.

    Attributes:
        manifest: Where the images of the part are.
        where: int64 [N], the manifest's row of each.
        labels: int64 [N].
        image_size: The side S that networks see.
        origin: Where a node without the files fetches them; None: they are on a disk of its own.
        damage: The images that could not be decoded, in this process.
    """

    manifest: Manifest
    where: np.ndarray
    labels: torch.Tensor
    image_size: int
    origin: Origin | None = None
    damage: Damage = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "damage", Damage(len(self.where)))

    def __len__(self) -> int:
        return len(self.where)

    @property
    def channels(self) -> int:
        """Always in colour: whether all are grey is not known."""
        return CHANNELS

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the square whose middle is the clean image."""
        side = round(self.image_size * STORED_PER_SEEN)
        return side, side

    @property
    def num_bytes(self) -> int:
        """Memory that it takes on each node."""
        return sum(self.pieces().values())

    def pieces(self) -> dict[int, int]:
        """Bytes of what it is made of, by ``id``: parts of one source share their manifest."""
        return {
            id(self.manifest): self.manifest.num_bytes,
            id(self.where): self.where.nbytes,
            id(self.labels): self.labels.nbytes,
        }

    @property
    def device_bytes(self) -> int:
        """Images come to a GPU batch by batch."""
        return 0

    def rows(self, ids: torch.Tensor) -> "EncodedSplit":
        """The rows of these ids (int64 [n]), in their order."""
        chosen = self.where[ids.numpy()]
        return replace(self, where=chosen, labels=self.labels[ids])

    def relabelled(self, labels_N: torch.Tensor) -> "EncodedSplit":
        """The same images under other labels."""
        return replace(self, labels=labels_N)

    def feed(self, device: torch.device | str, *, place: bool = False) -> "StreamFeed":  # noqa: ARG002
        """What makes batches of it."""
        return StreamFeed(self, device=torch.device(device))

    def notes(self, *, again: bool = False) -> list[str]:
        """What came to light since it was last asked, or, ``again``, at all."""
        return self.damage.notes(again=again)

    def add_to(self, digest: xxhash.xxh3_128) -> None:
        """Its part of a fingerprint: labels, and the images' ids and sizes instead of pixels."""
        digest.update(f"encoded {len(self)}".encode())
        digest.update(self.labels.numpy().tobytes())
        digest.update(self.manifest.sizes[self.where].tobytes())
        ids = self.manifest.ids.take(pa.array(self.where))
        digest.update("\n".join(ids.to_pylist()).encode())

    def shipped(self) -> Callable[[], "EncodedSplit"]:
        """What pickles as arrays, which the workers of a node share, and makes the split again."""
        labels_N = self.labels.numpy()
        return partial(_arrived, self.manifest, self.where, labels_N, self.image_size, self.origin)

    def picture(self, row: int) -> Picture:
        """One image, read but not decoded.

        Raises:
            UnreadableImageError: it cannot be read.
        """
        return open_picture(self.manifest.read(int(self.where[row])))

    def place(self, row: int) -> str:
        """Where an image is, for messages."""
        return self.manifest.place(int(self.where[row]))


def _arrived(
    manifest: Manifest,
    where: np.ndarray,
    labels_N: np.ndarray,
    image_size: int,
    origin: Origin | None,
) -> EncodedSplit:
    if origin is not None:
        here = origin.on_this_node()
        manifest, origin = manifest.moved(origin.folder, here.folder), here
    return EncodedSplit(manifest, where, as_tensor(labels_N), image_size, origin)


class StreamFeed:
    """Decodes requests ahead of those that want them, in as many threads as torch has.

    Args:
        split: The images.
        device: Where networks want them.
    """

    def __init__(self, split: EncodedSplit, *, device: torch.device) -> None:
        self.split = split
        self.device = device

    def images(self, requests: Iterable[Request], *, pixels: Pixels) -> Images:
        """As ``Feed.images``. Once closed, nothing is decoded any more.

        Raises:
            DataError: too many images are damaged.
        """
        cropped = replace(pixels.augmentation, resized_crop=False)  # done in the threads
        rest = replace(pixels, augmentation=cropped)
        pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="raymd-decode")
        ahead: deque[_Pending] = deque()
        try:
            for request in requests:
                ahead.append(self._begin(request, pixels, pool))
                if len(ahead) > REQUESTS_AHEAD:
                    yield self._end(ahead.popleft(), rest)
            while ahead:
                yield self._end(ahead.popleft(), rest)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, request: Request, pixels: Pixels, pool: ThreadPoolExecutor) -> "_Pending":
        ids_B, hash_B = request
        side = pixels.image_size
        pinned = self.device.type == "cuda"
        shape = (len(ids_B), side, side, CHANNELS)
        images_BHWC = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        made = images_BHWC.numpy()
        tasks = []
        for start in range(0, len(ids_B), TASK_IMAGES):
            part = slice(start, start + TASK_IMAGES)
            part_hash = hash_B[part] if hash_B is not None else None
            tasks.append(pool.submit(self._decode, ids_B[part], part_hash, pixels, made[part]))
        return _Pending(images_BHWC, tasks, request.hash)

    def _end(self, pending: "_Pending", pixels: Pixels) -> torch.Tensor:
        for task in pending.tasks:
            task.result()  # raises what the thread did
        images_BHWC = pending.images.to(self.device, non_blocking=True)
        return finished(images_BHWC.permute(0, 3, 1, 2), pending.hash, pixels=pixels)

    def _decode(
        self,
        ids_b: torch.Tensor,
        hash_b: torch.Tensor | None,
        pixels: Pixels,
        made_bHWC: np.ndarray,
    ) -> None:
        """A few images into their places."""
        rows = ids_b.tolist()
        pictures = [self._open(row) for row in rows]
        boxes_b4 = _boxes(pictures, hash_b, pixels).tolist()
        for row, picture, box, place in zip(rows, pictures, boxes_b4, made_bHWC, strict=True):
            place[:] = self._pixels_of(row, picture, box, pixels)

    def _pixels_of(
        self, row: int, picture: Picture | None, box: Box, pixels: Pixels
    ) -> np.ndarray | list[int]:
        """The box [S, S, C], or the mean colour [C] if the image is damaged."""
        try:
            if picture is not None:
                return decode_box(picture, box, side=pixels.image_size, channels=CHANNELS)
        except UnreadableImageError as error:
            self.split.damage.add(self.split.place(row), str(error))
        return [round(255 * mean) for mean in pixels.mean]

    def _open(self, row: int) -> Picture | None:
        try:
            return self.split.picture(row)
        except UnreadableImageError as error:
            self.split.damage.add(self.split.place(row), str(error))
            return None


@dataclass(frozen=True)
class _Pending:
    """A request under way: the uint8 [B, S, S, C] that its tasks fill."""

    images: torch.Tensor
    tasks: list[Future[None]]
    hash: torch.Tensor | None


def _boxes(
    pictures: list[Picture | None], hash_b: torch.Tensor | None, pixels: Pixels
) -> torch.Tensor:
    """What each image shows of itself; int64 [b, 4]."""
    sizes = [(p.height, p.width) if p is not None else (1, 1) for p in pictures]
    height_b, width_b = torch.tensor(sizes).unbind(1)
    if hash_b is not None and pixels.augmentation.resized_crop:
        return crop_boxes(hash_b, height=height_b, width=width_b)
    return middle_boxes(height_b, width_b, share=1 / STORED_PER_SEEN)
