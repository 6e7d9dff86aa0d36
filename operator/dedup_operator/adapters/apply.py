"""Executes a decision. This module only writes; what to write comes from the domain.

Every change names the object and the version that the operator read, and every deletion names the object's UID. A
creation can only name kind and name. docs/decisions/0009 says what happens when such a write arrives late.
"""

from __future__ import annotations

from collections.abc import Awaitable

from dedup_operator.adapters.kube import AlreadyExists, Kube, Resource
from dedup_operator.domain.annotations import GIVEN_UP, ROLLING
from dedup_operator.domain.decision import (
    Decision,
    GiveUp,
    Keep,
    Refuse,
    RemoveWorkload,
    RepairDrift,
    ScaleDownForRestart,
    Start,
    Suspend,
    Suspended,
    UpdateSchedule,
)
from dedup_operator.domain.errors import ApiRefused
from dedup_operator.domain.manifests import Children
from dedup_operator.domain.observe.checkpoint import CheckpointClaim
from dedup_operator.domain.observe.ownership import find_name_conflict, find_record_conflict
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Workload
from dedup_operator.domain.types import Json
from dedup_operator.domain.updates import checkpoint as checkpoint_updates
from dedup_operator.domain.updates import workload as workload_updates
from dedup_operator.domain.validate import Invalid, ValidJob
from dedup_operator.domain.verdict import ClaimRefusal

RESOURCES = {
    "StatefulSet": Resource.STATEFUL_SETS,
    "Job": Resource.JOBS,
    "CronJob": Resource.CRON_JOBS,
    "PersistentVolumeClaim": Resource.CLAIMS,
    "ConfigMap": Resource.CONFIG_MAPS,
    "Service": Resource.SERVICES,
}


async def apply_checkpoint(kube: Kube, job: ValidJob | Invalid, observed: ObservedState, children: Children | None) -> ClaimRefusal | None:
    """Changes annotations, owner and size of the checkpoint's claim. Returns what the API server refused, which must not
    keep the driver from starting."""
    claim = observed.claim
    if claim is None or claim.deleting:
        return None
    if checkpoint_updates.should_release_claim(job, claim):
        released = checkpoint_updates.build_released_claim(job.uid, claim)
        refused = (await _replace_if_changed(kube, Resource.CLAIMS, claim.raw, released))[1]
        return ClaimRefusal(refused, of_owner=True) if refused else None
    if isinstance(job, Invalid) or children is None:
        return None
    if children.claim is None:
        return await _apply_record(kube, observed, children)
    return await _apply_claim(kube, job, observed, claim, children)


async def _apply_claim(
    kube: Kube, job: ValidJob, observed: ObservedState, claim: CheckpointClaim, children: Children
) -> ClaimRefusal | None:
    """Three writes, because the API server may refuse one of them: a policy the annotations, an admission plugin the
    owner, the storage class the size. The others must still take effect."""
    annotated = checkpoint_updates.build_annotated_claim(observed, claim, children)
    body, about_annotations = await _replace_if_changed(kube, Resource.CLAIMS, claim.raw, annotated)
    owned = checkpoint_updates.build_owned_claim(body, job, claim)
    body, about_owner = await _replace_if_changed(kube, Resource.CLAIMS, body, owned)
    grown = checkpoint_updates.build_grown_claim(body, claim, children)
    about_size = (await _replace_if_changed(kube, Resource.CLAIMS, body, grown))[1] if grown is not None else ""
    refused = about_owner or about_annotations or about_size
    return ClaimRefusal(refused, of_owner=bool(about_owner)) if refused else None


async def _apply_record(kube: Kube, observed: ObservedState, children: Children) -> ClaimRefusal | None:
    claim = observed.claim
    record = checkpoint_updates.build_updated_record(observed, claim, children) if claim is not None else None
    if claim is None or claim.record is None or record is None:
        return None
    refused = (await _replace_if_changed(kube, Resource.CONFIG_MAPS, claim.record, record))[1]
    return ClaimRefusal(refused) if refused else None


async def _replace_if_changed(kube: Kube, resource: Resource, before: Json, after: Json) -> tuple[Json, str]:
    """The object as it is now, and what the API server refused."""
    if after == before:
        return before, ""
    try:
        return {**await kube.replace(resource, after), "kind": after["kind"]}, ""
    except ApiRefused as error:
        return before, f"The API server refuses a change of {after['kind']} {after['metadata']['name']}: {error}"


async def apply_decision(kube: Kube, namespace: str, observed: ObservedState, children: Children | None, decision: Decision) -> None:
    """`children` is None only when the spec is invalid. Raises ApiRefused, NameTaken and CheckpointTaken, which the
    caller reports in the DedupJob's conditions."""
    match decision:
        case Start() | RepairDrift() if children is not None:
            await _create_missing(kube, observed, children)
            await _start(kube, observed.workload, children)
        case UpdateSchedule(settings=False):
            await _stop_runs(kube, observed)
        case UpdateSchedule(stop_run=stop_run) if children is not None:
            await _create_missing(kube, observed, children)
            if stop_run:
                # This comes first: after the write of the settings the operator could not see that the run must stop.
                await _stop_runs(kube, observed)
            await _start(kube, observed.workload, children)
        case Keep() if children is not None:
            if decision.repair:
                await _scale(kube, observed, 1)
            await _create_missing(kube, observed, children, config_map=observed.workload.config_map if observed.workload else None)
            await _delete_outdated_config_maps(kube, namespace, observed)
        case RemoveWorkload(workload):
            await _remove(kube, namespace, workload)
        case ScaleDownForRestart():
            await _scale(kube, observed, 0, {ROLLING: "true"})
        case Suspended():
            await _scale(kube, observed, 0)
        case Refuse(resume=True):
            await _scale(kube, observed, 1)
        case Suspend() | Refuse(stop=True):
            await _scale(kube, observed, 0)
        case GiveUp(why):
            await _scale(kube, observed, 0, {GIVEN_UP: why.render()})


async def _create_missing(kube: Kube, observed: ObservedState, children: Children, config_map: str | None = None) -> None:
    """See `list_missing_objects`."""
    for body in workload_updates.list_missing_objects(observed, children, config_map):
        if body is children.record:
            await _take_folder(kube, body)
        else:
            await _create(kube, body)


async def _create(kube: Kube, body: Json) -> None:
    resource, metadata = RESOURCES[body["kind"]], body["metadata"]
    try:
        await _write(kube.create(resource, metadata["namespace"], body), body)
    except AlreadyExists as error:
        conflict = find_name_conflict(body, await kube.get(resource, metadata["namespace"], metadata["name"]))
        if conflict is not None:
            raise conflict from error


async def _take_folder(kube: Kube, record: Json) -> None:
    metadata = record["metadata"]
    try:
        await _write(kube.create(Resource.CONFIG_MAPS, metadata["namespace"], record), record)
    except AlreadyExists as error:
        raise find_record_conflict(record, await kube.get(Resource.CONFIG_MAPS, metadata["namespace"], metadata["name"])) from error


async def _write(request: Awaitable[Json], body: Json) -> Json:
    """Notes in a refusal the kind of the refused object."""
    try:
        return await request
    except ApiRefused as error:
        error.kind = body["kind"]
        raise


async def _replace_workload(kube: Kube, body: Json, *, changes_spec: bool) -> None:
    """Writes the workload with the metadata.generation that it will have, see `annotations.APPLIED_GENERATION`. Only
    the API server knows whether a write changes the spec, so a second write corrects a wrong prediction."""
    resource, generation = RESOURCES[body["kind"]], body["metadata"]["generation"] + changes_spec
    workload_updates.set_applied_generation(body, generation)
    written = await _write(kube.replace(resource, body), body)
    if written["metadata"]["generation"] != generation:
        workload_updates.set_applied_generation(written, written["metadata"]["generation"])
        await kube.replace(resource, {**written, "kind": body["kind"]})


async def _start(kube: Kube, workload: Workload | None, children: Children) -> None:
    if workload is None:
        await _create(kube, children.workload)
    else:
        await _replace_workload(kube, workload_updates.build_started_workload(workload, children.workload), changes_spec=True)


async def _scale(kube: Kube, observed: ObservedState, replicas: int, annotations: dict[str, str] | None = None) -> None:
    """At 0 it also stops the runs of a schedule: a suspended
    CronJob starts no new run, but leaves the present one alone."""
    workload = observed.workload
    if workload is None:
        return
    body = workload_updates.build_scaled_workload(workload, replicas, annotations or {})
    if body is not None:
        if workload.drifted:  # the annotation must keep showing the drift, so that the operator repairs it
            await _write(kube.replace(RESOURCES[workload.kind], body), body)
        else:
            await _replace_workload(kube, body, changes_spec=workload.replicas != replicas)
    if replicas == 0:
        await _stop_runs(kube, observed)


async def _stop_runs(kube: Kube, observed: ObservedState) -> None:
    """Deletes in the foreground, so that a run exists until its pod is gone."""
    if observed.workload is None:
        return
    namespace = observed.workload.raw["metadata"]["namespace"]
    for run in observed.workload.runs:
        if not run.deleting:
            await kube.delete(Resource.JOBS, namespace, run.name, run.uid, foreground=True)


async def _remove(kube: Kube, namespace: str, workload: Workload) -> None:
    """Names the version too: the deletion fails when something
    has scaled the workload up since the operator read it."""
    metadata = workload.raw["metadata"]
    await kube.delete(
        RESOURCES[workload.kind],
        namespace,
        metadata["name"],
        workload.uid,
        version=metadata["resourceVersion"],
        foreground=True,
    )


async def _delete_outdated_config_maps(kube: Kube, namespace: str, observed: ObservedState) -> None:
    for name, uid in workload_updates.list_outdated_config_maps(observed):
        await kube.delete(Resource.CONFIG_MAPS, namespace, name, uid)
