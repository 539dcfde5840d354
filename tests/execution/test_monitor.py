"""The driver's actor as a plain object: events in, the stop flag out, failures counted."""

import asyncio
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
        assert await monitor.take(5.0) == [event(0), event(1), event(2)]
        assert await monitor.take(0.01) == []

    run(script())


def test_events_that_are_there_come_out_without_waiting() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert await monitor.take(0.0) == []
        await monitor.push(event(1))
        assert await monitor.take(0.0) == [event(1)]

    run(script())


def test_taking_waits_for_the_first_event() -> None:
    async def script() -> None:
        monitor = Monitor()
        taking = asyncio.create_task(monitor.take(20.0))
        await asyncio.sleep(0.01)
        assert not taking.done()
        await monitor.push(event(7))
        assert await taking == [event(7)]

    run(script())


def test_event_pushed_after_a_vain_wait_is_kept() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert await monitor.take(0.01) == []
        await monitor.push(event(1))
        assert await monitor.take(5.0) == [event(1)]

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


def test_starts_are_counted_by_student_and_position() -> None:
    async def script() -> None:
        monitor = Monitor()
        starts = [await monitor.started("a", (2, 0), None) for _ in range(4)]
        assert starts == [1, 2, 3, 4]
        assert starts[-1] > FAILURES_AT_ONE_POSITION
        # progress, even by a step, begins a new count; so does another student
        assert await monitor.started("a", (2, 1), None) == 1
        assert await monitor.started("b", (2, 0), None) == 1

    run(script())


def test_last_failure_is_kept_by_student() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert await monitor.reason("a") is None
        await monitor.failed("a", "disk full")
        await monitor.started("a", (0, 0), None)
        await monitor.failed("a", "out of memory")
        assert await monitor.reason("a") == "out of memory"
        assert await monitor.reason("b") is None

    run(script())


def test_group_last_seen_is_kept_where_a_restart_has_none() -> None:
    async def script() -> None:
        monitor = Monitor()
        group: Any = object()
        assert await monitor.group("a") is None
        await monitor.started("a", (0, 0), group)
        await monitor.started("a", (0, 0), None)
        assert await monitor.group("a") is group

    run(script())


def test_first_reason_of_an_attempt_stays_and_an_old_one_is_forgotten() -> None:
    async def script() -> None:
        monitor = Monitor()
        await monitor.started("a", (0, 0), None)
        await monitor.failed("a", "disk full")
        await monitor.failed("a", "connection closed by peer")
        assert await monitor.reason("a") == "disk full"
        await monitor.started("a", (0, 0), None)
        assert await monitor.reason("a") == "disk full"  # of the attempt before, as is told
        await monitor.started("a", (1, 0), None)
        assert await monitor.reason("a") is None  # its worker was killed, and could say nothing

    run(script())


def test_student_given_up_keeps_its_first_reason() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert await monitor.given_up("a") is None
        await monitor.give_up("a", "out of range", 2)
        await monitor.give_up("a", "too late", 1)
        assert await monitor.given_up("a") == ("out of range", 2)

    run(script())


def test_a_worker_that_begins_late_can_ask_whether_to_stop() -> None:
    async def script() -> None:
        monitor = Monitor()
        assert await monitor.is_stopping() is False
        await monitor.stop()
        assert await monitor.is_stopping() is True

    run(script())
