"""Puts the operator together and runs it: `python -m dedup_operator --job-image …`."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import UTC, datetime

import aiohttp

from dedup_api import names
from dedup_api.version import VERSION
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.events import Recorder
from dedup_operator.adapters.health import HealthServer
from dedup_operator.adapters.kube import Kube, Resource, connect
from dedup_operator.adapters.metrics import Metrics
from dedup_operator.domain.errors import DedupOperatorError
from dedup_operator.handlers import configure_logging, run_kopf
from dedup_operator.queue import Key, WorkQueue
from dedup_operator.reconcile import Reconciler
from dedup_operator.settings import Settings, parse_settings

logger = logging.getLogger("dedup_operator")

RELIST_SECONDS = 300.0
"""A watch that went quiet costs at most this."""
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
        queue = WorkQueue(reconciler.look, settings.workers)
        loop = asyncio.get_running_loop()
        queue.heartbeat = loop.time()
        health = HealthServer(metrics.registry, lambda: loop.time() - queue.heartbeat, settings.port)
        await health.start()
        dispatcher = asyncio.create_task(queue.run(), name="dispatcher")
        try:
            await wait_for_crd(kube, settings.namespaces)
            relist = asyncio.create_task(add_all_for_ever(kube, queue, settings.namespaces), name="relist")
            logger.info("version %s watches %s", VERSION, ", ".join(settings.namespaces) or "all namespaces")
            try:
                await run_kopf(queue.add, reconciler.note_departure, settings.namespaces)
            finally:
                relist.cancel()
        finally:
            dispatcher.cancel()
            await asyncio.gather(dispatcher, return_exceptions=True)
            await health.stop()
            await kube.close()


async def wait_for_crd(kube: Kube, namespaces: tuple[str, ...]) -> None:
    """kopf looks for the resource once, when it starts; so it starts when the resource is there."""
    while True:
        try:
            await kube.list(Resource.DEDUP_JOBS, namespaces[0] if namespaces else None)
            return
        except DedupOperatorError as error:
            logger.warning("cannot list %s: %s; again in %.0f s", names.CRD_NAME, error, CRD_RETRY_SECONDS)
            await asyncio.sleep(CRD_RETRY_SECONDS)


async def add_all_for_ever(kube: Kube, queue: WorkQueue, namespaces: tuple[str, ...]) -> None:
    while True:
        for namespace in namespaces or (None,):
            try:
                jobs = await kube.list(Resource.DEDUP_JOBS, namespace)
            except DedupOperatorError as error:
                logger.warning("cannot list DedupJobs: %s", error)
                continue
            for job in jobs:
                queue.add(Key(job["metadata"]["namespace"], job["metadata"]["name"]))
        await asyncio.sleep(RELIST_SECONDS)


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
