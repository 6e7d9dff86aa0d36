"""Reads all that a round needs. Every read is live: absence is believed only from the API server's own mouth."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.kube import Json, Kube, Resource
from dedup_operator.domain.annotations import OWN_SELECTOR
from dedup_operator.domain.errors import ApiConflict
from dedup_operator.domain.observe.pod import DriverPod, Silence, observe_pod
from dedup_operator.domain.observe.state import Snapshot, find_driver
from dedup_operator.domain.observe.workload import find_replicas
from dedup_operator.domain.observe.workload import has_ended as run_has_ended
from dedup_operator.domain.times import parse_time

ABSENCE = timedelta(seconds=3)
"""A controller makes a pod within a second; later it is worth asking why there is none."""


async def fetch_snapshot(kube: Kube, drivers: Drivers, namespace: str, name: str, now: datetime) -> Snapshot | None:
    """None when the DedupJob is gone or going: its children are the garbage collector's."""
    job = await kube.get(Resource.DEDUP_JOBS, namespace, name)
    if job is None or "deletionTimestamp" in job["metadata"]:
        return None
    snapshot = await _fetch_children(kube, job)
    if snapshot is None:
        return None
    raw = find_driver(snapshot)
    pod, makers = observe_pod(raw) if raw is not None else None, _find_makers(snapshot)
    concerned = [*(makers if raw is None else [raw]), *([snapshot.claim] if snapshot.claim is not None else [])]
    return replace(
        snapshot,
        events=await _fetch_events(kube, concerned) if is_amiss(makers, pod, now) else (),
        answer=await _fetch_answer(drivers, pod, now),
    )


async def _fetch_children(kube: Kube, job: Json) -> Snapshot | None:
    """None when the job went meanwhile."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    driver, labels = names.driver_name(name), f"{names.LABEL_JOB}={name},{OWN_SELECTOR}"
    existing = ((job.get("spec") or {}).get("checkpoint") or {}).get("existing")
    claim_name = existing["claimName"] if existing else names.claim_name(name)
    record_name = names.record_name(claim_name, names.folder_name(name, existing.get("subPath"))) if existing else None
    # The pods last: a workload at 0 whose controller has seen that makes no pod afterwards, so an absence seen now is one.
    (stateful_set, cron_job, service), (claim, record), (runs, config_maps) = await asyncio.gather(
        asyncio.gather(*(kube.get(kind, namespace, driver) for kind in (Resource.STATEFUL_SETS, Resource.CRON_JOBS, Resource.SERVICES))),
        asyncio.gather(kube.get(Resource.CLAIMS, namespace, claim_name), _fetch_record(kube, namespace, record_name)),
        asyncio.gather(*(kube.list(kind, namespace, labelSelector=labels) for kind in (Resource.JOBS, Resource.CONFIG_MAPS))),
    )
    # The job again: a child that was missing while its job was still there did not go with it. Else the round would make anew what the
    # garbage collector has just removed. An edit that came meanwhile is acted on at once; it cannot change the children's names.
    by_name, by_label, again = await asyncio.gather(
        kube.get(Resource.PODS, namespace, names.driver_pod_name(name)),
        kube.list(Resource.PODS, namespace, labelSelector=labels),
        kube.get(Resource.DEDUP_JOBS, namespace, name),
    )
    if again is None or "deletionTimestamp" in again["metadata"]:
        return None
    if again["metadata"]["uid"] != job["metadata"]["uid"]:
        raise ApiConflict("it was deleted and made again while its children were read")
    return Snapshot(
        job=again,
        stateful_set=stateful_set,
        cron_job=cron_job,
        runs=tuple(_with_kind(run, "Job") for run in runs),
        pods=tuple(_with_kind(pod, "Pod") for pod in [*by_label, by_name] if pod is not None),
        claim=claim,
        record=record,
        service=service,
        config_maps=tuple(_with_kind(config_map, "ConfigMap") for config_map in config_maps),
    )


async def _fetch_record(kube: Kube, namespace: str, name: str | None) -> Json | None:
    return await kube.get(Resource.CONFIG_MAPS, namespace, name) if name else None


def _with_kind(item: Json, kind: str) -> Json:
    """The items of a list do not say what they are."""
    return {**item, "kind": kind}


def _find_makers(snapshot: Snapshot) -> list[Json]:
    """What should have a pod now."""
    found = [raw for raw in (snapshot.stateful_set, *snapshot.runs) if raw is not None and find_replicas(raw) > 0]
    return [raw for raw in found if raw["kind"] != "Job" or not run_has_ended(raw)]


def is_amiss(makers: list[Json], pod: DriverPod | None, now: datetime) -> bool:
    """Whether events could tell more: a driver is wanted, and its pod is missing or does not come to life."""
    if not makers:
        return False
    if pod is None:
        return any(now - parse_time(maker["metadata"]["creationTimestamp"]) > ABSENCE for maker in makers)
    return pod.started_at is None and not pod.exits and now - pod.created_at > ABSENCE


async def _fetch_events(kube: Kube, concerned: list[Json]) -> tuple[Json, ...]:
    found: list[Json] = []
    for raw in concerned:
        metadata = raw["metadata"]
        selector = f"involvedObject.uid={metadata['uid']},type=Warning"
        found += await kube.list(Resource.CORE_EVENTS, metadata["namespace"], fieldSelector=selector)
    return tuple(found)


async def _fetch_answer(drivers: Drivers, pod: DriverPod | None, now: datetime) -> DriverStatus | Silence | None:
    if pod is None or pod.address is None or pod.started_at is None:
        return None
    return await drivers.fetch_status(pod.uid, pod.address, now)
