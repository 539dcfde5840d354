"""Images on their way to the students: from a name to seeded batches.

    names.py        names of data sets and augmentations (no torch: flags are checked at once)
    dataset.py      what a data set is
    datasets.py     the registry, and digits
    downloads.py    MNIST and CIFAR, downloaded where missing; cifar.py reads CIFAR's files
    folder.py       images of your own in class folders
    shards.py, tables.py, columns.py   … in parquet or Arrow files
    imagenet.py     … of either kind, decoded batch by batch
    parts.py        which images are trained on and tested with: labels.py
    images.py       encoded images -> a data set in memory (geometry.py, decode.py), or left encoded
    encoded.py      images decoded while networks train: manifest.py, jpeg.py, damage.py
    pack.py         images -> Arrow shards (`raymd pack`)
    splits.py       subset and hold-out; the ids that soft labels are keyed by; the fingerprint
    draws.py        random numbers as stateless hashes
    augment.py      whole batches, cropped (crops.py), augmented (randaugment.py), normalised
    order.py        an epoch's order, its batches, mixup's partners, a rank's part
    loader.py       batches of a position; feed.py makes their images

Importing this package is cheap: torch comes with the first use of a name.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raymd.data.dataset import Dataset, Split
    from raymd.data.datasets import load_dataset, register_dataset

__all__ = ["Dataset", "Split", "load_dataset", "register_dataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from raymd.data import datasets

    return getattr(datasets, name)
