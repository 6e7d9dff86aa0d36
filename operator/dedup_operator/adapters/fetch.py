"""Reads everything that one reconciliation needs.

Every read goes to the API server. Only its own answer proves that an object does not exist; a cache could be behind.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.kube import Kube, Resource
from dedup_operator.domain.annotations import OWN_SELECTOR
from dedup_operator.domain.driver_objects import find_wanted_place
from dedup_operator.domain.errors import ApiConflict
from dedup_operator.domain.observe.owned import OwnedObjects, find_owned_objects
from dedup_operator.domain.observe.pod import DriverPod, DriverUnreachable
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.observe.warnings import list_pod_creators, may_have_warnings
from dedup_operator.domain.types import Json


async def fetch_snapshot(kube: Kube, drivers: Drivers, namespace: str, name: str, now: datetime) -> tuple[Snapshot, OwnedObjects] | None:
    """None when the DedupJob is deleted or being deleted. The garbage collector then deletes its children."""
    job = await kube.get(Resource.DEDUP_JOBS, namespace, name)
    if job is None or "deletionTimestamp" in job["metadata"]:
        return None
    snapshot = await _fetch_children(kube, job)
    if snapshot is None:
        return None
    owned = find_owned_objects(snapshot)
    creators = list_pod_creators(snapshot.stateful_set, snapshot.runs)
    pods = [owned.driver_pod] if owned.driver_pod is not None else creators
    concerned = [*pods, *([snapshot.claim] if snapshot.claim is not None else [])]
    snapshot = replace(
        snapshot,
        warnings=await _fetch_warnings(kube, concerned) if may_have_warnings(creators, owned.driver, now) else (),
        driver_status=await _fetch_driver_status(drivers, owned.driver, now),
    )
    return snapshot, owned


async def _fetch_children(kube: Kube, job: Json) -> Snapshot | None:
    """None when the DedupJob was deleted meanwhile."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    driver, labels = names.driver_name(name), f"{names.LABEL_JOB}={name},{OWN_SELECTOR}"
    place = find_wanted_place(name, job.get("spec") or {})
    record_name = names.record_name(place.claim, place.folder) if place.folder else None
    # The pods come after the workloads. A workload at 0 whose controller has seen that creates no more pods, so a pod
    # that is missing in this later read stays missing.
    (stateful_set, cron_job, service), (claim, record), (runs, config_maps) = await asyncio.gather(
        asyncio.gather(*(kube.get(kind, namespace, driver) for kind in (Resource.STATEFUL_SETS, Resource.CRON_JOBS, Resource.SERVICES))),
        asyncio.gather(kube.get(Resource.CLAIMS, namespace, place.claim), _fetch_record(kube, namespace, record_name)),
        asyncio.gather(*(kube.list(kind, namespace, labelSelector=labels) for kind in (Resource.JOBS, Resource.CONFIG_MAPS))),
    )
    # The DedupJob is read a second time, because only then a missing child is known to be missing for another reason
    # than the deletion of the DedupJob. Otherwise the operator would recreate what the garbage collector has just
    # deleted. When the spec was edited meanwhile, the operator acts on the edit at once, unless it names another claim.
    by_name, by_label, again = await asyncio.gather(
        kube.get(Resource.PODS, namespace, names.driver_pod_name(name)),
        kube.list(Resource.PODS, namespace, labelSelector=labels),
        kube.get(Resource.DEDUP_JOBS, namespace, name),
    )
    if again is None or "deletionTimestamp" in again["metadata"]:
        return None
    if again["metadata"]["uid"] != job["metadata"]["uid"]:
        raise ApiConflict("the DedupJob was deleted and recreated while the operator read its children")
    if find_wanted_place(name, again.get("spec") or {}) != place:
        raise ApiConflict("spec.checkpoint was edited while the operator read the claim")
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
    """The API server leaves out the kind of the items in a list."""
    return {**item, "kind": kind}


async def _fetch_warnings(kube: Kube, concerned: list[Json]) -> tuple[Json, ...]:
    found: list[Json] = []
    for raw in concerned:
        metadata = raw["metadata"]
        selector = f"involvedObject.uid={metadata['uid']},type=Warning"
        found += await kube.list(Resource.CORE_EVENTS, metadata["namespace"], fieldSelector=selector)
    return tuple(found)


async def _fetch_driver_status(drivers: Drivers, pod: DriverPod | None, now: datetime) -> DriverStatus | DriverUnreachable | None:
    if pod is None or pod.address is None or pod.started_at is None:
        return None
    return await drivers.fetch_status(pod.uid, pod.address, now)
