"""The watches: one that fails is retried alone, and says what is wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dedup_operator import watches as module
from dedup_operator.adapters.kube import Kube, Resource
from dedup_operator.domain.errors import ApiRefused, ApiUnavailable
from dedup_operator.domain.types import Key
from dedup_operator.watches import Watches, build_watches


class Rights(Kube):
    """An API server that refuses the namespaces in `missing`."""

    def __init__(self) -> None:
        self.missing: set[str | None] = set()
        self.down = False
        self.broken = False
        self.requests_while_down = 0

    async def list_some(self, resource: Resource, namespace: str | None) -> None:
        if self.broken:
            raise ValueError("no JSON")
        if self.down:
            self.requests_while_down += 1
            raise ApiUnavailable("no answer")
        if namespace in self.missing:
            raise ApiRefused("forbidden")


class Kopf:
    """Runs until stopped, or until `fail` has the namespace."""

    def __init__(self) -> None:
        self.fail: set[str | None] = set()
        self.running: set[str | None] = set()

    async def run(self, namespace: str | None, started: threading.Event, stop: threading.Event) -> None:
        self.running.add(namespace)
        started.set()
        try:
            while not stop.is_set():
                if namespace in self.fail:
                    raise RuntimeError("403: forbidden")
                await asyncio.sleep(0.01)
        finally:
            self.running.discard(namespace)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(module, "START_POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.02)


@asynccontextmanager
async def running(rights: Rights, kopf: Kopf, *namespaces: str) -> AsyncIterator[tuple[Watches, dict[str | None, bool]]]:
    reported: dict[str | None, bool] = {}
    found = build_watches(rights, namespaces, kopf.run, reported.__setitem__)
    task = asyncio.create_task(found.run())
    try:
        async with asyncio.timeout(20):
            yield found, reported
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def poll(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110  threads change what is checked
        await asyncio.sleep(0.005)


async def wait_until(watches: Watches, *watched: str | None) -> None:
    await poll(lambda: set(watches.list_watched()) == set(watched))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("lost", ["a", "b"])
async def test_a_namespace_that_is_refused_is_retried_alone(lost: str) -> None:
    rights, kopf, kept = Rights(), Kopf(), "b" if lost == "a" else "a"
    async with running(rights, kopf, "a", "b") as (watches, reported):
        await wait_until(watches, "a", "b")
        assert reported == {"a": True, "b": True} and watches.list_problems() == []
        rights.missing.add(lost)
        kopf.fail.add(lost)
        await wait_until(watches, kept)
        assert kopf.running == {kept} and reported == {kept: True, lost: False}
        assert watches.covers(Key(kept, "x")) and not watches.covers(Key(lost, "x"))
        await poll(lambda: "forbidden" in watches.list_problems()[0])
        assert f"namespace {lost}" in watches.list_problems()[0]
        rights.missing.clear()
        kopf.fail.clear()
        await wait_until(watches, "a", "b")
        assert reported == {"a": True, "b": True}
    assert kopf.running == set(), "all threads have ended"


@pytest.mark.usefixtures("quick")
async def test_a_lost_right_ends_an_open_watch_and_an_unavailable_api_server_does_not() -> None:
    rights, kopf = Rights(), Kopf()
    async with running(rights, kopf, "a", "b") as (watches, _):
        await wait_until(watches, "a", "b")
        rights.down = True
        await poll(lambda: rights.requests_while_down > 5)
        assert set(watches.list_watched()) == {"a", "b"}
        rights.down = False
        rights.missing.add("b")
        await wait_until(watches, "a")
        await poll(lambda: kopf.running == {"a"})
        assert "forbidden" in watches.list_problems()[0]


@pytest.mark.usefixtures("quick")
async def test_an_error_that_nobody_expects_is_retried_too() -> None:
    rights, kopf = Rights(), Kopf()
    rights.broken = True
    async with running(rights, kopf, "a") as (watches, _):
        await poll(lambda: "no JSON" in watches.list_problems()[0])
        rights.broken = False
        await wait_until(watches, "a")


@pytest.mark.usefixtures("quick")
async def test_an_operator_for_all_namespaces_is_not_ready_before_it_may_list_everything() -> None:
    rights, kopf = Rights(), Kopf()
    rights.missing.add(None)
    async with running(rights, kopf) as (watches, reported):
        await poll(lambda: "cannot list dedupjobs" in watches.list_problems()[0])
        assert not watches.covers(Key("any", "x")) and reported == {None: False} and kopf.running == set()
        rights.missing.clear()
        await wait_until(watches, None)
        assert watches.covers(Key("any", "x"))
