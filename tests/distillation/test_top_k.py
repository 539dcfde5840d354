"""Rows that keep a few classes: what they say, merged and read, is what they say written out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from raymd.distillation import top_k as module
from raymd.distillation.aggregation import merge_rows
from raymd.distillation.encoding import decode_block, encode_block
from raymd.distillation.formats import SoftLabelFormat
from raymd.distillation.losses import hits, mix_rows, soft_labels, student_loss
from raymd.distillation.soft_labels import BlockLayout, TeacherRows
from raymd.distillation.top_k import (
    TopKBatch,
    TopKRows,
    all_classes,
    cheapest,
    keep_top_k,
    merge_top_k,
    stored_rows,
    written_out,
)

F16, F32 = np.dtype(np.float16), np.dtype(np.float32)
WEIGHTS = [0.5, 0.3, 0.2]


def probabilities(num_rows: int, num_classes: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return soft_labels(5 * torch.randn(num_rows, num_classes, generator=generator), t=2)


def some_students(
    num_rows: int, num_classes: int, k: int, *, dtype: np.dtype = F32
) -> list[TopKRows]:
    seeds = range(len(WEIGHTS))
    return [
        keep_top_k(probabilities(num_rows, num_classes, seed=seed), k, dtype=dtype)
        for seed in seeds
    ]


# -- one student's rows -------------------------------------------------------------------


def test_row_by_hand() -> None:
    rows = keep_top_k(torch.tensor([[0.05, 0.6, 0.02, 0.3, 0.03]]), 2, dtype=F32)
    assert rows.classes.tolist() == [[1, 3]]
    np.testing.assert_allclose(rows.base, [0.1 / 3], rtol=1e-6)
    np.testing.assert_allclose(rows.dense(), [[0.1 / 3, 0.6, 0.1 / 3, 0.3, 0.1 / 3]], rtol=1e-6)


@pytest.mark.parametrize(("k", "num_classes"), [(1, 2), (3, 10), (10, 10), (16, 1000)])
def test_the_highest_are_kept_the_others_share_the_rest_and_rows_sum_to_one(
    k: int, num_classes: int
) -> None:
    probs_NK = probabilities(50, num_classes)
    rows_NK = torch.from_numpy(keep_top_k(probs_NK, k, dtype=F32).dense())
    kept_NE, classes_NE = probs_NK.topk(k, dim=1)
    assert torch.allclose(rows_NK.gather(1, classes_NE), kept_NE, atol=1e-7)
    others_N = rows_NK.scatter(1, classes_NE, -1.0)
    for row, rest in zip(others_N, 1 - kept_NE.sum(dim=1), strict=True):
        shared = row[row >= 0]
        assert len(shared) == num_classes - k
        assert torch.allclose(shared, rest / max(1, num_classes - k), atol=1e-7)
    assert (rows_NK.double().sum(dim=1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [F16, F32])
def test_batches_sum_to_one_whatever_the_precision(dtype: np.dtype) -> None:
    batch = keep_top_k(probabilities(64, 1000), 16, dtype=dtype).batch()
    assert (batch.dense().double().sum(dim=1) - 1).abs().max() < 1e-6
    assert batch.base.min() >= 0


def test_classes_beyond_65536_need_more_bytes_and_get_them() -> None:
    assert keep_top_k(probabilities(2, 2**16), 4, dtype=F16).classes.dtype == np.uint16
    probs_NK = torch.full((1, 2**16 + 1), 1e-6)
    probs_NK[0, -1] = 1 - 1e-6 * 2**16
    rows = keep_top_k(probs_NK, 1, dtype=F16)
    assert rows.classes.tolist() == [[2**16]]


# -- merging ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_rows", "num_classes", "k"), [(1, 5, 2), (300, 40, 3), (70, 1000, 16), (5, 21_841, 16)]
)
def test_mean_of_rows_is_the_mean_of_the_rows_written_out(
    num_rows: int, num_classes: int, k: int
) -> None:
    students = some_students(num_rows, num_classes, k)
    merged = merge_top_k(students, WEIGHTS)
    expected = merge_rows([student.dense() for student in students], WEIGHTS)
    np.testing.assert_allclose(merged.dense(), expected, rtol=2e-5, atol=1e-8)


def test_mean_in_float16_is_rounded_like_the_dense_one() -> None:
    students = some_students(200, 1000, 16, dtype=F16)
    merged = merge_top_k(students, WEIGHTS)
    exact = sum(
        a * (s.base[:, None] + np.zeros(s.shape)) for a, s in zip(WEIGHTS, students, strict=True)
    )
    for a, student in zip(WEIGHTS, students, strict=True):
        rows = np.arange(len(student.base))[:, None]
        np.add.at(exact, (rows, student.classes), a * student.excess.astype(np.float64))
    np.testing.assert_allclose(merged.dense(), exact, rtol=2**-10, atol=2**-24)


def test_entries_are_those_of_all_members_rising_and_only_once() -> None:
    students = some_students(300, 40, 5)
    merged = merge_top_k(students, WEIGHTS)
    for row in range(300):
        union = sorted({int(c) for s in students for c in s.classes[row]})
        assert merged.classes[row, : len(union)].tolist() == union
        assert not merged.excess[row, len(union) :].any()


def test_chunks_of_other_widths_are_merged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    students = some_students(100, 40, 3)
    whole = merge_top_k(students, WEIGHTS)
    monkeypatch.setattr(module, "CHUNK_ROWS", 7)
    cut = merge_top_k(students, WEIGHTS)
    assert encode_block(cut, metadata={}).tobytes() == encode_block(whole, metadata={}).tobytes()


def test_one_student_is_its_own_teacher_bit_for_bit() -> None:
    (student,) = some_students(60, 100, 4)[:1]
    merged = merge_top_k([student], [1.0])
    assert encode_block(merged, metadata={}).tobytes() == (
        encode_block(student, metadata={}).tobytes()
    )


def test_merged_rows_are_written_out_where_that_is_cheaper() -> None:
    few, many = some_students(20, 100, 4, dtype=F16), some_students(20, 100, 20, dtype=F16)
    assert isinstance(merge_rows(few, WEIGHTS), TopKRows)
    dense = merge_rows(many, WEIGHTS)
    assert isinstance(dense, np.ndarray)
    assert dense.dtype == F16
    np.testing.assert_allclose(dense, merge_top_k(many, WEIGHTS).dense())


def test_few_and_all_classes_are_merged_together() -> None:
    students = some_students(20, 100, 4)
    mixed = merge_rows([students[0].dense(), *students[1:]], WEIGHTS)
    np.testing.assert_allclose(mixed, merge_top_k(students, WEIGHTS).dense(), rtol=1e-5, atol=1e-8)


# -- storing and looking up ----------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "least"), [("float16", 15), ("float32", 15)])
def test_block_of_sixteen_of_a_thousand_classes_is_fifteen_times_smaller(
    dtype: str, least: float
) -> None:
    form = SoftLabelFormat(dtype, 16)
    probs_NK = probabilities(2000, 1000)
    published = encode_block(stored_rows(probs_NK, form=form), metadata={})
    dense = encode_block(stored_rows(probs_NK, form=SoftLabelFormat()), metadata={})
    assert dense.nbytes / published.nbytes >= least
    assert published.nbytes <= 2000 * form.row_bytes(1000) + 2048


def test_block_comes_back_as_it_was_without_a_copy() -> None:
    rows = keep_top_k(probabilities(30, 50), 4, dtype=F16)
    block = encode_block(rows, metadata={"cycle": 3})
    metadata, again = decode_block(block)
    assert metadata == {"cycle": 3}
    assert isinstance(again, TopKRows)
    assert again.num_classes == 50
    for part in ("classes", "excess", "base"):
        np.testing.assert_array_equal(getattr(again, part), getattr(rows, part), strict=True)
        assert np.shares_memory(getattr(again, part), block)


def test_block_that_names_a_class_there_is_not_is_refused() -> None:
    rows = keep_top_k(probabilities(30, 50), 4, dtype=F16)
    rows.classes[7, 2] = 50
    with pytest.raises(ValueError, match="class 50 of 50"):
        decode_block(encode_block(rows, metadata={}))


def test_as_many_classes_as_there_are_is_stored_dense() -> None:
    probs_NK = probabilities(30, 10)
    rows = stored_rows(probs_NK, form=SoftLabelFormat("float32", 10))
    assert isinstance(rows, np.ndarray)
    np.testing.assert_allclose(rows, probs_NK.numpy(), rtol=1e-5, atol=1e-7)
    assert isinstance(stored_rows(probs_NK, form=SoftLabelFormat("float16", 2)), TopKRows)
    assert isinstance(stored_rows(probs_NK, form=SoftLabelFormat("float16", 4)), np.ndarray)


@pytest.mark.parametrize("is_mixed", [False, True], ids=["few", "few and all"])
def test_rows_by_id_are_the_blocks_own(is_mixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raymd.distillation.soft_labels.BLOCK_BYTES", 7 * 2 * 40)
    layout = BlockLayout(45, 40, 2)
    blocks = []
    for block in range(layout.num_blocks):
        first, stop = layout.rows(block)
        k = 2 + block % 3  # merged blocks are not all of one width
        probs_NK = probabilities(stop - first, 40, seed=block)
        blocks.append(keep_top_k(probs_NK, k, dtype=F16))
    shown = [b.dense() if is_mixed and n == 3 else b for n, b in enumerate(blocks)]
    teacher = TeacherRows(shown, layout=layout)
    ids = torch.tensor([44, 0, 7, 7, 13, 30])
    for view in range(2):
        written = np.concatenate([
            written_out(b) for n, b in enumerate(blocks) if layout.view(n) == view
        ]).astype(np.float32)  # fmt: skip
        expected = written[ids] / written[ids].sum(axis=1, keepdims=True)
        batch = teacher.rows(ids, view=view)
        assert isinstance(batch, Tensor if is_mixed else TopKBatch)
        np.testing.assert_allclose(all_classes(batch), expected, rtol=1e-3, atol=1e-7)


# -- in the loss --------------------------------------------------------------------------


@pytest.mark.parametrize(("num_classes", "k"), [(3, 1), (10, 3), (1000, 16), (21_841, 16)])
@pytest.mark.parametrize("merged", [False, True], ids=["own", "merged"])
def test_loss_and_gradient_agree_with_the_same_rows_written_out(
    num_classes: int, k: int, merged: bool
) -> None:
    students = some_students(8, num_classes, k)
    batch = (merge_top_k(students, WEIGHTS) if merged else students[0]).batch()
    generator = torch.Generator().manual_seed(9)
    logits_BK = 5 * torch.randn(8, num_classes, generator=generator)
    labels_B = torch.randint(num_classes, (8,), generator=generator)
    found = []
    for teacher in (batch, batch.dense()):
        leaf = logits_BK.clone().requires_grad_()
        losses = student_loss(leaf, labels_B, teacher_BK=teacher, alpha=0.3, beta=1.7, t=3.0)
        losses.loss.backward()
        assert leaf.grad is not None
        found.append((losses.loss.detach(), losses.kd_loss, leaf.grad))
    for few, written in zip(*found, strict=True):
        assert torch.allclose(few, written, rtol=1e-5, atol=1e-5)
    assert found[0][1] > 0


def test_rows_without_a_rest_have_a_finite_loss() -> None:
    sure = torch.zeros(4, 10)
    sure[:, 3] = 1.0
    batch = keep_top_k(sure, 2, dtype=F16).batch()
    logits_BK = torch.zeros(4, 10, requires_grad=True)
    losses = student_loss(logits_BK, torch.full((4,), 3), teacher_BK=batch, beta=1.0, t=1.0)
    assert losses.kd_loss.item() == pytest.approx(np.log(10), rel=1e-5)


def test_likeliest_class_is_that_of_the_rows_written_out() -> None:
    students = some_students(500, 30, 3, dtype=F16)
    batch = merge_top_k(students, WEIGHTS).batch()
    top_B = batch.dense().argmax(dim=1)
    assert hits(batch, top_B).all()
    assert not hits(batch, (top_B + 1) % 30).any()
    even = keep_top_k(torch.full((2, 4), 0.25), 2, dtype=F32).batch()
    assert even.argmax().tolist() == [0, 0]


def test_mixed_images_get_both_images_rows() -> None:
    rows, partners = (student.batch() for student in some_students(6, 20, 3)[:2])
    mixed_BK = mix_rows(rows, partners, share=0.7)
    assert torch.allclose(mixed_BK, 0.7 * rows.dense() + 0.3 * partners.dense())


# -- reckoning ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [
    SoftLabelFormat(), SoftLabelFormat("float32"), SoftLabelFormat("float16", 3),
    SoftLabelFormat("float32", 3), SoftLabelFormat("float16", 30),
], ids=str)  # fmt: skip
def test_bytes_of_rows_are_reckoned_as_they_are(form: SoftLabelFormat) -> None:
    published = [stored_rows(probabilities(50, 60, seed=seed), form=form) for seed in range(3)]
    assert published[0].nbytes == 50 * form.row_bytes(60)
    assert merge_rows(published, WEIGHTS).nbytes <= 50 * form.row_bytes(60, members=3)


def test_cheapest_keeps_what_it_is_given_where_that_is_smaller() -> None:
    rows = keep_top_k(probabilities(5, 100), 4, dtype=F16)
    assert cheapest(rows) is rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [("dense", SoftLabelFormat()), ("top_k:16", SoftLabelFormat("float16", 16))],
)
def test_formats_are_read(text: str, expected: SoftLabelFormat) -> None:
    assert SoftLabelFormat.parse(text, "float16") == expected


@pytest.mark.parametrize("text", ["", "top_k", "top_k:", "top_k:0", "top_k:-1", "top_k:2.5", "16"])
def test_other_formats_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text or "^$"):
        SoftLabelFormat.parse(text, "float16")
