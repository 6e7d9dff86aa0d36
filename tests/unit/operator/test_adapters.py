"""The adapters with real sockets on loopback: the driver's answer, the operator's pages, and the events' size."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import generate_latest

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_operator.adapters import driver
from dedup_operator.adapters.driver import MAX_RESPONSE_BYTES, Drivers
from dedup_operator.adapters.events import MAX_NOTE_BYTES, build_event, cut_bytes
from dedup_operator.adapters.health import HealthServer
from dedup_operator.adapters.metrics import Metrics
from dedup_operator.domain.event_notes import EventNote
from dedup_operator.domain.observe.pod import DriverUnreachable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REASONS = {f"Reason{number}": number for number in range(30)}
LONG = json.dumps({"phase": "Running", "progress": {"invalidByReason": REASONS}, "padding": "x" * 200_000}).encode()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(monkeypatch: pytest.MonkeyPatch, handle: Handler) -> AsyncIterator[Drivers]:
    """Drivers whose requests go to `handle`."""
    app = web.Application()
    app.add_routes([web.get("/status", handle)])
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        monkeypatch.setattr(names, "HTTP_PORT", server.port)
        yield Drivers(session)


def in_parts(parts: list[bytes]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0.02)  # so that each part is a TCP segment of its own
        return response

    return handle


async def test_an_answer_in_many_segments_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(monkeypatch, in_parts([LONG[:1400], LONG[1400:1500], LONG[1500:]])) as drivers:
        found = await drivers.fetch_status("uid", "127.0.0.1", NOW)
    assert isinstance(found, DriverStatus) and len(found.progress.invalid_by_reason) == 30


async def test_an_endless_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(monkeypatch, in_parts([b" " * 100_000] * (MAX_RESPONSE_BYTES // 100_000 + 2))) as drivers:
        found = await drivers.fetch_status("uid", "127.0.0.1", NOW)
    assert isinstance(found, DriverUnreachable) and "larger than" in found.message


async def test_the_first_failure_stays_until_the_driver_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [True]

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503) if silent[0] else web.Response(body=LONG)

    assert driver.TIMEOUT.total is not None
    async with answering(monkeypatch, handle) as drivers:
        first = await drivers.fetch_status("uid", "127.0.0.1", NOW)
        second = await drivers.fetch_status("uid", "127.0.0.1", NOW.replace(hour=1))
        silent[0] = False
        third = await drivers.fetch_status("uid", "127.0.0.1", NOW.replace(hour=2))
    assert isinstance(first, DriverUnreachable) and first == second and first.since == NOW
    assert isinstance(third, DriverStatus)


async def test_readyz_says_what_is_wrong_while_healthz_stays_well() -> None:
    problems: list[str] = []
    server = HealthServer(Metrics().registry, lambda: 0.0, lambda: problems, 0)
    app = web.Application()
    app.add_routes([web.get("/healthz", server._healthz), web.get("/readyz", server._readyz)])
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/readyz")).status == 200
        problems.append("the operator does not watch namespace b: forbidden")
        refused = await client.get("/readyz")
        assert refused.status == 503 and "namespace b" in await refused.text()
        assert (await client.get("/healthz")).status == 200


def read_samples(metrics: Metrics) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_a_standby_exports_no_jobs() -> None:
    active = [True]
    metrics = Metrics(lambda: active[0])
    metrics.set_reason("a", "Running")
    metrics.set_reason("b", "Running")
    metrics.set_reason("b", "Suspended")
    jobs = 'dedup_operator_jobs{reason="%s"}'
    found = read_samples(metrics)
    assert (found[jobs % "Running"], found[jobs % "Suspended"], found["dedup_operator_leader"]) == (1, 1, 1)
    metrics.forget("b")
    assert read_samples(metrics)[jobs % "Suspended"] == 0, "the last DedupJob with this reason is gone"
    active[0] = False
    found = read_samples(metrics)
    assert found["dedup_operator_leader"] == 0 and not [name for name in found if name.startswith("dedup_operator_jobs")]


@pytest.mark.parametrize("message", ["x" * 2000, "é" * 600, "日" * 400, "a" + "é" * 600])
def test_an_event_is_cut_in_bytes_and_never_within_a_character(message: str) -> None:
    metadata: dict[str, Any] = {"name": "demo", "namespace": "ns", "uid": "u"}
    note = build_event({"metadata": metadata}, EventNote("Running", message, warning=False), NOW)["note"]
    assert MAX_NOTE_BYTES - 3 < len(note.encode()) <= MAX_NOTE_BYTES and message.startswith(note)
    assert cut_bytes("short", MAX_NOTE_BYTES) == "short"
