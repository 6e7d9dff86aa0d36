"""Builds the operator from its parts and runs it: `python -m dedup_operator --job-image …`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import aiohttp

from dedup_api import names
from dedup_api.version import VERSION
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.events import Recorder
from dedup_operator.adapters.health import HealthServer
from dedup_operator.adapters.kube import Kube, Resource, connect
from dedup_operator.adapters.lease import Lease
from dedup_operator.adapters.metrics import Metrics
from dedup_operator.domain.errors import DedupOperatorError
from dedup_operator.domain.types import Key
from dedup_operator.handlers import configure_logging, run_kopf
from dedup_operator.queue import Reconcile, WorkQueue
from dedup_operator.reconcile import Reconciler
from dedup_operator.settings import Settings, parse_settings

logger = logging.getLogger("dedup_operator")

RELIST_SECONDS = 300.0
"""When a watch silently stops, the operator misses changes for this long at most."""
CRD_RETRY_SECONDS = 5.0


async def run(settings: Settings) -> None:
    kube = await connect()
    async with aiohttp.ClientSession(trust_env=False) as session:
        metrics = Metrics()
        reconciler = Reconciler(
            kube=kube,
            drivers=Drivers(session),
            recorder=Recorder(kube),
            metrics=metrics,
            image=settings.job_image,
            clock=lambda: datetime.now(UTC),
            resync_seconds=settings.resync_seconds,
        )
        loop = asyncio.get_running_loop()
        relist_now = asyncio.Event()
        lease = build_lease(kube, settings, loop.time, relist_now.set)
        queue = WorkQueue(require_lease(lease, reconciler.reconcile), settings.workers)
        queue.heartbeat = loop.time()
        health = HealthServer(metrics.registry, lambda: loop.time() - queue.heartbeat, settings.port)
        await health.start()
        dispatcher = asyncio.create_task(queue.run(), name="dispatcher")
        try:
            await wait_for_crd(kube, settings.namespaces)
            tasks = [asyncio.create_task(relist_periodically(kube, queue, settings.namespaces, relist_now), name="relist")]
            if lease is not None:
                tasks.append(asyncio.create_task(lease.run(), name="lease"))
            logger.info("operator version %s watches %s", VERSION, ", ".join(settings.namespaces) or "all namespaces")
            try:
                await run_kopf(queue.add, reconciler.record_pod_deletion, settings.namespaces)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            dispatcher.cancel()
            await asyncio.gather(dispatcher, return_exceptions=True)
            await health.stop()
            await kube.close()


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


def require_lease(lease: Lease | None, reconcile: Reconcile) -> Reconcile:
    """Reconciles only while this replica holds the Lease. A standby drops every DedupJob from its queue. When it
    acquires the Lease, it lists all DedupJobs."""

    async def reconcile_if_held(key: Key) -> float | None:
        return await reconcile(key) if lease is None or lease.is_held() else None

    return reconcile_if_held


async def wait_for_crd(kube: Kube, namespaces: tuple[str, ...]) -> None:
    """kopf looks up the CRD only once, when it starts. The operator therefore starts kopf after the CRD exists."""
    while True:
        try:
            await kube.list(Resource.DEDUP_JOBS, namespaces[0] if namespaces else None)
            return
        except DedupOperatorError as error:
            logger.warning("cannot list %s: %s; the operator retries in %.0f s", names.CRD_NAME, error, CRD_RETRY_SECONDS)
            await asyncio.sleep(CRD_RETRY_SECONDS)


async def relist_periodically(kube: Kube, queue: WorkQueue, namespaces: tuple[str, ...], now: asyncio.Event) -> None:
    """Puts all DedupJobs into the queue every few minutes, and when `now` is set."""
    while True:
        now.clear()
        failed = False
        for namespace in namespaces or (None,):
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
            async with asyncio.timeout(CRD_RETRY_SECONDS if failed else RELIST_SECONDS):
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
