"""The process of the operator: what it is responsible for, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

from dedup_operator.__main__ import forward, run_until_signal, skip_foreign
from dedup_operator.domain.types import Key

KEY = Key("ns", "orders")


class Recorder:
    """Stands for the reconciler, and lists its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Key]] = []

    async def reconcile(self, key: Key) -> float | None:
        self.calls.append(("reconcile", key))
        return 15.0

    def forget(self, key: Key) -> None:
        self.calls.append(("forget", key))


async def test_a_job_of_another_replica_or_of_an_unwatched_namespace_is_forgotten() -> None:
    responsible = [True]
    recorder: Any = Recorder()
    reconcile = skip_foreign(recorder, lambda key: responsible[0])
    assert await reconcile(KEY) == 15.0
    responsible[0] = False
    assert await reconcile(KEY) is None, "it leaves the queue"
    assert recorder.calls == [("reconcile", KEY), ("forget", KEY)], "its metrics must not stay"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_all_services(number: signal.Signals) -> None:
    ended: list[str] = []

    async def serve(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), number)
    async with asyncio.timeout(20):
        await run_until_signal(serve("one"), serve("two"))
    assert sorted(ended) == ["one", "two"]


async def test_a_service_that_fails_ends_the_process_with_its_error() -> None:
    async def fail() -> None:
        raise RuntimeError("the dispatcher has a bug")

    with pytest.raises(RuntimeError, match="the dispatcher has a bug"):
        async with asyncio.timeout(20):
            await run_until_signal(fail(), asyncio.Event().wait())


async def test_events_of_other_threads_arrive_in_the_operators_loop_in_their_order() -> None:
    seen: list[tuple[str, int]] = []
    done = asyncio.Event()

    def add(name: str) -> None:
        seen.append((name, threading.get_ident()))
        if len(seen) == 2:
            done.set()

    call = forward(asyncio.get_running_loop(), add)
    thread = threading.Thread(target=lambda: (call("first"), call("second")))
    thread.start()
    async with asyncio.timeout(20):
        await done.wait()
    thread.join()
    assert seen == [("first", threading.get_ident()), ("second", threading.get_ident())]
