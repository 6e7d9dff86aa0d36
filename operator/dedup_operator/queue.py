"""The work queue: which DedupJob is reconciled when.

The queue is level-based: an entry says only which DedupJob, so a hundred events cause one reconciliation. One DedupJob
is never reconciled twice at the same time. The queue repeats a failed reconciliation with growing pauses, and every
DedupJob after a while. kopf's timers could do the last part, but they put a finalizer on the DedupJob, and then nobody
can delete it after the operator is uninstalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dedup_operator.domain.types import Key
from dedup_operator.logs import set_job

FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 120.0
"""The operator notices within this time that the API server answers again."""
RECONCILE_TIMEOUT_SECONDS = 120.0
"""A reconciliation makes about a dozen requests. One that takes longer hangs."""
HEARTBEAT_SECONDS = 1.0
JITTER = 0.1
"""Part of each pause that is random, so that DedupJobs which were added together are not always reconciled together."""

logger = logging.getLogger(__name__)


Reconcile = Callable[[Key], Awaitable[float | None]]
"""Reconciles one DedupJob. Returns the seconds until the next
reconciliation, or None to forget it. Raises to be repeated."""


@dataclass
class WorkQueue:
    reconcile: Reconcile
    workers: int
    heartbeat: float = 0.0
    """Loop time of the dispatcher's last iteration. It stops when the event loop or the dispatcher hangs."""
    _due: dict[Key, float] = field(default_factory=dict)
    _heap: list[tuple[float, Key]] = field(default_factory=list)
    _failures: dict[Key, int] = field(default_factory=dict)
    _running: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    _again: set[Key] = field(default_factory=set)
    """DedupJobs that were added during their reconciliation."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Reconciles `key` in `delay` seconds at the latest. A failing DedupJob keeps its pause."""
        if key in self._running:
            self._again.add(key)
            return
        if delay == 0.0 and key in self._failures:
            return
        self._schedule(key, delay)

    def _schedule(self, key: Key, delay: float) -> None:
        moment = asyncio.get_running_loop().time() + delay
        if moment < self._due.get(key, float("inf")):
            self._due[key] = moment
            heapq.heappush(self._heap, (moment, key))
            self._wake.set()

    @property
    def known(self) -> set[Key]:
        return self._due.keys() | self._running.keys()

    async def run(self) -> None:
        """Dispatches until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self.heartbeat = loop.time()
                self._wake.clear()
                self._dispatch(self.heartbeat)
                await self._pause(loop.time())
        finally:
            for task in self._running.values():
                task.cancel()

    async def _pause(self, now: float) -> None:
        full = len(self._running) >= self.workers
        until = self._heap[0][0] - now if self._heap and not full else HEARTBEAT_SECONDS
        # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(until, 0.001), HEARTBEAT_SECONDS)):
                await self._wake.wait()

    def _dispatch(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now and len(self._running) < self.workers:
            moment, key = heapq.heappop(self._heap)
            if self._due.get(key) != moment:
                continue
            del self._due[key]
            self._running[key] = asyncio.create_task(self._reconcile(key), name=f"reconcile {key}")

    async def _reconcile(self, key: Key) -> None:
        pause: float | None = None
        try:
            set_job(key)
            pause = await self._try(key)
        finally:
            self._running.pop(key, None)
            self._wake.set()
        if key in self._again:
            self._again.discard(key)
            pause = pause if key in self._failures else 0.0
        if pause is not None:
            self._schedule(key, pause * random.uniform(1 - JITTER, 1 + JITTER))

    async def _try(self, key: Key) -> float | None:
        """Returns the pause until the next reconciliation, also after an error."""
        try:
            async with asyncio.timeout(RECONCILE_TIMEOUT_SECONDS):
                pause = await self.reconcile(key)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  after any error the DedupJob must be reconciled again
            return self._count_failure(key, error)
        self._failures.pop(key, None)
        return pause

    def _count_failure(self, key: Key, error: Exception) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        asked: float = getattr(error, "retry_after", None) or FIRST_BACKOFF_SECONDS * 2 ** min(count - 1, 10)
        # An API server or a proxy may ask for hours; the operator must notice earlier that it answers again.
        pause = min(asked, MAX_BACKOFF_SECONDS)
        logger.warning("the reconciliation failed: %s; the operator retries in %.0f s", error or type(error).__name__, pause)
        return pause
