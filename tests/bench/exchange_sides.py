"""The sides of the exchange benchmark, each run in a fresh process (see fresh.py).

All get rows that are made and ready in the publishers' memory, and end when a batch of 256 rows of
the mean is gathered in each student.
"""

import multiprocessing
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import ray

from raymd.distillation.soft_labels import BlockLayout
from raymd.exchange.memory import exchange_bytes
from tests.bench.fresh import answer
from tests.bench.storages import TimedStorage, UnwrittenStorage
from tests.bench.synthetic import (
    BATCH,
    DTYPE,
    PeakPrivate,
    Publisher,
    latest,
    local_ray,
    random_rows,
    start,
    touch_store,
)

SHARED = Path("/dev/shm")
CHUNK_BYTES = 4 * 2**20
MANY = 2**31 - 1


def raymd(
    *,
    rows: int,
    classes: int,
    students: int,
    store_gb: float,
    touch: bool,
    folder: str,
    written: bool,
    held_blocks: int,
    pace_s: float = 0.0,
    busy: bool = False,
) -> dict[str, Any]:
    """raymd's own exchange: one cycle of one teacher.

    Returns:
        ``seconds`` from the start to the last batch, of which ``publish_s`` to the last block
        handed over; ``storage_s`` of all processes; ``aggregator_bytes`` private at most; with
        ``pace_s`` the ``pass_s`` of computing and the ``tail_s`` from its end to the teacher.
    """
    layout = BlockLayout(rows, classes)
    place = Path(folder) / f"raymd-bench-{uuid.uuid4().hex[:8]}"
    storage = TimedStorage(str(place)) if written else UnwrittenStorage(str(place))
    ids = [f"student-{number:03d}" for number in range(students)]
    actor: Any = ray.remote(num_cpus=0)(Publisher)
    try:
        with local_ray(store_bytes=int(store_gb * 2**30)):
            publishers = [
                actor.remote(
                    student, layout, storage, held_blocks=held_blocks, pace_s=pace_s, busy=busy
                )
                for student in ids
            ]
            ray.get([publisher.pid.remote() for publisher in publishers])
            _monitor, aggregator = start(storage, ids, layout.num_blocks)
            if touch:
                needed = exchange_bytes(rows, classes, students) * (students + 1) // (students + 2)
                touch_store(min(int(needed * 1.05), int(store_gb * 2**30 * 0.95)))
            pid = ray.get(aggregator.__ray_call__.remote(lambda self: __import__("os").getpid()))
            with PeakPrivate(pid) as peak:
                started = time.monotonic()
                marks = ray.get([p.exchange.remote(aggregator, 0) for p in publishers])
            return {
                "seconds": latest(marks, "gathered") - started,
                "publish_s": latest(marks, "published") - started,
                "readable_s": latest(marks, "readable") - started,
                "pass_s": latest(marks, "computed") - started,
                "tail_s": latest(marks, "readable") - latest(marks, "computed"),
                "storage_s": storage.seconds(),
                "aggregator_bytes": peak.bytes,
                "bytes": rows * classes * DTYPE.itemsize * students,
            }
    finally:
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(f"{place}.times", ignore_errors=True)


# -- the limit --------------------------------------------------------------------------------


def _copy_and_read(num_bytes: int, barrier: Any, ends: Any) -> None:
    source = random_rows(2**15, 1000, seed=0).view(np.uint8).reshape(-1)
    path = SHARED / f"raymd-bench-limit-{uuid.uuid4().hex}"
    with path.open("w+b") as file:
        path.unlink()
        file.truncate(num_bytes)
        target = np.memmap(file, dtype=np.uint8, mode="r+", shape=(num_bytes,))
        barrier.wait()
        for at in range(0, num_bytes, source.nbytes):
            part = target[at : at + source.nbytes]
            part[:] = source[: part.nbytes]
        total = 0
        for at in range(0, num_bytes, source.nbytes):
            words = target[at : at + source.nbytes]
            total += int(words[: words.nbytes // 8 * 8].view(np.int64).sum())
        ends.put(time.monotonic())
        assert total != 0


def limit(*, rows: int, classes: int, students: int, processes: int) -> dict[str, Any]:
    """The students' bytes copied into fresh shared memory and read once, on all processors."""
    num_bytes = rows * classes * DTYPE.itemsize * students
    context = multiprocessing.get_context("spawn")
    barrier, ends = context.Barrier(processes + 1), context.Queue()
    workers = [
        context.Process(target=_copy_and_read, args=(num_bytes // processes, barrier, ends))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.monotonic()
    last = max(ends.get() for _ in workers)
    for worker in workers:
        worker.join()
    return {"seconds": last - started, "bytes": num_bytes}


# -- the paper's transport --------------------------------------------------------------------


def _chunks(data: Any) -> Iterator[bytes]:
    view = memoryview(data).cast("B")
    for at in range(0, view.nbytes, CHUNK_BYTES):
        yield view[at : at + CHUNK_BYTES].tobytes()


def _serve(students: int, shape: tuple[int, int], ports: Any) -> None:
    import threading

    import grpc

    received: list[np.ndarray] = []
    lock, ready, mean = threading.Lock(), threading.Event(), list[np.ndarray]()

    def publish(chunks: Iterator[bytes], _: Any) -> bytes:
        rows_NK = np.frombuffer(b"".join(chunks), dtype=DTYPE).reshape(shape)
        with lock:
            received.append(rows_NK)
            if len(received) == students:
                mean.append(np.mean(received, axis=0))
                ready.set()
        return b""

    def teacher(_: bytes, __: Any) -> Iterator[bytes]:
        ready.wait()
        yield from _chunks(mean[0])

    handlers = {
        "Publish": grpc.stream_unary_rpc_method_handler(publish),
        "Teacher": grpc.unary_stream_rpc_method_handler(teacher),
    }
    server = grpc.server(futures.ThreadPoolExecutor(2 * students), options=_grpc_options())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", handlers),))
    ports.put(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


def _grpc_options() -> list[tuple[str, int]]:
    return [("grpc.max_receive_message_length", MANY), ("grpc.max_send_message_length", MANY)]


def _student(port: int, shape: tuple[int, int], seed: int, barrier: Any, ends: Any) -> None:
    import grpc

    rows_NK = random_rows(*shape, seed=seed)
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_grpc_options()) as channel:
        publish = channel.stream_unary("/bench/Publish")
        teacher = channel.unary_stream("/bench/Teacher")
        barrier.wait()
        publish(_chunks(rows_NK))
        mean_NK = np.frombuffer(b"".join(teacher(b"")), dtype=DTYPE).reshape(shape)
        batch_BK = mean_NK[np.random.default_rng(0).integers(0, shape[0], BATCH)]
        assert np.isfinite(batch_BK).all()
        ends.put(time.monotonic())


def grpc_server(*, rows: int, classes: int, students: int) -> dict[str, Any]:
    """A gRPC server that receives the students' matrices, averages with numpy and sends it back."""
    context, shape = multiprocessing.get_context("spawn"), (rows, classes)
    barrier, ends, ports = context.Barrier(students + 1), context.Queue(), context.Queue()
    server = context.Process(target=_serve, args=(students, shape, ports), daemon=True)
    server.start()
    port = ports.get()
    clients = [
        context.Process(target=_student, args=(port, shape, seed, barrier, ends))
        for seed in range(students)
    ]
    for client in clients:
        client.start()
    barrier.wait()
    started = time.monotonic()
    last = max(ends.get() for _ in clients)
    for client in clients:
        client.join()
    server.kill()
    return {"seconds": last - started, "bytes": rows * classes * DTYPE.itemsize * students}


# -- the naive actor --------------------------------------------------------------------------


class Averager:
    """Averages whole matrices that students have put."""

    def mean(self, refs: list[Any]) -> np.ndarray:
        """Of all of them, at once."""
        mean_NK: np.ndarray = np.mean(ray.get(refs), axis=0)
        return mean_NK

    def ping(self) -> None:
        """Be up."""


class Naive:
    """A student that puts its whole matrix."""

    def __init__(self, shape: tuple[int, int], seed: int) -> None:
        self.rows_NK = random_rows(*shape, seed=seed)

    def put(self) -> list[Any]:
        """A reference to it, in a list: the bytes stay where they are."""
        return [ray.put(self.rows_NK)]

    def gather(self, refs: list[Any]) -> float:
        """When a batch of the mean was read."""
        mean_NK = ray.get(refs[0])
        batch_BK = mean_NK[np.random.default_rng(0).integers(0, len(mean_NK), BATCH)]
        assert np.isfinite(batch_BK).all()
        return time.monotonic()

    def ping(self) -> None:
        """Be up."""


def naive_actor(
    *, rows: int, classes: int, students: int, store_gb: float, touch: bool
) -> dict[str, Any]:
    """``np.mean(ray.get(refs), axis=0)`` in an actor."""
    num_bytes = rows * classes * DTYPE.itemsize
    with local_ray(store_bytes=int(store_gb * 2**30)):
        averager: Any = ray.remote(num_cpus=0)(Averager).remote()
        actor: Any = ray.remote(num_cpus=0)(Naive)
        publishers = [actor.remote((rows, classes), seed) for seed in range(students)]
        ray.get([each.ping.remote() for each in (averager, *publishers)])
        if touch:
            touch_store(int(num_bytes * (students + 1) * 1.05))
        started = time.monotonic()
        refs = [ref for refs in ray.get([p.put.remote() for p in publishers]) for ref in refs]
        mean = averager.mean.remote(refs)
        last = max(ray.get([p.gather.remote([mean]) for p in publishers]))
    return {"seconds": last - started, "bytes": num_bytes * students}


if __name__ == "__main__":
    answer({f.__name__: f for f in (raymd, limit, grpc_server, naive_actor)})
