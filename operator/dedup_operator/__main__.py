"""Builds the operator from its parts and runs it: `python -m dedup_operator --job-image …`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, ParamSpec
from uuid import uuid4

import aiohttp

from dedup_api.version import VERSION
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.events import Recorder
from dedup_operator.adapters.health import HealthServer
from dedup_operator.adapters.kube import Kube, Resource, connect
from dedup_operator.adapters.lease import Lease
from dedup_operator.adapters.metrics import Metrics
from dedup_operator.domain.errors import DedupOperatorError
from dedup_operator.domain.types import Key
from dedup_operator.handlers import Events, configure_logging, run_kopf
from dedup_operator.queue import Reconcile, WorkQueue
from dedup_operator.reconcile import Reconciler
from dedup_operator.settings import Settings, parse_settings
from dedup_operator.watches import build_watches

logger = logging.getLogger("dedup_operator")

RELIST_SECONDS = 300.0
"""When a watch silently stops, the operator misses changes for this long at most."""
RELIST_RETRY_SECONDS = 5.0


async def run(settings: Settings) -> None:
    kube = await connect()
    async with aiohttp.ClientSession(trust_env=False) as session:
        loop = asyncio.get_running_loop()
        relist_now = asyncio.Event()
        lease = build_lease(kube, settings, loop.time, relist_now.set)
        metrics = Metrics(is_active=lambda: lease is None or lease.is_held())
        reconciler = Reconciler(
            kube=kube,
            drivers=Drivers(session),
            recorder=Recorder(kube),
            metrics=metrics,
            image=settings.job_image,
            clock=lambda: datetime.now(UTC),
            resync_seconds=settings.resync_seconds,
        )

        def is_responsible(key: Key) -> bool:
            return (lease is None or lease.is_held()) and watches.covers(key)

        queue = WorkQueue(skip_foreign(reconciler, is_responsible), settings.workers)
        queue.heartbeat = loop.time()
        events = Events(add=forward(loop, queue.add), record_pod_deletion=forward(loop, reconciler.record_pod_deletion))

        def report_watch(namespace: str | None, watched: bool) -> None:
            metrics.set_watched(namespace, watched)
            if watched:
                relist_now.set()  # kopf may have told of DedupJobs before the operator was responsible for them

        watches = build_watches(kube, settings.namespaces, partial(run_kopf, events), report_watch)

        def list_problems() -> list[str]:
            return [*watches.list_problems(), *(lease.list_problems() if lease is not None else [])]

        health = HealthServer(metrics.registry, lambda: loop.time() - queue.heartbeat, list_problems, settings.port)
        await health.start()
        logger.info("operator version %s starts", VERSION)
        relist = relist_periodically(kube, queue, watches.list_watched, relist_now)
        try:
            await run_until_signal(queue.run(), relist, watches.run(), *([lease.run()] if lease is not None else []))
        finally:
            await health.stop()
            await kube.close()


async def run_until_signal(*services: Coroutine[Any, Any, object]) -> None:
    """Runs the services until the process gets SIGTERM or SIGINT. Raises what a service raises."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(service) for service in (*services, stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


P = ParamSpec("P")


def forward(loop: asyncio.AbstractEventLoop, function: Callable[P, None]) -> Callable[P, None]:
    """`function` for other threads: it then runs in this event loop."""

    def call(*arguments: P.args, **named: P.kwargs) -> None:
        # An event that arrives while the operator ends is lost, which does no harm.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(partial(function, *arguments, **named))

    return call


def build_lease(kube: Kube, settings: Settings, monotonic: Callable[[], float], on_start: Callable[[], None]) -> Lease | None:
    """None when this is the only replica. Otherwise the client refuses to write without the Lease from now on."""
    if not settings.lease:
        return None
    identity = f"{socket.gethostname()}_{uuid4()}"
    lease = Lease(
        kube=kube,
        namespace=settings.lease_namespace,
        name=settings.lease,
        identity=identity,
        clock=lambda: datetime.now(UTC),
        monotonic=monotonic,
        on_start=on_start,
    )
    kube.check_write = lease.check
    return lease


def skip_foreign(reconciler: Reconciler, is_responsible: Callable[[Key], bool]) -> Reconcile:
    """Reconciles a DedupJob only while this replica is responsible for it: it holds the Lease, and it watches the
    namespace. Otherwise it drops the DedupJob from its queue. When a replica acquires the Lease it lists all DedupJobs,
    and a watch lists those of its namespace when it starts."""

    async def reconcile(key: Key) -> float | None:
        if is_responsible(key):
            return await reconciler.reconcile(key)
        reconciler.forget(key)
        return None

    return reconcile


async def relist_periodically(kube: Kube, queue: WorkQueue, list_namespaces: Callable[[], list[str | None]], now: asyncio.Event) -> None:
    """Puts all DedupJobs into the queue every few minutes, and when `now` is set. `list_namespaces`: None in it stands
    for all namespaces."""
    while True:
        now.clear()
        failed = False
        for namespace in list_namespaces():
            try:
                jobs = await kube.list(Resource.DEDUP_JOBS, namespace)
            except DedupOperatorError as error:
                logger.warning("cannot list DedupJobs: %s", error)
                failed = True
                continue
            for job in jobs:
                queue.add(Key(job["metadata"]["namespace"], job["metadata"]["name"]))
        # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELIST_RETRY_SECONDS if failed else RELIST_SECONDS):
                await now.wait()


def main() -> int:
    settings = parse_settings()
    configure_logging(settings.log_format, settings.log_level)
    try:
        asyncio.run(run(settings))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
