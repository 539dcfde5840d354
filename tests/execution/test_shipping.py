"""Images on their way to the workers arrive as they left, and are read in place."""

import pickle

import numpy as np
import pytest
import torch

from raymd.data import load_dataset
from raymd.data.splits import Prepared, prepare
from raymd.execution.shipping import pack, unpack


def digits(val_fraction: float) -> Prepared:
    return prepare(load_dataset("digits"), subset=100, val_fraction=val_fraction, seed=0)


@pytest.mark.parametrize("val_fraction", [0.0, 0.2])
def test_data_arrive_as_they_left(val_fraction: float) -> None:
    data = digits(val_fraction)
    arrived = unpack(pickle.loads(pickle.dumps(pack(data))))
    for part in ("train", "val", "test"):
        sent, got = getattr(data, part), getattr(arrived, part)
        if sent is None:
            assert got is None
            continue
        assert torch.equal(got.images, sent.images)
        assert torch.equal(got.labels, sent.labels)
        assert got.images.stride() == sent.images.stride()
    assert (arrived.val is None) == (val_fraction == 0.0)
    for field in ("fingerprint", "classes", "mean", "std", "augmentation"):
        assert getattr(arrived, field) == getattr(data, field)


def test_all_pixels_travel_as_arrays_which_ray_shares() -> None:
    data = digits(0.2)
    shipment = pack(data)
    assert set(shipment.parts) == {"train", "val", "test"}
    # what is left to be pickled for each worker anew
    assert len(pickle.dumps(shipment.frame)) < 10_000
    images_NHWC, labels_N = shipment.parts["train"].args
    assert (images_NHWC.dtype, labels_N.dtype) == (np.uint8, np.int64)
    assert images_NHWC.shape == (len(data.train), 8, 8, 1)


def test_arrived_data_lie_in_the_memory_they_came_in_even_if_read_only() -> None:
    shipment = pack(digits(0.2))
    for make in shipment.parts.values():
        for array in make.args:
            array.setflags(write=False)  # as the object store gives them
    arrived = unpack(shipment)
    images_NHWC, labels_N = shipment.parts["train"].args
    assert arrived.train.images.data_ptr() == images_NHWC.ctypes.data
    assert arrived.train.labels.data_ptr() == labels_N.ctypes.data
