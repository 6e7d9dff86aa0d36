"""The proxy between one operator and the API server: it numbers the operator's writes and injects one fault at the
planned write.

The operator talks plain HTTP to the proxy. The proxy talks to the API server as the cluster's administrator. Writes of
Kubernetes Events get no number: the operator may lose them, and nothing depends on them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy
from yarl import URL

from dedup_operator.handlers import CHILDREN
from fault_injection.api import Api
from fault_injection.faults import Fault, FaultPlan

READS = {"GET", "HEAD", "OPTIONS"}
RENEWAL_SECONDS = 2.5
"""After this time the proxy closes a watch that loses events. A real API server closes each watch after some
minutes."""
OLD_LIST_SECONDS = 2.5
STALL_SECONDS = 3.0
HANG_SECONDS = 45.0
"""Longer than the operator's timeout for a request."""
DROPPED_HEADERS = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "accept-encoding", "authorization", "date"}
REFUSALS = {
    Fault.CONFLICT: (409, "Conflict", "the object has been modified; please apply your changes to the latest version and try again"),
    Fault.TOO_MANY: (429, "TooManyRequests", "too many requests, please try again later"),
    Fault.ERROR: (500, "InternalError", "etcdserver: request timed out"),
}
IDLE_SECONDS = 1.0
WATCH_COUNT = 1 + len(CHILDREN)
KILLS_AFTER_WRITE = {Fault.KILL_AFTER, Fault.KILL_AND_OLD_LIST}
"""The faults that kill the operator after the API server has applied the write."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def to_response(self) -> web.Response:
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@dataclass(eq=False)
class Watch:
    """An open watch of the operator."""

    events_to_lose: int = 0
    loses_events: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Proxy:
    api: Api
    restart_operator: Callable[[], Coroutine[None, None, None]]
    """Kills the operator process and starts a new one."""
    writes: list[str] = field(default_factory=list)
    """Method and path of each write since `arm`."""
    unconditional_writes: list[str] = field(default_factory=list)
    """Deletions without a UID, and changes without UID and resourceVersion. If such a write arrives late, it can hit
    another object."""
    fault_injected: bool = False
    """Whether the planned fault has happened."""
    port: int = 0
    _plan: FaultPlan | None = None
    _armed: bool = False
    _watches: set[Watch] = field(default_factory=set)
    _last_lists: dict[str, Answer] = field(default_factory=dict)
    """By path: the last answer to a list."""
    _old_lists_until: float = 0.0
    _stalled_until: float = 0.0
    _runner: web.AppRunner = field(init=False)
    _restarting: asyncio.Task[None] | None = None
    _last_activity: float = 0.0
    """When the last request or watch event arrived."""

    async def __aenter__(self) -> Proxy:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def render_kubeconfig(self) -> str:
        cluster = {"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}
        users = [{"name": "proxy", "user": {}}]
        return json.dumps(
            {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": users, "contexts": [context], "current-context": "proxy"}
        )

    def arm(self, plan: FaultPlan | None) -> None:
        """Starts to number writes. Without a plan no fault happens."""
        self._plan, self._armed = plan, True
        self.writes.clear()
        if plan is not None and plan.at == 0:
            self.fault_injected = True
            self._start_fault(plan.fault)

    async def is_idle(self) -> bool:
        """Whether all the operator's watches are open and no request or event has arrived for IDLE_SECONDS. Then the
        next watch event reports the next user action."""
        return len(self._watches) == WATCH_COUNT and time.monotonic() - self._last_activity > IDLE_SECONDS

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._last_activity = time.monotonic()
        if request.method not in READS:
            return await self._write(request)
        await self._wait_for_stall_end()
        if request.query.get("watch") in {"true", "1"}:
            return await self._watch(request)
        return await self._read(request)

    async def _wait_for_stall_end(self) -> None:
        await asyncio.sleep(max(0.0, self._stalled_until - time.monotonic()))

    async def _forward_request(self, request: web.Request) -> Answer:
        body = await request.read()
        url, headers = URL(request.raw_path, encoded=True), _copy_headers(request.headers)
        async with self.api.session.request(request.method, url, data=body or None, headers=headers) as received:
            return Answer(received.status, _copy_headers(received.headers), await received.read())

    async def _read(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path
        if path in self._last_lists and time.monotonic() < self._old_lists_until:
            return self._last_lists[path].to_response()
        answer = await self._forward_request(request)
        if answer.status == 200 and b'List"' in answer.body[:40] and time.monotonic() >= self._old_lists_until:
            self._last_lists[path] = answer
        return answer.to_response()

    async def _write(self, request: web.Request) -> web.StreamResponse:
        fault = self._record_write(request)
        if is_unconditional(request.method, await request.read()):
            self.unconditional_writes.append(f"{request.method} {request.path}")
        if fault is None:
            await self._wait_for_stall_end()
            return (await self._forward_request(request)).to_response()
        logger.debug("%s at %s %s", fault, request.method, request.path)
        self.fault_injected = True
        if fault in REFUSALS:
            return _refuse(request, fault)
        if fault is Fault.KILL_BEFORE:
            await self._restart_operator()
            return _close_connection(request)
        self._start_fault(fault)
        await self._wait_for_stall_end()
        answer = await self._forward_request(request)
        if fault in KILLS_AFTER_WRITE:
            await self._restart_operator()
        if fault is Fault.HANG:
            await asyncio.sleep(HANG_SECONDS)
        return _close_connection(request) if fault in KILLS_AFTER_WRITE | {Fault.LOSE_ANSWER, Fault.HANG} else answer.to_response()

    async def _restart_operator(self) -> None:
        """Restarts the operator completely, although killing it closes the connection, which cancels the handler that
        calls this."""
        self._restarting = asyncio.create_task(self.restart_operator())
        await asyncio.shield(self._restarting)

    def _record_write(self, request: web.Request) -> Fault | None:
        """Returns the fault that is planned for this write."""
        if not self._armed or request.path.endswith("/events"):
            return None
        self.writes.append(f"{request.method} {request.path}")
        due = self._plan is not None and len(self.writes) == self._plan.at
        return self._plan.fault if self._plan is not None and due else None

    def _start_fault(self, fault: Fault) -> None:
        """Must be called before the write is forwarded, because the write's watch events can arrive before its
        answer."""
        now = time.monotonic()
        match fault:
            case Fault.LOSE_NEXT_EVENT:
                for watch in self._watches:
                    watch.events_to_lose = 1
            case Fault.LOSE_EVENTS:
                for watch in self._watches:
                    watch.loses_events.set()
            case Fault.OLD_LIST | Fault.KILL_AND_OLD_LIST:
                self._old_lists_until = now + OLD_LIST_SECONDS
            case Fault.STALL:
                self._stalled_until = now + STALL_SECONDS

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        timeout = aiohttp.ClientTimeout(total=None)
        url, headers = URL(request.raw_path, encoded=True), _copy_headers(request.headers)
        async with self.api.session.get(url, headers=headers, timeout=timeout) as received:
            response = web.StreamResponse(status=received.status, headers=_copy_headers(received.headers))
            await response.prepare(request)
            watch = Watch()
            self._watches.add(watch)
            try:
                await self._forward_events(received.content, response, watch)
            finally:
                self._watches.discard(watch)
        return response

    async def _forward_events(self, source: aiohttp.StreamReader, response: web.StreamResponse, watch: Watch) -> None:
        """Returns when either side closes the watch. A watch that loses events is closed after RENEWAL_SECONDS."""
        tasks = {asyncio.create_task(self._forward_lines(source, response, watch)), asyncio.create_task(self._wait_for_renewal(watch))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward_lines(self, source: aiohttp.StreamReader, response: web.StreamResponse, watch: Watch) -> None:
        async for line in source:
            self._last_activity = time.monotonic()
            await self._wait_for_stall_end()
            if watch.loses_events.is_set():
                continue
            if watch.events_to_lose and b'"BOOKMARK"' not in line[:40]:
                watch.events_to_lose -= 1
                continue
            await response.write(line)

    async def _wait_for_renewal(self, watch: Watch) -> None:
        await watch.loses_events.wait()
        await asyncio.sleep(RENEWAL_SECONDS)


def is_unconditional(method: str, body: bytes) -> bool:
    """Whether the API server would apply this change or deletion to any object that has the name when the request
    arrives."""
    if method == "POST":
        return False
    document = json.loads(body or b"{}")
    preconditions = document.get("preconditions", {}) if method == "DELETE" else document.get("metadata", {})
    return not preconditions.get("uid") or (method != "DELETE" and not preconditions.get("resourceVersion"))


def _copy_headers(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in DROPPED_HEADERS}


def _refuse(request: web.Request, fault: Fault) -> web.Response:
    """Answers in the API server's own form."""
    code, reason, message = REFUSALS[fault]
    if code == 409 and request.method == "POST":
        reason, message = "AlreadyExists", "the name is taken"
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}
    return web.json_response(status, status=code, headers={"Retry-After": "1"} if fault is Fault.TOO_MANY else None)


def _close_connection(request: web.Request) -> web.Response:
    """Closes the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
