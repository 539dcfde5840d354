"""The aggregator on a real Ray, with students of this process; whoever dies, the bytes stay."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from raymd.distillation.aggregation import merge_rows
from raymd.distillation.encoding import decode_block
from raymd.distillation.methods import get_method
from raymd.exchange import names
from raymd.exchange.blocks import committed_blocks, read_losses, read_roster
from raymd.exchange.damaged import Damaged, Rebuild
from raymd.exchange.facts import Loss, Publication
from raymd.exchange.folder import Teacher
from raymd.exchange.memory import exchange_bytes
from raymd.execution.aggregator import start_aggregator
from raymd.execution.exchange import RayExchange
from raymd.execution.monitor import start_monitor
from raymd.storage import Storage
from tests.exchange.conftest import (
    BLOCKS,
    CLASSES,
    ROWS,
    STUDENTS,
    commit_publication,
    commit_rows,
    publication,
    rows_of,
    teacher_bytes,
)
from tests.execution.conftest import is_alive, titled, wait_until

pytestmark = pytest.mark.ray

WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}


class Rig:
    """One run's storage, monitor and aggregator, and students to play. Each test has a cycle."""

    def __init__(self, folder: Path) -> None:
        self.storage = Storage.at(folder / "run")
        self.cycle = -1
        name = f"monitor-{uuid.uuid4().hex[:8]}"
        self.monitor = start_monitor(name)
        self.aggregator = start_aggregator(
            self.storage,
            attempt=uuid.uuid4().hex[:8],
            method=get_method("md"),
            students=STUDENTS,
            num_blocks=BLOCKS,
            monitor=name,
        )

    def exchange(self, student: str) -> RayExchange:
        return RayExchange(self.aggregator, student=student, emit=lambda event: None)

    def announce(self, student: str) -> Publication:
        said = publication(student, cycle=self.cycle)
        commit_publication(self.storage, said)
        self.exchange(student).announce(said)
        return said

    def publish(self, student: str, *, first: int = 0, stop: int = BLOCKS, repeat: int = 1) -> None:
        said = self.announce(student)
        for block in range(first, stop):
            data = commit_rows(self.storage, said, block, repeat=repeat)
            self.exchange(student).deliver(said, block=block, data=data)

    def teacher(
        self, stop: threading.Event | None = None, rebuild: Rebuild | None = None
    ) -> Teacher | None:
        return self.exchange("a").teacher(
            self.cycle, "all", num_blocks=BLOCKS, stop=stop or threading.Event(), rebuild=rebuild
        )

    def events(self) -> list[dict[str, Any]]:
        """What the aggregator has told since the last call."""
        return ray.get(self.monitor.take.remote(0.0)).events

    def memory(self) -> dict[str, int]:
        return ray.get(self.aggregator.memory.remote())

    def pid(self) -> int:
        return ray.get(self.aggregator.__ray_call__.remote(lambda self: os.getpid()))

    def merged(self) -> list[int]:
        return committed_blocks(self.storage, f"{names.teacher_folder(self.cycle)}/all")

    def check(
        self, teacher: Teacher | None, *, members: Sequence[str] = STUDENTS, repeat: int = 1
    ) -> None:
        """It is Eq. 8 of what its members published, and what storage holds."""
        assert teacher is not None
        total = sum(WEIGHTS[student] for student in members)
        assert teacher.weights == pytest.approx({s: WEIGHTS[s] / total for s in members})
        weights = [teacher.weights[student] for student in members]
        for block, data in enumerate(teacher.blocks):
            _, rows_NK = decode_block(data)
            rows = [rows_of(s, block, cycle=self.cycle, repeat=repeat) for s in members]
            assert rows_NK.tobytes() == merge_rows(rows, weights).tobytes()
        lost = len(STUDENTS) - len(members)
        folder = names.teacher_blocks(self.cycle, "all", lost).rpartition("/")[2]
        committed = teacher_bytes(self.storage, self.cycle, folder)
        assert [bytes(data) for data in teacher.blocks] == committed


@pytest.fixture(scope="module")
def one_rig(small_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    # starting one takes seconds, so the tests share it, each with a cycle of its own
    rig = Rig(tmp_path_factory.mktemp("rig"))
    yield rig
    end(rig)


@pytest.fixture
def rig(one_rig: Rig) -> Rig:
    one_rig.cycle += 1
    return one_rig


@pytest.fixture
def own_rig(small_ray: None, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    end(rig)


def end(rig: Rig) -> None:
    for actor in (rig.aggregator, rig.monitor):
        ray.kill(actor, no_restart=True)


Submit = Callable[..., "Future[Teacher | None]"]


@pytest.fixture
def in_background() -> Iterator[Submit]:
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


def result_of(future: "Future[Teacher | None]") -> Teacher | None:
    return future.result(timeout=120)


def test_published_blocks_come_back_as_their_weighted_mean(rig: Rig) -> None:
    for student in STUDENTS:
        rig.publish(student)
    teacher = rig.teacher()
    rig.check(teacher)
    raw = f"soft_labels/{names.cycle_folder(rig.cycle)}"
    wait_until(lambda: not rig.storage.exists(raw), "the raw blocks being dropped")
    assert rig.storage.record(names.complete_record(rig.cycle)) is not None
    # a student that begins again reads the same bytes
    rig.check(rig.teacher())
    assert ray.get(rig.aggregator.missing.remote(rig.cycle)) == ()


def test_merging_begins_before_the_last_student_is_done(rig: Rig) -> None:
    rig.publish("a")
    rig.publish("c")
    rig.publish("b", stop=1)
    wait_until(lambda: rig.merged() == [0], "the one whole block being merged")
    assert ray.get(rig.aggregator.missing.remote(rig.cycle)) == ("b",)


def test_repeated_and_shuffled_deliveries_change_no_byte(rig: Rig) -> None:
    for student in ("c", "a", "c", "b"):
        rig.publish(student, first=1)
        rig.publish(student, stop=1)
    rig.check(rig.teacher())
    # and once more when all is merged already
    said = publication("a", cycle=rig.cycle)
    rig.exchange("a").announce(said)
    for block in range(BLOCKS):
        rig.exchange("a").deliver(said, block=block, data=None)
    rig.check(rig.teacher())


def test_announcing_other_weights_is_refused_to_the_student(rig: Rig) -> None:
    rig.announce("b")
    with pytest.raises(ValueError, match=f"b published cycle {rig.cycle} from other weights"):
        rig.exchange("b").announce(publication("b", cycle=rig.cycle, publish_id="others"))


def test_stopped_wait_ends_promptly_and_says_nothing_was_there(
    rig: Rig, in_background: Submit
) -> None:
    rig.publish("a")
    stop = threading.Event()
    waiting = in_background(rig.teacher, stop)
    time.sleep(0.3)
    assert not waiting.done()
    stop.set()
    asked = time.monotonic()
    assert result_of(waiting) is None
    assert time.monotonic() - asked < 10


def test_killed_aggregator_comes_back_and_serves_who_waits(rig: Rig, in_background: Submit) -> None:
    waiting = in_background(rig.teacher)
    rig.publish("a")
    rig.publish("b")
    rig.publish("c", stop=1)
    wait_until(lambda: rig.merged() == [0], "the first block being merged")
    before = rig.pid()
    os.kill(before, signal.SIGKILL)
    rig.publish("c", first=1)
    rig.check(result_of(waiting))
    assert rig.pid() != before


def test_killed_aggregator_merges_what_only_storage_knows(rig: Rig, in_background: Submit) -> None:
    rig.publish("a")
    rig.publish("b")
    waiting = in_background(rig.teacher)
    # committed, but the call that tells of it never comes: the student died with the aggregator
    said = publication("c", cycle=rig.cycle)
    commit_publication(rig.storage, said)
    for block in range(BLOCKS):
        commit_rows(rig.storage, said, block)
    os.kill(rig.pid(), signal.SIGKILL)
    rig.check(result_of(waiting))


class Publisher:
    """A student in a process of its own, which owns what it puts."""

    def publish(self, aggregator: Any, storage: Storage, said: Publication) -> None:
        exchange = RayExchange(aggregator, student=said.student, emit=lambda event: None)
        commit_publication(storage, said)
        exchange.announce(said)
        for block in range(BLOCKS):
            exchange.deliver(said, block=block, data=commit_rows(storage, said, block))


def test_blocks_lost_with_their_publisher_are_merged_from_storage(rig: Rig) -> None:
    said = publication("b", cycle=rig.cycle)
    publisher: Any = ray.remote(num_cpus=0)(Publisher).remote()
    ray.get(publisher.publish.remote(rig.aggregator, rig.storage, said))
    ray.kill(publisher)
    rig.publish("a")
    rig.publish("c")
    rig.check(rig.teacher())


def test_merge_whose_worker_is_killed_is_done_again(rig: Rig, in_background: Submit) -> None:
    rig.publish("a")
    rig.publish("b")
    rig.publish("c", stop=BLOCKS - 1)
    wait_until(lambda: len(rig.merged()) == BLOCKS - 1, "all blocks but one being merged")
    # The task goes to a worker that is there already; asleep, it cannot escape the kill.
    idle = titled("ray::IDLE")
    assert idle
    for process in idle:
        process.suspend()
    waiting = in_background(rig.teacher)
    rig.publish("c", first=BLOCKS - 1)
    time.sleep(1.0)
    assert not waiting.done()
    for process in idle:
        process.kill()
    rig.check(result_of(waiting))


def test_reader_that_lost_its_references_gets_others(rig: Rig) -> None:
    for student in STUDENTS:
        rig.publish(student)
    expected = rig.teacher()
    assert expected is not None
    call = rig.aggregator.teacher.remote(rig.cycle, "all", lost=[1])
    weights, refs = ray.get(call, timeout=120)
    assert weights == expected.weights
    assert [bytes(ray.get(ref)) for ref in refs] == [bytes(block) for block in expected.blocks]


def test_teacher_cannot_be_read_before_it_is_whole(rig: Rig, in_background: Submit) -> None:
    rig.publish("a")
    rig.publish("b")
    rig.publish("c", stop=BLOCKS - 1)
    wait_until(lambda: len(rig.merged()) == BLOCKS - 1, "all blocks but one being merged")
    waiting = in_background(rig.teacher)
    time.sleep(0.5)
    assert not waiting.done()
    assert rig.storage.record(names.complete_record(rig.cycle)) is None
    rig.publish("c", first=BLOCKS - 1)
    rig.check(result_of(waiting))


# -- damage -----------------------------------------------------------------------------------


class Builder:
    """Makes students' blocks again, and a teacher's from what it was made of before."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.built: list[Damaged] = []
        self.whole: dict[str, bytes] = {}

    def __call__(self, damaged: Damaged) -> np.ndarray:
        self.built.append(damaged)
        if damaged.kind == "student":
            said = publication(damaged.id, cycle=damaged.cycle)
            return commit_rows(self.rig.storage, said, damaged.block)
        for name, data in self.whole.items():
            self.rig.storage.write(name, data)
        return np.frombuffer(next(iter(self.whole.values())), np.uint8)


def test_damaged_block_is_made_again_by_one_of_those_who_wait(
    rig: Rig, in_background: Submit
) -> None:
    builder = Builder(rig)
    waiting = [in_background(rig.teacher, None, builder) for _ in range(3)]
    for student in ("a", "b"):
        rig.publish(student)
    said = rig.announce("c")
    commit_rows(rig.storage, said, 0)
    file = names.block_file(names.published_folder(rig.cycle, "c"), 0)
    rig.storage.write(file, np.zeros(3, np.uint8))
    rig.exchange("c").deliver(said, block=0, data=None)
    rig.publish("c", first=1)
    for teacher in map(result_of, waiting):
        rig.check(teacher)
    assert builder.built == [Damaged(rig.cycle, "student", "c", 0)]
    assert "truncated: 3 of" in builder.built[0].reason


def test_damaged_teacher_is_made_again_by_its_reader(rig: Rig) -> None:
    for student in STUDENTS:
        rig.publish(student)
    rig.check(rig.teacher())
    builder, file = Builder(rig), names.block_file(names.teacher_blocks(rig.cycle, "all"), 1)
    builder.whole[file] = rig.storage.read(file).to_pybytes()
    # the objects die with the aggregator, so only storage is left to read from
    os.kill(rig.pid(), signal.SIGKILL)
    rig.storage.write(file, np.zeros(3, np.uint8))
    rig.check(rig.teacher(rebuild=builder))
    assert builder.built == [Damaged(rig.cycle, "teacher", "all", 1)]


def test_damaged_record_is_told_of_and_written_again_by_a_restarted_aggregator(rig: Rig) -> None:
    for student in STUDENTS:
        rig.publish(student)
    rig.check(rig.teacher())
    name = names.roster_record(rig.cycle)
    whole = rig.storage.read(name).to_pybytes()
    rig.storage.write(name, whole[:-9])
    os.kill(rig.pid(), signal.SIGKILL)
    rig.check(rig.teacher())
    assert rig.storage.read(name).to_pybytes() == whole
    texts = [e["text"] for e in rig.events() if e["event"] == "note"]
    assert any(f"{name} is damaged" in text for text in texts)


# -- losses and memory ------------------------------------------------------------------------


def test_others_go_on_without_a_lost_student_and_a_restart_does_too(
    own_rig: Rig, in_background: Submit
) -> None:
    rig, storage = own_rig, own_rig.storage
    rig.cycle = 0
    for student in STUDENTS:
        rig.publish(student)
    rig.check(rig.teacher())
    rig.cycle = 1
    waiting = in_background(rig.teacher)
    rig.publish("a")
    rig.publish("c")
    rig.publish("b", stop=1)
    wait_until(lambda: rig.merged() == [0], "a block being merged for the roster of three")
    loss = Loss("b", "its GPU burnt", epoch=3, step=5)
    assert ray.get(rig.aggregator.lose.remote(loss)) == replace(loss, cycle=1)
    rig.check(result_of(waiting), members=("a", "c"))
    assert read_roster(storage, 0).weights["all"].keys() == {"a", "b", "c"}
    os.kill(rig.pid(), signal.SIGKILL)
    rig.check(rig.teacher(), members=("a", "c"))
    rig.cycle = 2
    rig.publish("b")  # too late
    rig.publish("c")
    assert ray.get(rig.aggregator.missing.remote(2)) == ("a",)
    rig.publish("a")
    rig.check(rig.teacher(), members=("a", "c"))
    assert read_losses(storage) == [replace(loss, cycle=1)]


def used_bytes() -> float:
    """Of the object store, by what Ray says is left."""
    total, left = ray.cluster_resources(), ray.available_resources()
    return total["object_store_memory"] - left["object_store_memory"]


MEGABYTE = 2**20
ROWS_OF_A_MEGABYTE = MEGABYTE // rows_of("a", 0).nbytes


def read_and_let_go(rig: Rig, before: float) -> None:
    """Afterwards nothing is held but this cycle's teacher, by the aggregator's count and Ray's."""
    teacher = rig.teacher()
    rig.check(teacher, repeat=ROWS_OF_A_MEGABYTE)
    assert teacher is not None
    num_bytes = sum(block.nbytes for block in teacher.blocks)
    del teacher
    wait_until(lambda: rig.memory()["bytes"] == num_bytes, "all but the teacher being dropped")
    # Ray's count lags, but a reference kept anywhere would show in it
    wait_until(lambda: used_bytes() - before < num_bytes + MEGABYTE, "memory being freed")


def test_no_cycle_leaves_anything_in_the_object_store(own_rig: Rig) -> None:
    rig, peaks = own_rig, []
    before = used_bytes()
    for rig.cycle in range(5):
        for student in STUDENTS:
            rig.publish(student, repeat=ROWS_OF_A_MEGABYTE)
        read_and_let_go(rig, before)
        peaks.append(rig.memory()["peak_bytes"])
    # nothing of a first cycle is left in the second, so the peak is that of any two cycles
    assert peaks[1:] == peaks[1:2] * 4
    rows = BLOCKS * ROWS_OF_A_MEGABYTE * ROWS
    assert peaks[-1] == pytest.approx(exchange_bytes(rows, CLASSES, len(STUDENTS)), rel=0.01)
    told: list[int] = []

    def peak_is_told() -> bool:  # a moment later: events are gathered
        told.extend(e["peak_bytes"] for e in rig.events() if e["event"] == "memory")
        return max(told, default=0) == peaks[-1]

    wait_until(peak_is_told, "the peak being told")
    assert len(told) < 60


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_soft_labels_larger_than_the_object_store_are_merged_and_read(
    own_rig: Rig, in_background: Submit
) -> None:
    rig, repeat = own_rig, 64 * ROWS_OF_A_MEGABYTE
    rig.cycle = 0
    for student in STUDENTS:
        rig.publish(student, repeat=repeat)
    readers = [in_background(rig.teacher) for _ in range(2)]
    for reader in readers:
        rig.check(result_of(reader), repeat=repeat)
    total = ray.cluster_resources()["object_store_memory"]
    assert rig.memory()["peak_bytes"] > 3 * total


def test_aggregator_ends_with_its_driver(own_rig: Rig) -> None:
    pid = own_rig.pid()
    ray.kill(own_rig.monitor, no_restart=True)
    wait_until(lambda: not is_alive(pid), "the aggregator's end", timeout_s=60)


def test_restarted_aggregator_that_nobody_calls_ends_with_its_driver(own_rig: Rig) -> None:
    before = own_rig.pid()
    known = {process.pid for process in titled("ray::Aggregator")}
    os.kill(before, signal.SIGKILL)
    after = wait_until(
        lambda: [p for p in titled("ray::Aggregator") if p.pid not in known], "its restart"
    )
    ray.kill(own_rig.monitor, no_restart=True)
    wait_until(lambda: not is_alive(after[0].pid), "its end", timeout_s=60)
