"""Carries a decision out: writes only. Each change says which object and version it means, each deletion which object; a creation can only
say its kind and name. What a late one does is in docs/decisions/0009."""

from __future__ import annotations

from collections.abc import Awaitable
from copy import deepcopy

from dedup_api import names
from dedup_api.checkpoint import ReclaimPolicy
from dedup_api.quantities import parse_quantity
from dedup_operator.adapters.kube import AlreadyExists, Json, Kube, Resource
from dedup_operator.domain import annotations as marks
from dedup_operator.domain import decide
from dedup_operator.domain.errors import ApiConflict, ApiRefused, CheckpointTaken, NameTaken
from dedup_operator.domain.manifests import Children
from dedup_operator.domain.manifests.claim import build_claim_annotations
from dedup_operator.domain.observe.checkpoint import CheckpointClaim
from dedup_operator.domain.observe.ownership import is_marked
from dedup_operator.domain.observe.state import World
from dedup_operator.domain.observe.workload import Kind, Workload, build_scaled
from dedup_operator.domain.validate import ValidJob

WORKLOADS = {Kind.STATEFUL_SET: Resource.STATEFUL_SETS, Kind.JOB: Resource.JOBS, Kind.CRON_JOB: Resource.CRON_JOBS}

CHANGEABLE = {
    Kind.STATEFUL_SET: {"template", "updateStrategy", "replicas"},
    Kind.JOB: {"suspend"},
    Kind.CRON_JOB: {"schedule", "timeZone", "concurrencyPolicy", "suspend", "jobTemplate"},
}
"""What the API server lets change, and a start needs."""


async def apply_checkpoint(kube: Kube, job: ValidJob, claim: CheckpointClaim, children: Children, *, settled: bool) -> str:
    """Size, owner and mark of the checkpoint, all of them live. `settled`: no object of an earlier job of the name is left that could
    still write to it. Returns what went wrong; it does not concern the driver."""
    if children.claim is None:
        return await _apply_record(kube, claim, children, settled)
    body = {**claim.raw, "metadata": deepcopy(claim.raw["metadata"])}
    _set_owner(body, job, claim)
    if settled and not claim.doubtful:
        _set_marks(body, claim, children)
    body, refused = await _replace_if_changed(kube, Resource.CLAIMS, claim.raw, body)
    wanted = children.claim["spec"]["resources"]["requests"]["storage"]
    if refused or claim.phase != "Bound" or parse_quantity(wanted) <= parse_quantity(claim.size):
        return refused
    # Apart from the owner: a growth that the storage class refuses must not keep `Retain` from taking effect.
    grown = deepcopy(body)
    grown["spec"]["resources"]["requests"]["storage"] = wanted
    return (await _replace_if_changed(kube, Resource.CLAIMS, body, grown))[1]


async def release_claim(kube: Kube, uid: str, claim: CheckpointClaim) -> str:
    """The part of `apply_checkpoint` that needs no valid spec: with `Retain` the claim does not go with the job, which has `uid`."""
    body = deepcopy(claim.raw)
    body["metadata"]["ownerReferences"] = _list_other_owners(body, uid)
    return (await _replace_if_changed(kube, Resource.CLAIMS, claim.raw, body))[1]


async def _apply_record(kube: Kube, claim: CheckpointClaim, children: Children, settled: bool) -> str:
    if claim.record is None or not settled or claim.doubtful:
        return ""
    body = deepcopy(claim.record)
    _set_marks(body, claim, children)
    annotations = body["metadata"]["annotations"]
    if not claim.begun or marks.CLAIM_UID not in annotations:
        annotations[marks.CLAIM_UID] = claim.raw["metadata"]["uid"]
    return (await _replace_if_changed(kube, Resource.CONFIG_MAPS, claim.record, body))[1]


async def _replace_if_changed(kube: Kube, resource: Resource, before: Json, after: Json) -> tuple[Json, str]:
    """The object as it is now, and what went wrong."""
    if after == before:
        return before, ""
    try:
        return {**await kube.replace(resource, after), "kind": after["kind"]}, ""
    except ApiRefused as error:
        return before, f"It could not be changed: {error}"


def _set_marks(body: Json, claim: CheckpointClaim, children: Children) -> None:
    """What the stored keys belong to: the present settings until there are any, then for good those of the beginning."""
    annotations = body["metadata"].setdefault("annotations", {})
    if claim.begun:
        annotations[marks.CHECKPOINT_BEGUN] = "true"
        if not claim.marked and claim.config is not None:
            annotations.update(build_claim_annotations(claim.config))
    else:
        annotations.update((children.claim or children.record or body)["metadata"]["annotations"])


def _set_owner(body: Json, job: ValidJob, claim: CheckpointClaim) -> None:
    """An owner only with `Delete`: that is what makes the claim go with the job."""
    owned = job.spec.checkpoint.reclaim_policy is ReclaimPolicy.DELETE
    if owned == claim.owned:
        return
    others = _list_other_owners(body, job.uid)
    body["metadata"]["ownerReferences"] = [*others, marks.build_owner_reference(job)] if owned else others


def _list_other_owners(raw: Json, uid: str) -> list[Json]:
    return [owner for owner in raw["metadata"].get("ownerReferences", []) if owner["uid"] != uid]


async def apply_decision(kube: Kube, namespace: str, world: World, children: Children | None, decision: decide.Decision) -> None:
    """`children` is None only where the spec is invalid. Raises ApiRefused, NameTaken and CheckpointTaken for the job's condition to
    tell."""
    match decision:
        case decide.Start() | decide.Mend() if children is not None:
            await _ensure_surroundings(kube, world, children)
            await _start(kube, world.workload, children)
        case decide.Update(settings=False):
            await _stop_runs(kube, world)
        case decide.Update(stop_run=stop_run) if children is not None:
            await _ensure_surroundings(kube, world, children)
            if stop_run:  # first: with the new settings written, nothing would say any more that it is to stop
                await _stop_runs(kube, world)
            await _start(kube, world.workload, children)
        case decide.Keep() if children is not None:
            await _ensure_surroundings(kube, world, children, config_map=world.workload.config_map if world.workload else None)
            await _scale(kube, world, 1)
            await _sweep(kube, namespace, world)
        case decide.Remove(workload):
            metadata = workload.raw["metadata"]
            version = metadata["resourceVersion"]  # it is still at 0
            await kube.delete(WORKLOADS[workload.kind], namespace, metadata["name"], workload.uid, version=version, foreground=True)
        case decide.Roll():
            await _scale(kube, world, 0, {marks.ROLLING: "true"})
        case decide.Rest():
            await _scale(kube, world, 0)
        case decide.Refuse(resume=True):
            await _scale(kube, world, 1)
        case decide.Stop() | decide.Refuse(stop=True):
            await _scale(kube, world, 0)
        case decide.GiveUp(why):
            await _scale(kube, world, 0, {marks.GIVEN_UP: why.render()})


async def _ensure_surroundings(kube: Kube, world: World, children: Children, config_map: str | None = None) -> None:
    """What the pod needs, in the order in which it needs it; the workload comes after all of them.

    `config_map`: the one that the running driver has, if it is another than the present spec would make.
    """
    if world.claim is None and children.claim is not None:
        await _create(kube, Resource.CLAIMS, children.claim)
    if world.claim is not None and world.claim.record is None and children.record is not None:
        await _take_folder(kube, children.record)
    name = children.config_map["metadata"]["name"]
    if name not in world.config_maps and config_map in {None, name}:
        await _create(kube, Resource.CONFIG_MAPS, children.config_map)
    if not world.has_service:
        await _create(kube, Resource.SERVICES, children.service)


async def _create(kube: Kube, resource: Resource, body: Json) -> None:
    try:
        await _write(kube.create(resource, body["metadata"]["namespace"], body), body)
    except AlreadyExists:
        await _check_taken(kube, resource, body)


async def _write(request: Awaitable[Json], body: Json) -> Json:
    """The answer. A refusal says what was refused."""
    try:
        return await request
    except ApiRefused as error:
        error.kind = body["kind"]
        raise


async def _take_folder(kube: Kube, record: Json) -> None:
    """The name of the record is the lock: of two jobs that want a folder at once, one creates it."""
    metadata = record["metadata"]
    try:
        await _write(kube.create(Resource.CONFIG_MAPS, metadata["namespace"], record), record)
    except AlreadyExists as error:
        found = await kube.get(Resource.CONFIG_MAPS, metadata["namespace"], metadata["name"])
        holder = found["metadata"].get("labels", {}).get(names.LABEL_JOB) if found else None
        if found is None or holder == metadata["labels"][names.LABEL_JOB]:
            raise ApiConflict("the checkpoint's record came or went a moment ago; it is read first") from error
        raise CheckpointTaken(f"DedupJob {holder}" if holder else f"ConfigMap {metadata['name']}") from error


async def _check_taken(kube: Kube, resource: Resource, body: Json) -> None:
    """Our own of an instant ago (the answer was lost, or a second look was faster) is fine; anybody else's is not."""
    metadata = body["metadata"]
    found = await kube.get(resource, metadata["namespace"], metadata["name"])
    if found is None:
        # What had the name went in between. Going on would make the StatefulSet, and beside that a missing claim counts as lost.
        raise ApiConflict(f"{body['kind']} {metadata['name']} was there and is gone: it is made in the next round")
    owners = found["metadata"].get("ownerReferences", [])
    of_earlier = any((owner["kind"], owner["name"]) == (names.KIND, metadata["labels"][names.LABEL_JOB]) for owner in owners)
    wanted, present = ({owner["uid"] for owner in item} for item in (metadata.get("ownerReferences", []), owners))
    if "deletionTimestamp" in found["metadata"] or (of_earlier and not wanted & present):
        raise ApiConflict(f"{body['kind']} {metadata['name']} of an earlier start is being removed")
    if wanted & present:
        return
    if body["kind"] != "PersistentVolumeClaim" or not is_marked(found["metadata"], metadata["labels"][names.LABEL_JOB]):
        raise NameTaken(f"{body['kind']} {metadata['name']}")
    # Ours, and kept without an owner. One that we did not make this instant may hold keys: it is read before anything is put on it.
    if wanted or present or _find_config(found) != _find_config(body):
        raise ApiConflict(f"claim {metadata['name']} is there already; it is read first")


def _find_config(claim: Json) -> str | None:
    config: str | None = claim["metadata"].get("annotations", {}).get(marks.CHECKPOINT_CONFIG)
    return config


async def _replace_workload(kube: Kube, body: Json, *, changes_spec: bool) -> None:
    """Notes the generation that it has afterwards, see `marks.APPLIED_GENERATION`. What the API server takes for no change of the spec it
    alone knows, so its answer is looked at."""
    resource, generation = WORKLOADS[Kind(body["kind"])], body["metadata"]["generation"] + changes_spec
    body["metadata"].setdefault("annotations", {})[marks.APPLIED_GENERATION] = str(generation)
    written = await _write(kube.replace(resource, body), body)
    if written["metadata"]["generation"] != generation:
        written["metadata"]["annotations"][marks.APPLIED_GENERATION] = str(written["metadata"]["generation"])
        await kube.replace(resource, {**written, "kind": body["kind"]})


async def _start(kube: Kube, workload: Workload | None, children: Children) -> None:
    wanted = children.workload
    if workload is None:
        await _create(kube, WORKLOADS[Kind(wanted["kind"])], wanted)
        return
    # One write for template and replicas: there is no moment at which one pod could come from two templates.
    body = deepcopy(workload.raw)
    passing = {marks.GIVEN_UP, marks.ROLLING}
    annotations = {key: value for key, value in body["metadata"].get("annotations", {}).items() if key not in passing}
    body["metadata"]["annotations"] = {**annotations, **wanted["metadata"]["annotations"]}
    fields = CHANGEABLE[workload.kind]
    body["spec"].update(deepcopy({field: value for field, value in wanted["spec"].items() if field in fields}))
    await _replace_workload(kube, body, changes_spec=True)


async def _scale(kube: Kube, world: World, replicas: int, annotations: dict[str, str] | None = None) -> None:
    """At 0 the runs of a schedule stop too: a CronJob that is suspended only begins no more."""
    workload = world.workload
    if workload is None:
        return
    known = workload.raw["metadata"].get("annotations", {})
    merged = {key: value for key, value in known.items() if key != marks.ROLLING} | (annotations or {})
    if not workload.ended and (workload.replicas != replicas or merged != known):
        body = deepcopy(workload.raw)
        body["metadata"]["annotations"] = merged
        body["spec"] = build_scaled(body, replicas)
        if workload.drifted:  # what somebody else has changed is still to be mended
            await _write(kube.replace(WORKLOADS[workload.kind], body), body)
        else:
            await _replace_workload(kube, body, changes_spec=workload.replicas != replicas)
    if replicas == 0:
        await _stop_runs(kube, world)


async def _stop_runs(kube: Kube, world: World) -> None:
    """In foreground: a run is there until its pod is gone."""
    if world.workload is None:
        return
    namespace = world.workload.raw["metadata"]["namespace"]
    for run in world.workload.runs:
        if not run.deleting:
            await kube.delete(Resource.JOBS, namespace, run.name, run.uid, foreground=True)


async def _sweep(kube: Kube, namespace: str, world: World) -> None:
    """Removes the settings of earlier starts. Never those that a workload or a run names."""
    if world.workload is None:
        return
    for name, uid in world.config_map_uids:
        if name not in world.used_config_maps:
            await kube.delete(Resource.CONFIG_MAPS, namespace, name, uid)
