"""Drivers that only play: each answers `/status` on a loopback address of its own, and is remembered with its beginning and its end.

A driver does what the topic of its `job.json` says: `refused` ends with exit code 64, one that begins with
`waiting` does not exist yet, so that no key is stored, every other topic is healthy. What it says
about itself is the same in every run, so that a status in the end depends on what the operator did and on nothing else.
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
"""A topic whose driver ends at once and for good."""
WAITING = "waiting"
ADDRESS_TRIES = 100
SOME_TIME = "2026-01-01T00:00:00Z"


@dataclass
class Run:
    """One life of a driver's process."""

    namespace: str
    pod: str
    volume: str
    """UID of the claim."""
    attempt: int
    topic: str = ""
    address: str = ""
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def overlaps(self, later: Run) -> bool:
        return self.volume == later.volume and (self.ended is None or later.began < self.ended)


@dataclass
class Drivers:
    """All that run or ever ran."""

    runs: list[Run] = field(default_factory=list)
    _attempts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _by_address: dict[str, Run] = field(default_factory=dict)
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

    async def start(self, namespace: str, pod: str, volume: str) -> Run:
        self._attempts[volume] += 1
        run = Run(namespace, pod, volume, self._attempts[volume])
        self.runs.append(run)
        run.address = await self._listen()
        self._by_address[run.address] = run
        return run

    async def stop(self, run: Run) -> None:
        if run.ended is None:
            run.ended = time.monotonic()
            await self._sites.pop(run.address).stop()

    def find_overlaps(self, namespace: str) -> list[str]:
        """Pairs of drivers that were on one checkpoint at once; there must be none."""
        runs = [run for run in self.runs if run.namespace == namespace]
        pairs = ((early, late) for at, early in enumerate(runs) for late in runs[at + 1 :])
        return [f"attempts {early.attempt} and {late.attempt} of {early.pod}" for early, late in pairs if early.overlaps(late)]

    async def _listen(self) -> str:
        """On an address that no other driver has or had; another such test on the machine begins elsewhere."""
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
        raise OSError(errno.EADDRINUSE, f"port {names.HTTP_PORT} is taken on all addresses of this machine: stop what listens there")

    async def _answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        run = self._by_address[request.transport.get_extra_info("sockname")[0]]
        return web.json_response(build_status(run).to_json_dict())


def build_status(run: Run) -> DriverStatus:
    if run.topic.startswith(WAITING):
        missing = Blocked(reason=Reason.SOURCE_TOPIC_MISSING, message=f"topic {run.topic} does not exist")
        return DriverStatus(phase=Phase.WAITING, blocked_by=missing, attempt=run.attempt, generation=1)
    return DriverStatus(
        phase=Phase.RUNNING,
        attempt=run.attempt,
        generation=1,
        checkpoint_begun=True,
        committed_in_this_run=True,
        progress=Progress(batch=7, rows_in=10, rows_out=8, unique=8, duplicates=2, lag_records=0, last_progress_time=SOME_TIME),
    )
