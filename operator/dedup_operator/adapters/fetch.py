"""Reads all that a round needs. Every read is live: absence is believed only from the API server's own mouth."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.kube import Json, Kube, Resource
from dedup_operator.domain.observe import Silence, Snapshot
from dedup_operator.domain.observe_pod import observe_pod
from dedup_operator.domain.times import parse_time

ABSENCE = timedelta(seconds=3)
"""The StatefulSet controller makes a pod within a second; later it is worth asking why there is none."""


async def fetch_snapshot(kube: Kube, drivers: Drivers, namespace: str, name: str, now: datetime) -> Snapshot | None:
    """None when the DedupJob is gone or going: its children are the garbage collector's."""
    job = await kube.get(Resource.DEDUP_JOBS, namespace, name)
    if job is None or "deletionTimestamp" in job["metadata"]:
        return None
    snapshot = await _fetch_children(kube, job)
    return replace(
        snapshot,
        events=await _fetch_events(kube, snapshot, now) if is_amiss(snapshot, now) else (),
        answer=await _fetch_answer(drivers, snapshot, now),
    )


async def _fetch_children(kube: Kube, job: Json) -> Snapshot:
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    # The pod last: a StatefulSet that was read with 0 replicas makes no pod afterwards, so an absence seen now is one.
    stateful_set, claim, service, config_maps = await asyncio.gather(
        kube.get(Resource.STATEFUL_SETS, namespace, names.driver_name(name)),
        kube.get(Resource.CLAIMS, namespace, names.claim_name(name)),
        kube.get(Resource.SERVICES, namespace, names.driver_name(name)),
        kube.list(Resource.CONFIG_MAPS, namespace, labelSelector=f"{names.LABEL_JOB}={name},{names.LABEL_MANAGED_BY}={names.MANAGER}"),
    )
    pod = await kube.get(Resource.PODS, namespace, names.driver_pod_name(name))
    return Snapshot(job, stateful_set, pod, claim, service, tuple(config_maps))


def is_amiss(snapshot: Snapshot, now: datetime) -> bool:
    """Whether events could tell more: a driver is wanted, and its pod is missing or does not come to life."""
    if snapshot.stateful_set is None or snapshot.stateful_set["spec"].get("replicas") == 0:
        return False
    if snapshot.pod is None:
        return now - parse_time(snapshot.stateful_set["metadata"]["creationTimestamp"]) > ABSENCE
    pod = observe_pod(snapshot.pod)
    return pod.started_at is None and not pod.exits and now - pod.created_at > ABSENCE


async def _fetch_events(kube: Kube, snapshot: Snapshot, now: datetime) -> tuple[Json, ...]:
    found: list[Json] = []
    for concerned in (snapshot.stateful_set if snapshot.pod is None else None, snapshot.pod, snapshot.claim):
        if concerned is not None:
            metadata = concerned["metadata"]
            selector = f"involvedObject.uid={metadata['uid']},type=Warning"
            found += await kube.list(Resource.CORE_EVENTS, metadata["namespace"], fieldSelector=selector)
    return tuple(found)


async def _fetch_answer(drivers: Drivers, snapshot: Snapshot, now: datetime) -> DriverStatus | Silence | None:
    if snapshot.pod is None:
        return None
    pod = observe_pod(snapshot.pod)
    if pod.address is None or pod.started_at is None:
        return None
    return await drivers.fetch_status(pod.uid, pod.address, now)
