"""Simulated drivers. Each answers `/status` on its own loopback address. The module remembers when each of them started
and ended.

The topic in `job.json` decides what a driver does. With the topic `refused` it ends with exit code 64. With a topic
that starts with `waiting` it waits for the topic to exist, so it stores no keys. With every other topic it works. A
driver reports the same figures in every run, so the DedupJob's status in the end depends only on what the operator did.
"""

from __future__ import annotations

import errno
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count

from aiohttp import web

from dedup_api import names
from dedup_api.driver_status import Blocked, DriverStatus, Phase
from dedup_api.reasons import Reason
from dedup_api.status import Progress

REFUSED = "refused"
"""The driver of this topic ends at once with an exit code after which a restart does not help."""
WAITING = "waiting"
ADDRESS_TRIES = 100
FIXED_TIME = "2026-01-01T00:00:00Z"


@dataclass
class DriverRun:
    """One driver process, from its start to its end."""

    namespace: str
    pod: str
    volume: str
    """The UID of the claim."""
    attempt: int
    topic: str = ""
    address: str = ""
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def overlaps(self, later: DriverRun) -> bool:
        return self.volume == later.volume and (self.ended is None or later.started < self.ended)


@dataclass
class Drivers:
    """All drivers that run or ever ran."""

    runs: list[DriverRun] = field(default_factory=list)
    _attempts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _by_address: dict[str, DriverRun] = field(default_factory=dict)
    _sites: dict[str, web.TCPSite] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _runner: web.AppRunner = field(init=False)

    async def __aenter__(self) -> Drivers:
        app = web.Application()
        app.add_routes([web.get("/status", self._answer)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def start(self, namespace: str, pod: str, volume: str) -> DriverRun:
        self._attempts[volume] += 1
        run = DriverRun(namespace, pod, volume, self._attempts[volume])
        self.runs.append(run)
        run.address = await self._listen()
        self._by_address[run.address] = run
        return run

    async def stop(self, run: DriverRun) -> None:
        if run.ended is None:
            run.ended = time.monotonic()
            await self._sites.pop(run.address).stop()

    def find_overlaps(self, namespace: str) -> list[str]:
        """Describes each pair of drivers that used one checkpoint at the same time. There must be none."""
        runs = [run for run in self.runs if run.namespace == namespace]
        pairs = ((early, late) for at, early in enumerate(runs) for late in runs[at + 1 :])
        return [f"attempts {early.attempt} and {late.attempt} of {early.pod}" for early, late in pairs if early.overlaps(late)]

    async def _listen(self) -> str:
        """Listens on a loopback address that no driver of this process ever had. Other test processes start at other
        addresses."""
        for _ in range(ADDRESS_TRIES):
            number = next(self._numbers)
            address = f"127.{1 + os.getpid() % 250}.{number // 250 % 250}.{1 + number % 250}"
            site = web.TCPSite(self._runner, address, names.HTTP_PORT)
            try:
                await site.start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            self._sites[address] = site
            return address
        problem = f"port {names.HTTP_PORT} is in use on {ADDRESS_TRIES} loopback addresses: stop the program that listens on it"
        raise OSError(errno.EADDRINUSE, problem)

    async def _answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        run = self._by_address[request.transport.get_extra_info("sockname")[0]]
        return web.json_response(build_status(run).to_json_dict())


def build_status(run: DriverRun) -> DriverStatus:
    if run.topic.startswith(WAITING):
        missing = Blocked(reason=Reason.SOURCE_TOPIC_MISSING, message=f"topic {run.topic} does not exist")
        return DriverStatus(phase=Phase.WAITING, blocked_by=missing, attempt=run.attempt, generation=1, reports_keys_at_end=True)
    return DriverStatus(
        phase=Phase.RUNNING,
        attempt=run.attempt,
        generation=1,
        checkpoint_has_state=True,
        committed_in_this_run=True,
        progress=Progress(batch=7, rows_in=10, rows_out=8, unique=8, duplicates=2, lag_records=0, last_progress_time=FIXED_TIME),
    )
