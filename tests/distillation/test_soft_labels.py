"""Blocks: cutting covers every id once, coding loses nothing, and rows come back by id."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from raymd.distillation import soft_labels as module
from raymd.distillation.encoding import decode_block, empty_block, encode_block
from raymd.distillation.losses import kl_divergence, soft_labels, soft_log_probs
from raymd.distillation.soft_labels import BlockLayout, TeacherRows

METADATA = {"run": "demo", "cycle": 3, "student": "resnet20", "first_id": 0, "t": 3.0, "view": 0}
DTYPES = [np.float16, np.float32]


@pytest.fixture
def seven_rows_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 7 rows of 5 classes: float16 counts 2 bytes."""
    monkeypatch.setattr(module, "BLOCK_BYTES", 7 * 2 * 5 + 1)


def probabilities(num_rows: int, num_classes: int = 5, dtype: type = np.float16) -> np.ndarray:
    generator = torch.Generator().manual_seed(num_rows)
    logits_NK = 4 * torch.randn(num_rows, num_classes, generator=generator)
    return soft_labels(logits_NK, t=3).numpy().astype(dtype)


def cut(rows_VNK: np.ndarray, layout: BlockLayout) -> list[np.ndarray]:
    """Every view's rows as decoded blocks, in block order."""
    blocks = []
    for block in range(layout.num_blocks):
        first, stop = layout.rows(block)
        rows = rows_VNK[layout.view(block), first:stop]
        blocks.append(decode_block(encode_block(rows, metadata={"block": block}))[1])
    return blocks


# -- layout ---------------------------------------------------------------------------


@pytest.mark.usefixtures("seven_rows_a_block")
@pytest.mark.parametrize("num_views", [1, 3])
@pytest.mark.parametrize("num_samples", [1, 6, 7, 8, 13, 14, 101])
def test_layout_covers_every_id_of_every_view_once(num_samples: int, num_views: int) -> None:
    layout = BlockLayout(num_samples, 5, num_views)
    seen = [
        (layout.view(block), sample_id)
        for block in range(layout.num_blocks)
        for sample_id in range(*layout.rows(block))
    ]
    assert seen == [(view, n) for view in range(num_views) for n in range(num_samples)]


@pytest.mark.usefixtures("seven_rows_a_block")
def test_every_block_but_a_views_last_is_full() -> None:
    layout = BlockLayout(17, 5, 2)
    assert layout.rows_per_block == 7
    assert (layout.blocks_per_view, layout.num_blocks) == (3, 6)
    assert [layout.rows(block) for block in range(6)] == 2 * [(0, 7), (7, 14), (14, 17)]
    assert [layout.view(block) for block in range(6)] == [0, 0, 0, 1, 1, 1]


def test_blocks_hold_about_64_mib_of_float16() -> None:
    layout = BlockLayout(1_281_167, 1000)
    size_bytes = layout.rows_per_block * 1000 * 2
    assert 64 * 2**20 - 2000 < size_bytes <= 64 * 2**20
    assert layout.num_blocks == 39
    assert BlockLayout(50_000, 10).num_blocks == 1


def test_block_holds_a_row_however_many_classes_there_are() -> None:
    assert BlockLayout(3, 2**26).rows_per_block == 1


# -- coding ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 257])
def test_rows_and_metadata_come_back_as_they_were(dtype: type, num_rows: int) -> None:
    rows = probabilities(num_rows, dtype=dtype)
    metadata, decoded = decode_block(encode_block(rows, metadata=METADATA))
    assert metadata == METADATA
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, rows, strict=True)


def test_rows_that_are_not_contiguous_are_encoded_right() -> None:
    rows = probabilities(20)[::2, ::-1]
    np.testing.assert_array_equal(decode_block(encode_block(rows, metadata={}))[1], rows)


@pytest.mark.parametrize(
    "form", [np.asarray, np.ndarray.tobytes, pa.py_buffer], ids=lambda f: f.__name__
)
def test_decoding_takes_any_buffer_and_copies_no_row(form: Callable[[np.ndarray], Any]) -> None:
    block = encode_block(probabilities(100), metadata=METADATA)
    buffer = form(block)
    rows = decode_block(buffer)[1]
    assert np.shares_memory(rows, np.frombuffer(buffer, np.uint8))


def test_read_only_block_is_decoded_in_place() -> None:
    block = encode_block(probabilities(100), metadata=METADATA)
    block.flags.writeable = False
    rows = decode_block(block)[1]
    assert np.shares_memory(rows, block)
    assert not rows.flags.writeable


def test_encoding_is_byte_identical_whatever_the_order_of_the_metadata() -> None:
    rows = probabilities(50)
    first = encode_block(rows, metadata=METADATA).tobytes()
    again = encode_block(rows.copy(), metadata=dict(reversed(METADATA.items()))).tobytes()
    assert first == again
    assert first != encode_block(rows, metadata={**METADATA, "cycle": 4}).tobytes()


def test_block_is_little_more_than_its_rows() -> None:
    rows = probabilities(1000, 100)
    assert rows.nbytes < encode_block(rows, metadata=METADATA).nbytes < rows.nbytes + 2048


def test_block_is_a_plain_arrow_stream() -> None:
    rows = probabilities(9)
    table = pa.ipc.open_stream(encode_block(rows, metadata=METADATA)).read_all()
    assert table.column_names == ["soft_labels"]
    np.testing.assert_array_equal(np.array(table["soft_labels"].to_pylist()), rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_rows", "num_classes"), [(1, 1), (3, 1), (1, 5), (7, 3), (257, 1000)])
def test_block_is_what_arrows_own_writer_writes(
    dtype: type, num_rows: int, num_classes: int
) -> None:
    rows = probabilities(num_rows, num_classes, dtype=dtype)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), num_classes)
    header = {b"raymd": json.dumps(METADATA, sort_keys=True).encode()}
    schema = pa.schema([pa.field("soft_labels", column.type)], metadata=header)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    assert encode_block(rows, metadata=METADATA).tobytes() == sink.getvalue().to_pybytes()


def test_no_block_is_worth_an_import_of_pandas() -> None:
    """Which pyarrow would do on its way to and from numpy: half a second in every process."""
    code = (
        "import sys, numpy as np\n"
        "from raymd.distillation.encoding import decode_block, encode_block\n"
        "from raymd.distillation.top_k import keep_top_k\n"
        "import torch\n"
        "few = keep_top_k(torch.tensor([[0.5, 0.3, 0.2]]), 1, dtype=np.dtype('f2'))\n"
        "decode_block(encode_block(few, metadata={}))\n"
        "decode_block(encode_block(np.ones((3, 4), np.float16), metadata={}))\n"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_rows_may_be_written_into_a_block_after_it_was_made() -> None:
    rows = probabilities(9)
    data, stored = empty_block(*rows.shape, dtype=rows.dtype, metadata=METADATA)
    stored[...] = rows
    assert data.tobytes() == encode_block(rows, metadata=METADATA).tobytes()


@pytest.mark.parametrize("num_bytes", [0, 1, 8, 100, 5000])
def test_garbage_is_refused(num_bytes: int) -> None:
    generator = np.random.default_rng(num_bytes)
    for _ in range(20):
        with pytest.raises(ValueError, match="not a soft-label block"):
            decode_block(generator.bytes(num_bytes))


def test_truncated_block_is_refused_wherever_it_ends() -> None:
    block = encode_block(probabilities(6), metadata=METADATA).tobytes()
    end_of_stream = 8  # the marker behind the last row; nothing is lost without it
    for size in range(len(block) - end_of_stream):
        with pytest.raises(ValueError, match="not a soft-label block"):
            decode_block(block[:size])


def test_damaged_block_is_refused_or_read_but_never_kills_the_process() -> None:
    rows = probabilities(5, 3)
    block = encode_block(rows, metadata={"a": 1})
    refused = 0
    for position in range(block.size - rows.nbytes):
        for flip in (1, 64, 128, 255):
            damaged = block.copy()
            damaged[position] ^= flip
            try:
                decode_block(damaged)
            except ValueError:
                refused += 1
    assert refused > block.size


def arrow_stream(column: pa.Array, *, name: str, metadata: dict[bytes, bytes] | None) -> bytes:
    schema = pa.schema([pa.field(name, column.type)], metadata=metadata)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "metadata"),
    [("soft_labels", None), ("soft_labels", {b"raymd": b"{"}), ("labels", {b"raymd": b"{}"})],
    ids=["no metadata", "no JSON", "other column"],
)
def test_arrow_streams_of_others_are_refused(
    name: str, metadata: dict[bytes, bytes] | None
) -> None:
    column = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 0.5]), 2)
    with pytest.raises(ValueError, match="not a soft-label block"):
        decode_block(arrow_stream(column, name=name, metadata=metadata))


# -- looking up -----------------------------------------------------------------------


@pytest.mark.usefixtures("seven_rows_a_block")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_samples", [5, 7, 101])
def test_rows_by_id_equal_direct_indexing(num_samples: int, dtype: type) -> None:
    layout = BlockLayout(num_samples, 5, 3)
    rows_VNK = probabilities(3 * num_samples, dtype=dtype).reshape(3, num_samples, 5)
    teacher = TeacherRows(cut(rows_VNK, layout), layout=layout)
    generator = torch.Generator().manual_seed(0)
    for view in range(3):
        ids = torch.randint(num_samples, (64,), generator=generator)
        expected = torch.from_numpy(rows_VNK[view].astype(np.float32))[ids]
        expected = expected / expected.sum(dim=1, keepdim=True)
        rows = teacher.rows(ids, view=view)
        assert rows.dtype == torch.float32
        assert torch.equal(rows, expected)


@pytest.mark.usefixtures("seven_rows_a_block")
def test_view_zero_is_read_when_none_is_named() -> None:
    layout = BlockLayout(20, 5, 2)
    teacher = TeacherRows(cut(probabilities(40).reshape(2, 20, 5), layout), layout=layout)
    ids = torch.arange(20)
    assert torch.equal(teacher.rows(ids), teacher.rows(ids, view=0))
    assert not torch.equal(teacher.rows(ids), teacher.rows(ids, view=1))


def test_one_block_and_many_give_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_VNK, ids = probabilities(50)[None], torch.randperm(50)
    one = BlockLayout(50, 5)
    assert one.num_blocks == 1
    whole = TeacherRows(cut(rows_VNK, one), layout=one).rows(ids)
    monkeypatch.setattr(module, "BLOCK_BYTES", 2 * 5)
    many = BlockLayout(50, 5)
    assert many.num_blocks == 50
    assert torch.equal(TeacherRows(cut(rows_VNK, many), layout=many).rows(ids), whole)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_rows_read_from_float16_sum_to_one_and_kl_is_not_negative(num_classes: int) -> None:
    logits = 4 * torch.randn(256, num_classes, generator=torch.Generator().manual_seed(1))
    stored = soft_labels(logits, t=3).half().numpy()
    layout = BlockLayout(256, num_classes)
    rows = TeacherRows([stored], layout=layout).rows(torch.arange(256))
    assert (rows.double().sum(dim=1) - 1).abs().max() < 1e-6
    log_probs = soft_log_probs(logits, t=3)
    kl = [kl_divergence(rows[n : n + 1], log_probs[n : n + 1]).item() for n in range(256)]
    assert min(kl) >= -1e-6
    assert max(kl) < 1e-4


@pytest.mark.usefixtures("seven_rows_a_block")
def test_reading_leaves_the_blocks_as_they_were() -> None:
    layout = BlockLayout(20, 5)
    blocks = cut(probabilities(20, dtype=np.float32)[None] * 3, layout)
    before = [block.tobytes() for block in blocks]
    teacher = TeacherRows(blocks, layout=layout)
    first = teacher.rows(torch.arange(20)).clone()
    teacher.rows(torch.arange(20)).zero_()
    assert torch.equal(teacher.rows(torch.arange(20)), first)
    assert [block.tobytes() for block in blocks] == before


@pytest.mark.usefixtures("seven_rows_a_block")
@pytest.mark.parametrize("change", ["missing", "swapped", "other classes", "one too many"])
def test_blocks_that_do_not_fit_the_layout_are_refused(change: str) -> None:
    layout = BlockLayout(17, 5)
    blocks = cut(probabilities(17)[None], layout)
    changed = {
        "missing": blocks[:1] + blocks[2:],
        "swapped": blocks[::-1],
        "other classes": [block[:, :4] for block in blocks],
        "one too many": [*blocks, blocks[-1]],
    }[change]
    with pytest.raises(ValueError, match="teacher blocks of shapes"):
        TeacherRows(changed, layout=layout)


@pytest.mark.usefixtures("seven_rows_a_block")
@pytest.mark.parametrize("num_samples", [5, 17], ids=["one block", "three blocks"])
@pytest.mark.parametrize("beside", [-1, 0], ids=["before the first", "behind the last"])
def test_sample_id_that_there_is_not_is_an_error(num_samples: int, beside: int) -> None:
    layout = BlockLayout(num_samples, 5)
    teacher = TeacherRows(cut(probabilities(num_samples)[None], layout), layout=layout)
    missing = beside if beside < 0 else num_samples
    with pytest.raises(IndexError):
        teacher.rows(torch.tensor([0, missing]))
