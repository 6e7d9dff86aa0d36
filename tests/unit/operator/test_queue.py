"""The work queue, with real tasks and with pauses of milliseconds."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from dedup_operator import queue
from dedup_operator.domain.errors import ApiUnavailable
from dedup_operator.domain.types import Key
from dedup_operator.queue import WorkQueue

ONE, TWO = Key("ns", "one"), Key("ns", "two")


@asynccontextmanager
async def running(work: Callable[[Key], Awaitable[float | None]], workers: int = 4) -> AsyncIterator[WorkQueue]:
    work_queue = WorkQueue(work, workers)
    task = asyncio.create_task(work_queue.run())
    try:
        async with asyncio.timeout(20):
            yield work_queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_job_is_reconciled_repeatedly_until_it_is_gone() -> None:
    count, gone = 0, asyncio.Event()

    async def work(_: Key) -> float | None:
        nonlocal count
        count += 1
        if count < 3:
            return 0.01
        gone.set()
        return None

    async with running(work) as work_queue:
        work_queue.add(ONE)
        await gone.wait()
        await asyncio.sleep(0.05)
        assert count == 3 and not work_queue.known


async def test_many_events_cause_one_reconciliation_and_events_during_it_cause_one_more() -> None:
    count, started, proceed = 0, asyncio.Event(), asyncio.Event()

    async def work(_: Key) -> float | None:
        nonlocal count
        count += 1
        started.set()
        await proceed.wait()
        return 60.0

    async with running(work) as work_queue:
        for _ in range(5):
            work_queue.add(ONE)
        await started.wait()
        for _ in range(5):
            work_queue.add(ONE)
        proceed.set()
        await asyncio.sleep(0.1)
        assert count == 2


async def test_a_job_is_never_reconciled_twice_at_the_same_time_and_the_workers_are_limited() -> None:
    inside: list[Key] = []
    most, done = 0, asyncio.Event()
    count = 0

    async def work(key: Key) -> float | None:
        nonlocal most, count
        assert key not in inside
        inside.append(key)
        most = max(most, len(inside))
        await asyncio.sleep(0.002)
        inside.remove(key)
        count += 1
        if count > 60:
            done.set()
        return 0.0

    async with running(work, workers=2) as work_queue:
        for number in range(6):
            work_queue.add(Key("ns", str(number)))
            work_queue.add(Key("ns", str(number)))
        await done.wait()
    assert most == 2


async def test_a_failed_reconciliation_is_repeated_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue, "FIRST_BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(queue, "JITTER", 0.0)
    times: list[float] = []
    done = asyncio.Event()

    async def work(_: Key) -> float | None:
        times.append(asyncio.get_running_loop().time())
        if len(times) < 4:
            raise ValueError("a bug")
        done.set()
        return 60.0

    async with running(work) as work_queue:
        work_queue.add(ONE)
        await done.wait()
        await asyncio.sleep(0)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[0] >= 0.02 and pauses[1] >= 0.04 and pauses[2] >= 0.08
    assert len(caplog.records) == 3


async def test_the_api_server_can_ask_for_a_longer_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "JITTER", 0.0)
    times: list[float] = []
    done = asyncio.Event()

    async def work(_: Key) -> float | None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise ApiUnavailable("busy", retry_after=0.1)
        done.set()
        return None

    async with running(work) as work_queue:
        work_queue.add(ONE)
        await done.wait()
    assert 0.1 <= times[1] - times[0] < 0.9


async def test_a_reconciliation_that_hangs_is_cancelled_and_the_others_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "RECONCILE_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(queue, "FIRST_BACKOFF_SECONDS", 0.01)
    hung, other = 0, asyncio.Event()
    twice = asyncio.Event()

    async def work(key: Key) -> float | None:
        nonlocal hung
        if key == TWO:
            other.set()
            return None
        hung += 1
        if hung == 2:
            twice.set()
        await asyncio.Event().wait()
        return None

    async with running(work) as work_queue:
        work_queue.add(ONE)
        work_queue.add(TWO)
        await other.wait()
        await twice.wait()
        assert work_queue.heartbeat > 0
