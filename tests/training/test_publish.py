"""Publishing in two threads: one computes, the other commits and hands over."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymd.distillation.encoding import encode_block
from raymd.errors import StorageFullError
from raymd.exchange import names
from raymd.exchange.blocks import committed_blocks, read_block
from raymd.exchange.facts import Publication
from raymd.storage import Storage
from raymd.training.background import Background
from raymd.training.publish import publish_blocks

SAID = Publication(0, "a", 0.5, "weights")
FOLDER = names.published_folder(0, "a")
PATIENCE_S = 30.0


def data_of(block: int) -> np.ndarray:
    rows = np.full((4, 2), block + 1, dtype=np.float16)
    return encode_block(rows, metadata={"block": block})


class Handed:
    """An exchange that notes what it is handed, and whether it was committed by then."""

    def __init__(self, storage: Storage, then: Callable[[int], None] = lambda block: None) -> None:
        self.storage = storage
        self.then = then
        self.blocks: list[tuple[int, bytes | None]] = []

    def deliver(self, publication: Publication, *, block: int, data: np.ndarray | None) -> None:
        assert block in committed_blocks(self.storage, FOLDER)
        self.blocks.append((block, None if data is None else data.tobytes()))
        self.then(block)


def publish(
    storage: Storage,
    exchange: Any,
    *,
    compute: Callable[[int], np.ndarray] = data_of,
    blocks: int = 5,
) -> tuple[int, list[list[float]]]:
    return publish_blocks(
        storage, SAID, range(blocks), compute=compute, fields=lambda block: {"block": block},
        exchange=exchange,
    )  # fmt: skip


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "run")


def test_blocks_are_committed_and_then_handed_over_in_order(storage: Storage) -> None:
    exchange = Handed(storage)
    num_bytes, sample = publish(storage, exchange)
    assert exchange.blocks == [(block, data_of(block).tobytes()) for block in range(5)]
    assert num_bytes == 5 * data_of(0).nbytes
    assert sample[0] == [1.0, 1.0]


def test_next_block_is_computed_while_one_is_handed_over_and_no_further_one(
    storage: Storage,
) -> None:
    computed: list[int] = []
    second_computed, may_go_on = threading.Event(), threading.Event()

    def compute(block: int) -> np.ndarray:
        computed.append(block)
        if block == 1:
            second_computed.set()
        return data_of(block)

    def then(block: int) -> None:
        if block == 0:
            assert second_computed.wait(PATIENCE_S)  # it would not be, one after the other
            may_go_on.wait(0.2)  # time enough for the caller to go too far
            assert computed == [0, 1]

    publish(storage, Handed(storage, then), compute=compute)
    assert computed == list(range(5))


def test_what_is_committed_is_told_of_and_not_computed_again(storage: Storage) -> None:
    publish(storage, Handed(storage), blocks=2)
    computed: list[int] = []

    def compute(block: int) -> np.ndarray:
        computed.append(block)
        return data_of(block)

    exchange = Handed(storage)
    num_bytes, _ = publish(storage, exchange, compute=compute, blocks=3)
    assert computed == [2]
    assert [data is None for _, data in exchange.blocks] == [True, True, False]
    assert num_bytes == data_of(2).nbytes


def test_full_disk_is_raised_as_such_and_nothing_is_written_after(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Storage.write

    def full(self: Storage, name: str, data: Any) -> None:
        if name == names.block_file(FOLDER, 2):
            raise StorageFullError("full")
        write(self, name, data)

    monkeypatch.setattr(Storage, "write", full)
    exchange = Handed(storage)
    with pytest.raises(StorageFullError, match="full"):
        publish(storage, exchange)
    assert [block for block, _ in exchange.blocks] == [0, 1]
    assert committed_blocks(storage, FOLDER) == [0, 1]


def test_error_of_the_last_block_is_raised_too(storage: Storage) -> None:
    def then(block: int) -> None:
        if block == 4:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        publish(storage, Handed(storage, then))


def test_failure_to_compute_leaves_the_block_before_whole_and_no_thread(storage: Storage) -> None:
    def compute(block: int) -> np.ndarray:
        if block == 3:
            raise RuntimeError("no loss")
        return data_of(block)

    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="no loss"):
        publish(storage, Handed(storage), compute=compute)
    assert threading.active_count() == threads
    for block in committed_blocks(storage, FOLDER):
        assert read_block(storage, FOLDER, block=block) is not None
    assert 1 in committed_blocks(storage, FOLDER)


def test_work_after_an_error_is_never_begun() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        if number == 1:
            raise KeyboardInterrupt

    def do_all() -> None:
        with Background() as background:
            for number in range(4):
                background.do(work, number)

    with pytest.raises(KeyboardInterrupt):
        do_all()
    assert done == [0, 1]
