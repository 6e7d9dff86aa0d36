"""Stands between one operator and the API server, numbers the operator's writes, and makes one mistake as planned.

Speaks plain HTTP to the operator and is cluster administrator towards the API server. Events are passed on without a number: they are
told on top of everything and may be lost.
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
from fault_injection.faults import Fault, Plan

READS = {"GET", "HEAD", "OPTIONS"}
DEAF_SECONDS = 2.5
"""Then the watch is renewed, as the server's timeout does it in minutes."""
OLD_SECONDS = 2.5
STILL_SECONDS = 3.0
HANG_SECONDS = 45.0
"""Longer than the operator waits for an answer."""
NOT_PASSED_ON = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "accept-encoding", "authorization", "date"}
REFUSALS = {
    Fault.CONFLICT: (409, "Conflict", "the object has been modified; please apply your changes to the latest version and try again"),
    Fault.TOO_MANY: (429, "TooManyRequests", "too many requests, please try again later"),
    Fault.ERROR: (500, "InternalError", "etcdserver: request timed out"),
}
REST_SECONDS = 1.0
WATCHES = 1 + len(CHILDREN)
KILLS = {Fault.KILL_AFTER, Fault.KILL_INTO_THE_PAST}
"""When the write is applied."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def to_response(self) -> web.Response:
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@dataclass(eq=False)
class Stream:
    """A watch that is open."""

    to_drop: int = 0
    deaf: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Proxy:
    api: Api
    kill: Callable[[], Coroutine[None, None, None]]
    """Kills the operator and starts another."""
    writes: list[str] = field(default_factory=list)
    """Since the proxy was armed: method and path of each."""
    vague: list[str] = field(default_factory=list)
    """Changes and deletions that do not say which object they mean, by UID (and version): sent late, they would hit another one."""
    struck: bool = False
    """The planned mistake has been made."""
    port: int = 0
    _plan: Plan | None = None
    _armed: bool = False
    _streams: set[Stream] = field(default_factory=set)
    _lists: dict[str, Answer] = field(default_factory=dict)
    """The last answer to each list."""
    _old_until: float = 0.0
    _still_until: float = 0.0
    _runner: web.AppRunner = field(init=False)
    _killing: asyncio.Task[None] | None = None
    _moved: float = 0.0
    """When the last request or event came."""

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

    def arm(self, plan: Plan | None) -> None:
        """From now on writes are numbered."""
        self._plan, self._armed = plan, True
        self.writes.clear()
        if plan is not None and plan.at == 0:
            self.struck = True
            self._prepare(plan.fault)

    async def is_at_rest(self) -> bool:
        """All the operator's watches are open, and nothing is on its way: the next event is that of what comes next."""
        return len(self._streams) == WATCHES and time.monotonic() - self._moved > REST_SECONDS

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._moved = time.monotonic()
        if request.method not in READS:
            return await self._write(request)
        await self._wait_out()
        if request.query.get("watch") in {"true", "1"}:
            return await self._watch(request)
        return await self._read(request)

    async def _wait_out(self) -> None:
        await asyncio.sleep(max(0.0, self._still_until - time.monotonic()))

    async def _forward(self, request: web.Request) -> Answer:
        body = await request.read()
        url, headers = URL(request.raw_path, encoded=True), _pass_on(request.headers)
        async with self.api.session.request(request.method, url, data=body or None, headers=headers) as told:
            return Answer(told.status, _pass_on(told.headers), await told.read())

    async def _read(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path
        if path in self._lists and time.monotonic() < self._old_until:
            return self._lists[path].to_response()
        answer = await self._forward(request)
        if answer.status == 200 and b'List"' in answer.body[:40] and time.monotonic() >= self._old_until:
            self._lists[path] = answer
        return answer.to_response()

    async def _write(self, request: web.Request) -> web.StreamResponse:
        fault = self._number(request)
        if is_vague(request.method, await request.read()):
            self.vague.append(f"{request.method} {request.path}")
        if fault is None:
            await self._wait_out()
            return (await self._forward(request)).to_response()
        logger.debug("%s at %s %s", fault, request.method, request.path)
        self.struck = True
        if fault in REFUSALS:
            return _refuse(request, fault)
        if fault is Fault.KILL_BEFORE:
            await self._kill()
            return _cut(request)
        self._prepare(fault)
        await self._wait_out()
        answer = await self._forward(request)
        if fault in KILLS:
            await self._kill()
        if fault is Fault.HANG:
            await asyncio.sleep(HANG_SECONDS)
        return _cut(request) if fault in KILLS | {Fault.LOSE_ANSWER, Fault.HANG} else answer.to_response()

    async def _kill(self) -> None:
        """To the end, although the handler that asks for it is cancelled with its connection."""
        self._killing = asyncio.create_task(self.kill())
        await asyncio.shield(self._killing)

    def _number(self, request: web.Request) -> Fault | None:
        """The fault that this write is to meet."""
        if not self._armed or request.path.endswith("/events"):
            return None
        self.writes.append(f"{request.method} {request.path}")
        due = self._plan is not None and len(self.writes) == self._plan.at
        return self._plan.fault if self._plan is not None and due else None

    def _prepare(self, fault: Fault) -> None:
        """Before the write is applied: its events may come before its answer."""
        now = time.monotonic()
        match fault:
            case Fault.SWALLOW_ONE:
                for stream in self._streams:
                    stream.to_drop = 1
            case Fault.SWALLOW_ALL:
                for stream in self._streams:
                    stream.deaf.set()
            case Fault.OLD_LIST | Fault.KILL_INTO_THE_PAST:
                self._old_until = now + OLD_SECONDS
            case Fault.STAND_STILL:
                self._still_until = now + STILL_SECONDS

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.api.session.get(URL(request.raw_path, encoded=True), headers=_pass_on(request.headers), timeout=timeout) as told:
            response = web.StreamResponse(status=told.status, headers=_pass_on(told.headers))
            await response.prepare(request)
            stream = Stream()
            self._streams.add(stream)
            try:
                await self._pump(told.content, response, stream)
            finally:
                self._streams.discard(stream)
        return response

    async def _pump(self, source: aiohttp.StreamReader, response: web.StreamResponse, stream: Stream) -> None:
        """Until either side ends it, or the stream has been deaf for its time: it then ends without having passed on anything more."""
        tasks = {asyncio.create_task(self._copy(source, response, stream)), asyncio.create_task(self._wait_for_renewal(stream))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _copy(self, source: aiohttp.StreamReader, response: web.StreamResponse, stream: Stream) -> None:
        async for line in source:
            self._moved = time.monotonic()
            await self._wait_out()
            if stream.deaf.is_set():
                continue
            if stream.to_drop and b'"BOOKMARK"' not in line[:40]:
                stream.to_drop -= 1
                continue
            await response.write(line)

    async def _wait_for_renewal(self, stream: Stream) -> None:
        await stream.deaf.wait()
        await asyncio.sleep(DEAF_SECONDS)


def is_vague(method: str, body: bytes) -> bool:
    """Whether a change or a deletion would be carried out on whatever has the name when it arrives."""
    if method == "POST":
        return False
    document = json.loads(body or b"{}")
    said = document.get("preconditions", {}) if method == "DELETE" else document.get("metadata", {})
    return not said.get("uid") or (method != "DELETE" and not said.get("resourceVersion"))


def _pass_on(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in NOT_PASSED_ON}


def _refuse(request: web.Request, fault: Fault) -> web.Response:
    """As the API server puts it."""
    code, reason, message = REFUSALS[fault]
    if code == 409 and request.method == "POST":
        reason, message = "AlreadyExists", "the name is taken"
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}
    return web.json_response(status, status=code, headers={"Retry-After": "1"} if fault is Fault.TOO_MANY else None)


def _cut(request: web.Request) -> web.Response:
    """Ends the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
