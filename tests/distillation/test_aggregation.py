"""Eq. 8 over blocks: against float64 numpy, bit for bit on repeats, on read-only memory."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from raymd.distillation.aggregation import as_tensor, chunk_rows, merge_rows
from raymd.distillation.losses import kl_divergence, soft_labels, soft_log_probs

HALF_ULP = 2**-11
CHUNK_ROWS = chunk_rows(10)
DTYPES = [np.float16, np.float32]


def students(
    num_students: int, num_rows: int, dtype: type, num_classes: int = 10
) -> list[np.ndarray]:
    """Read-only blocks of probabilities, as the object store hands them out."""
    generator = torch.Generator().manual_seed(num_rows)
    logits_SNK = 4 * torch.randn(num_students, num_rows, num_classes, generator=generator)
    blocks = [block.astype(dtype) for block in soft_labels(logits_SNK, t=3).numpy()]
    for block in blocks:
        block.flags.writeable = False
    return blocks


def reference(blocks: list[np.ndarray], weights: list[float]) -> np.ndarray:
    return sum(w * block.astype(np.float64) for w, block in zip(weights, blocks, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 2, CHUNK_ROWS, CHUNK_ROWS + 1, 2 * CHUNK_ROWS + 3])
@pytest.mark.parametrize("weights", [[1.0], [0.6, 0.4], [0.5, 0.3, 0.2], [0.1] * 10])
def test_merged_rows_equal_the_float64_mean(
    dtype: type, num_rows: int, weights: list[float]
) -> None:
    blocks = students(len(weights), num_rows, dtype)
    merged = merge_rows(blocks, weights)
    assert merged.dtype == dtype
    assert merged.shape == (num_rows, 10)
    rtol, atol = (HALF_ULP * 1.01, 2**-25) if dtype == np.float16 else (1e-6, 0.0)
    np.testing.assert_allclose(merged, reference(blocks, weights), rtol=rtol, atol=atol)


def test_float16_rows_are_rounded_once() -> None:
    """Summing ten students in float16 would be several roundings away from this."""
    blocks, weights = students(10, 300, np.float16), [0.1] * 10
    in_float32 = sum(
        np.float32(w) * b.astype(np.float32) for w, b in zip(weights, blocks, strict=True)
    )
    once = in_float32.astype(np.float16)
    in_float16 = sum(np.float16(w) * b for w, b in zip(weights, blocks, strict=True))
    differs = merge_rows(blocks, weights) != once
    assert differs.mean() < 0.001  # float32's own last bit may tip a tie
    assert (in_float16 != once).mean() > 0.1


@pytest.mark.parametrize("dtype", DTYPES)
def test_repeats_are_byte_identical(dtype: type) -> None:
    blocks, weights = students(5, 1000, dtype), [0.3, 0.1, 0.2, 0.25, 0.15]
    first = merge_rows(blocks, weights).tobytes()
    assert all(merge_rows(blocks, weights).tobytes() == first for _ in range(3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_merge_alike_alone_and_within_a_longer_one(dtype: type) -> None:
    blocks, weights = students(3, 600, dtype), [0.5, 0.3, 0.2]
    whole = merge_rows(blocks, weights)
    part = merge_rows([block[100:421] for block in blocks], weights)
    assert part.tobytes() == whole[100:421].tobytes()


def test_permuting_students_changes_nothing_but_the_last_bits() -> None:
    blocks, weights = students(4, 257, np.float32), [0.4, 0.3, 0.2, 0.1]
    merged, permuted = merge_rows(blocks, weights), merge_rows(blocks[::-1], weights[::-1])
    np.testing.assert_allclose(permuted, merged, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_student_is_its_own_teacher_bit_for_bit(dtype: type) -> None:
    (block,) = students(1, 257, dtype)
    assert merge_rows([block], [1.0]).tobytes() == block.tobytes()


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
def test_identical_students_give_each_its_own_rows(weights: list[float]) -> None:
    (block,) = students(1, 257, np.float32)
    merged = merge_rows([block] * len(weights), weights)
    np.testing.assert_allclose(merged, block, rtol=3e-7)


def test_identical_students_have_zero_kl_right_after_publishing() -> None:
    logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    block = soft_labels(logits, t=3).numpy()
    teacher = torch.from_numpy(merge_rows([block, block, block], [0.2, 0.3, 0.5]))
    kl = kl_divergence(teacher, soft_log_probs(logits, t=3))
    assert kl.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("dtype", "miss"), [(np.float16, 1e-3), (np.float32, 1e-6)])
@pytest.mark.parametrize("num_classes", [2, 10, 100, 1000])
def test_merged_rows_sum_to_one(dtype: type, miss: float, num_classes: int) -> None:
    blocks = students(3, 64, dtype, num_classes)
    sums = merge_rows(blocks, [0.5, 0.3, 0.2]).astype(np.float64).sum(axis=1)
    assert np.abs(sums - 1).max() < miss


def test_weight_of_zero_leaves_a_student_out() -> None:
    blocks = students(2, 300, np.float16)
    assert merge_rows(blocks, [0.0, 1.0]).tobytes() == blocks[1].tobytes()


@pytest.fixture
def torch_warns_each_time() -> Iterator[None]:
    """torch would warn of read-only memory once a process, so a second time proves nothing."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("torch_warns_each_time")
def test_read_only_blocks_merge_without_a_warning() -> None:
    blocks = students(2, 10, np.float16)
    with pytest.warns(UserWarning, match="not writable"):
        torch.from_numpy(blocks[0])
    before = [block.tobytes() for block in blocks]
    merged = merge_rows(blocks, [0.5, 0.5])  # a warning would be an error here
    assert merged.flags.writeable
    assert [block.tobytes() for block in blocks] == before


def test_tensor_of_a_block_shares_its_memory() -> None:
    (block,) = students(1, 3, np.float16)
    assert as_tensor(block).data_ptr() == block.__array_interface__["data"][0]


def test_merged_rows_share_no_memory_with_the_students() -> None:
    (block,) = students(1, 3, np.float32)
    assert not np.shares_memory(merge_rows([block], [1.0]), block)


@pytest.mark.parametrize("num_classes", [1, 10, 1000, 70_000])
def test_chunks_hold_as_many_values_whatever_the_number_of_classes(num_classes: int) -> None:
    """So that neither few classes cost a call a row, nor many leave the processor's cache."""
    values = chunk_rows(num_classes) * num_classes
    assert 2**16 - num_classes < values <= max(2**16, num_classes)


def test_rows_are_merged_where_they_are_wanted() -> None:
    blocks, weights = students(3, 600, np.float16, 1000), [0.5, 0.3, 0.2]
    out = np.full_like(blocks[0], np.nan)
    merged = merge_rows(blocks, weights, out_NK=out)
    assert np.shares_memory(merged, out)
    assert out.tobytes() == merge_rows(blocks, weights).tobytes()
    with pytest.raises(ValueError, match="blocks to merge differ"):
        merge_rows(blocks, weights, out_NK=out.astype(np.float32))


@pytest.mark.parametrize(
    ("blocks", "weights"),
    [
        ([], []),
        ([np.ones((2, 3), np.float16), np.ones((3, 3), np.float16)], [0.5, 0.5]),
        ([np.ones((2, 3), np.float16), np.ones((2, 3), np.float32)], [0.5, 0.5]),
        ([np.ones((2, 3), np.float16)], [0.5, 0.5]),
        ([np.ones((2, 3), np.float16)] * 2, [1.0]),
    ],
    ids=["none", "shapes", "dtypes", "weights", "blocks"],
)
def test_blocks_that_do_not_belong_together_are_refused(
    blocks: list[np.ndarray], weights: list[float]
) -> None:
    with pytest.raises(ValueError, match="blocks to merge differ"):
        merge_rows(blocks, weights)
