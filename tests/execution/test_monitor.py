"""The driver's actor as a plain object: events in, the stop flag out, failures counted."""

import asyncio
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

from raymd.execution.monitor import FAILURES_AT_ONE_POSITION, Monitor


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, timeout=30))


def event(number: int) -> dict[str, int]:
    return {"number": number}


def test_events_come_out_once_and_in_order() -> None:
    async def script() -> None:
        monitor = Monitor()
        for number in range(3):
            await monitor.push(event(number))
        assert (await monitor.take(5.0)).events == [event(0), event(1), event(2)]
        assert (await monitor.take(0.01)).events == []

    run(script())


def test_events_that_are_there_come_out_without_waiting() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert (await monitor.take(0.0)).events == []
        await monitor.push(event(1))
        assert (await monitor.take(0.0)).events == [event(1)]

    run(script())


def test_taking_waits_for_the_first_event() -> None:
    async def script() -> None:
        monitor = Monitor()
        taking = asyncio.create_task(monitor.take(20.0))
        await asyncio.sleep(0.01)
        assert not taking.done()
        await monitor.push(event(7))
        assert (await taking).events == [event(7)]

    run(script())


def test_event_pushed_after_a_vain_wait_is_kept() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert (await monitor.take(0.01)).events == []
        await monitor.push(event(1))
        assert (await monitor.take(5.0)).events == [event(1)]

    run(script())


def test_stop_flag_wakes_all_who_wait_and_stays_up() -> None:
    async def script() -> None:
        monitor = Monitor()
        waiting = [asyncio.create_task(monitor.wait_for_stop()) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        await monitor.stop()
        await asyncio.gather(*waiting)
        await monitor.wait_for_stop()

    run(script())


def test_waiting_for_ever_outlasts_the_stop_flag() -> None:
    async def script() -> None:
        monitor = Monitor()
        await monitor.stop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(monitor.wait_for_ever(), timeout=0.05)

    run(script())


def test_beginnings_are_counted_by_order_and_position() -> None:
    async def script() -> None:
        monitor = Monitor()
        began = [await monitor.began("a", 7, (2, 0)) for _ in range(4)]
        assert began == [(1, 1), (2, 2), (3, 3), (4, 4)]
        assert began[-1][1] > FAILURES_AT_ONE_POSITION
        # progress, even by a step, begins a new count; so does the next order
        assert await monitor.began("a", 7, (2, 1)) == (5, 1)
        assert await monitor.began("a", 8, (2, 1)) == (1, 1)

    run(script())


def test_last_failure_is_kept_by_student() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert await monitor.reason("a") is None
        await monitor.failed("a", "disk full")
        await monitor.began("a", 0, (0, 0))
        await monitor.failed("a", "out of memory")
        assert await monitor.reason("a") == "out of memory"
        assert await monitor.reason("b") is None

    run(script())


def test_groups_of_slots_are_told_where_a_start_has_one() -> None:
    async def script() -> None:
        monitor = Monitor()
        group: Any = object()
        await monitor.joined(3, group)
        await monitor.joined(4, None)
        assert (await monitor.take(5.0)).groups == {3: group}
        assert (await monitor.take(0.0)).groups == {}

    run(script())


def test_first_reason_of_an_attempt_stays_and_an_old_one_is_forgotten() -> None:
    async def script() -> None:
        monitor = Monitor()
        await monitor.began("a", 0, (0, 0))
        await monitor.failed("a", "disk full")
        await monitor.failed("a", "connection closed by peer")
        assert await monitor.reason("a") == "disk full"
        await monitor.began("a", 0, (0, 0))
        assert await monitor.reason("a") == "disk full"  # of the attempt before, as is told
        await monitor.began("a", 0, (1, 0))
        assert await monitor.reason("a") is None  # its worker was killed, and could say nothing

    run(script())


def test_student_given_up_keeps_its_first_record() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert await monitor.given_up("a") is None
        await monitor.give_up("a", "out of range")
        await monitor.give_up("a", "too late")
        assert await monitor.given_up("a") == "out of range"

    run(script())


def test_a_worker_that_begins_late_can_ask_whether_to_stop() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert await monitor.is_stopping() is False
        await monitor.stop()
        assert await monitor.is_stopping() is True

    run(script())


# -- orders -----------------------------------------------------------------------------------


def test_worker_waits_for_its_slots_next_order_and_brings_its_record() -> None:
    async def script() -> None:
        monitor = Monitor()
        await monitor.assign(0, 5, "first")
        assert await monitor.next_order(0, -1, None) == (5, "first")
        asking = [
            asyncio.create_task(monitor.next_order(0, 5, record)) for record in ("done", None)
        ]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in asking)
        assert (await monitor.take(5.0)).records == [(0, 5, "done")]
        await monitor.assign(1, 6, "another slot's")
        await monitor.assign(0, 7, "second")
        assert await asyncio.gather(*asking) == [(7, "second")] * 2

    run(script())


def test_restarted_worker_gets_the_order_it_had_but_not_one_that_is_done() -> None:
    async def script() -> None:
        monitor = Monitor()
        await monitor.assign(0, 5, "first")
        assert await monitor.next_order(0, -1, None) == (5, "first")
        assert await monitor.next_order(0, -1, None) == (5, "first")
        waiting = asyncio.create_task(monitor.next_order(0, 5, "done"))
        await asyncio.sleep(0.01)
        restarted = asyncio.create_task(monitor.next_order(0, -1, None))
        await asyncio.sleep(0.01)
        assert not restarted.done()
        await monitor.close(0)
        assert await asyncio.gather(waiting, restarted) == [None, None]

    run(script())


def test_question_asked_again_of_another_life_brings_its_record_once() -> None:
    async def script() -> None:
        lives = [Monitor(), Monitor()]
        questions = [asyncio.create_task(m.next_order(0, 5, "done")) for m in (*lives, lives[1])]
        await asyncio.sleep(0.01)
        taken = [await monitor.take(0.0) for monitor in lives]
        assert taken[0].life != taken[1].life
        assert [t.records for t in taken] == [[(0, 5, "done")]] * 2
        for question in questions:
            question.cancel()

    run(script())


def test_what_passes_through_the_small_actors_needs_no_torch() -> None:
    # an import of seconds would stand still whoever waits for the actor
    modules = ["monitor", "orders", "dispatch", "admission", "aggregator"]
    imports = "; ".join(f"import raymd.execution.{module}" for module in modules)
    program = f"import sys; {imports}; import raymd.exchange.facts; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
