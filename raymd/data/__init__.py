"""Images on their way to the students: from a name to seeded batches.

    names.py     which data sets there are (no torch, so that flags are checked at once)
    dataset.py   what a data set is
    datasets.py  the registry, and digits, CIFAR-10 and CIFAR-100
    parquet.py   images of your own from two parquet files
    splits.py    subset and hold-out; the ids that soft labels are keyed by; the fingerprint
    augment.py   crop, flip and normalise whole batches, from a stateless hash
    loader.py    permutation, batches, ranks

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
