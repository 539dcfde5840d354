"""Batches of a position: which samples, in which order, cropped how, for which rank.

Place on the data's way: a Split of Prepared enters, Batch after Batch leaves for the training
step. Which rows and crops a step shows is decided here, the images are made by the split's feed
(feed.py, encoded.py). All is a function of (seed, stream, epoch, step, rank): no state is saved,
and an epoch can be entered at any step.

    N samples   n rows of a step   B of them on this rank   C channels   S side
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import tee
from typing import NamedTuple

import torch

from raymd.data.augment import Pixels
from raymd.data.dataset import AnySplit
from raymd.data.draws import sample_hash, stream_of
from raymd.data.feed import Request
from raymd.data.order import (
    check_ranks,
    epoch_permutation,
    global_batch,
    mixup_draw,
    num_steps,
    part_of_ranks,
)
from raymd.data.placing import placed
from raymd.errors import UserError

# Views belong to no student: a soft label of view k is one of the same crop for all of them.
VIEW_STREAM = stream_of("view")


class Mixed(NamedTuple):
    """What mixup (Zhang et al. 2018) mixed into a batch.

    Attributes:
        sample_ids, labels: int64 [B], of each image's partner from the step's global batch; ids on
            the CPU.
        share: Weight of the batch's own images, labels and soft labels; 1 - share is the
            partners'. One for all ranks.
    """

    sample_ids: torch.Tensor
    labels: torch.Tensor
    share: float


class Batch(NamedTuple):
    """One rank's part of one step.

    Attributes:
        images: float32 [B, C, S, S], channels_last, augmented, normalised and, with mixup, mixed.
        labels: int64 [B].
        sample_ids: int64 [B], rows of the split; on the CPU, where soft labels are looked up by
            them: asking a GPU for them would wait for all that it has to do.
        global_rows: Rows of the step over all ranks.
        step: Number in the epoch, from 0.
        mixed: What was mixed in; None without mixup.
    """

    images: torch.Tensor
    labels: torch.Tensor
    sample_ids: torch.Tensor
    global_rows: int
    step: int
    mixed: Mixed | None = None


class _Step(NamedTuple):
    """What a step shows on this rank.

    Attributes:
        number: In the epoch, from 0.
        global_rows: Rows over all ranks.
        mine: This rank's rows.
        theirs: With mixup, the partners' rows.
        places: With mixup, where the partners are in the global batch.
        share: Of the own images.
    """

    number: int
    global_rows: int
    mine: Request
    theirs: Request | None = None
    places: torch.Tensor | None = None
    share: float = 1.0


class EpochLoader:
    """A student's training batches.

    Args:
        split: The training part; one in memory is moved to the device once.
        pixels: How stored images are shown, ``Prepared.pixels``.
        batch_size: Largest number of rows of a step over all ranks.
        seed: The run's.
        stream: The student's, from ``stream_of(id)``.
        device: Where batches are made and used.
        rank, world_size: The worker's place among the student's workers.
        ids: Rows of the split to train on, int64; None: all.

    Raises:
        UserError: no samples, a batch size below 1, or batches with fewer rows than workers.
    """

    def __init__(
        self,
        split: AnySplit,
        *,
        pixels: Pixels,
        batch_size: int,
        seed: int,
        stream: int,
        device: torch.device | str,
        rank: int = 0,
        world_size: int = 1,
        ids: torch.Tensor | None = None,
    ) -> None:
        num_samples = len(split) if ids is None else len(ids)
        if batch_size < 1 or not num_samples:
            got = f"batch size {batch_size} for {num_samples} training images"
            raise UserError(f"{got}: both are 1 at least (--batch_size, --subset)")
        self.device = torch.device(device)
        self.pixels = pixels
        self.seed, self.stream = seed, stream
        self.rank, self.world_size = rank, world_size
        self.num_samples = num_samples
        self._ids = ids
        self.steps = num_steps(self.num_samples, batch_size)
        check_ranks(self.num_samples // self.steps, world_size=world_size)
        self._feed = split.feed(self.device, place=True)
        self._labels = split.labels.to(self.device)

    def batches(
        self, epoch: int, *, start_step: int = 0, view: int | None = None
    ) -> Iterator[Batch]:
        """This rank's batches of an epoch.

        Images may be decoded a few steps ahead; close the iterator when an epoch is left early.

        Args:
            epoch: Over the whole run, from 0; decides the order, and the crops without a view.
            start_step: The first step to make; those before cost nothing.
            view: Take the crops of this view, which ``view_batches`` makes too, instead.
        """
        made, wanted = tee(self._steps(epoch, start_step=start_step, view=view))
        with closing(self._feed.images(self._requests(wanted), pixels=self.pixels)) as images:
            for step in made:
                yield self._batch(step, images)

    def _steps(self, epoch: int, *, start_step: int, view: int | None) -> Iterator[_Step]:
        order = epoch_permutation(self.num_samples, seed=self.seed, stream=self.stream, epoch=epoch)
        if self._ids is not None:
            order = self._ids[order]
        stream, number = (self.stream, epoch) if view is None else (VIEW_STREAM, view)
        hashes = sample_hash(order, seed=self.seed, stream=stream, epoch=number)
        for step in range(start_step, self.steps):
            ids = global_batch(order, step=step, steps=self.steps)
            hash_n = global_batch(hashes, step=step, steps=self.steps)
            mine = part_of_ranks(len(ids), index=self.rank, parts=self.world_size)
            shown = _Step(step, len(ids), Request(ids[mine], hash_n[mine]))
            if self.pixels.augmentation.mixup_alpha:
                partner_n, share = self._draw_mixup(len(ids), epoch=epoch, step=step)
                places = partner_n[mine]
                theirs = Request(ids[places], hash_n[places])
                shown = shown._replace(theirs=theirs, places=places, share=share)
            yield shown

    def _requests(self, steps: Iterable[_Step]) -> Iterator[Request]:
        for step in steps:
            yield step.mine
            if step.theirs is not None and self.world_size > 1:
                yield step.theirs  # other ranks' images, made again

    def _batch(self, step: _Step, images: Iterator[torch.Tensor]) -> Batch:
        images_BCHW, ids_B = next(images), step.mine.ids
        mixed = None
        if step.theirs is not None:
            assert step.places is not None
            partners_BCHW = (
                images_BCHW[placed(step.places, self.device)]
                if self.world_size == 1
                else next(images)
            )
            images_BCHW = images_BCHW.mul(step.share).add_(partners_BCHW, alpha=1 - step.share)
            mixed = Mixed(step.theirs.ids, self._labels_of(step.theirs.ids), step.share)
        return Batch(
            images_BCHW, self._labels_of(ids_B), ids_B, step.global_rows, step.number, mixed
        )

    def _labels_of(self, ids_B: torch.Tensor) -> torch.Tensor:
        return self._labels[placed(ids_B, self.device)]

    def _draw_mixup(self, rows: int, *, epoch: int, step: int) -> tuple[torch.Tensor, float]:
        alpha = self.pixels.augmentation.mixup_alpha
        return mixup_draw(
            rows, alpha=alpha, seed=self.seed, stream=self.stream, epoch=epoch, step=step
        )


def clean_batches(
    split: AnySplit,
    slices: Iterable[slice],
    *,
    pixels: Pixels,
    device: torch.device | str,
) -> Iterator[tuple[torch.Tensor, slice]]:
    """Rows without augmentation.

    Args:
        split: The images.
        slices: Rows wanted together, one batch after the other; see ``id_slices``.
        pixels: How they are shown.
        device: Where.

    Yields:
        float32 [B, C, S, S] in channels_last on the device, and the slice of ids it shows.
    """
    made, wanted = tee(slices)
    requests = (Request(torch.arange(ids.start, ids.stop)) for ids in wanted)
    yield from _shown(split, requests, made, pixels=pixels, device=device)


def view_batches(
    split: AnySplit,
    slices: Iterable[slice],
    *,
    view: int,
    pixels: Pixels,
    seed: int,
    device: torch.device | str,
) -> Iterator[tuple[torch.Tensor, slice]]:
    """Like ``clean_batches``, in the crops of one view: those of ``EpochLoader`` with that view."""
    made, wanted = tee(slices)
    every = (torch.arange(ids.start, ids.stop) for ids in wanted)
    requests = (
        Request(ids_B, sample_hash(ids_B, seed=seed, stream=VIEW_STREAM, epoch=view))
        for ids_B in every
    )
    yield from _shown(split, requests, made, pixels=pixels, device=device)


def _shown(
    split: AnySplit,
    requests: Iterable[Request],
    slices: Iterable[slice],
    *,
    pixels: Pixels,
    device: torch.device | str,
) -> Iterator[tuple[torch.Tensor, slice]]:
    with closing(split.feed(device).images(requests, pixels=pixels)) as images:
        yield from zip(images, slices, strict=True)


def id_slices(start: int, stop: int, *, size: int) -> list[slice]:
    """The ids ``start`` to ``stop`` in batches of ``size``, the last one smaller."""
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]
