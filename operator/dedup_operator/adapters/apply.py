"""Carries a decision out: writes only. Each write says which object it means, so that a late one is refused or harmless."""

from __future__ import annotations

from copy import deepcopy

from dedup_api.quantities import parse_quantity
from dedup_api.spec import ReclaimPolicy
from dedup_operator.adapters.kube import AlreadyExists, Json, Kube, Resource
from dedup_operator.domain import decide, marks
from dedup_operator.domain.build import Children
from dedup_operator.domain.build.claim import build_claim_annotations
from dedup_operator.domain.errors import ApiRefused, NameTaken
from dedup_operator.domain.observe import CheckpointClaim, DriverSet, World
from dedup_operator.domain.validate import ValidJob


async def apply_claim(kube: Kube, job: ValidJob, claim: CheckpointClaim, children: Children, *, settled: bool) -> str:
    """`settled`: no object of an earlier job of the name is left that could still write to the checkpoint.

    Size, owner and mark of the claim, all of them live. Returns what went wrong; it does not concern the driver."""
    body = deepcopy(claim.raw)
    _set_owner(body, job, claim)
    if settled and not claim.doubtful:
        _set_marks(body, claim, children)
    wanted = children.claim["spec"]["resources"]["requests"]["storage"]
    if claim.phase == "Bound" and parse_quantity(wanted) > parse_quantity(claim.size):
        body["spec"]["resources"]["requests"]["storage"] = wanted
    if body == claim.raw:
        return ""
    try:
        await kube.replace(Resource.CLAIMS, body)
    except ApiRefused as error:
        return f"It could not be changed: {error}"
    return ""


def _set_marks(body: Json, claim: CheckpointClaim, children: Children) -> None:
    """What the stored keys belong to: the present settings until there are any, then for good those of the beginning."""
    annotations = body["metadata"].setdefault("annotations", {})
    if claim.begun:
        annotations[marks.CHECKPOINT_BEGUN] = "true"
        if not claim.marked and claim.config is not None:
            annotations.update(build_claim_annotations(claim.config))
    else:
        annotations.update(children.claim["metadata"]["annotations"])


def _set_owner(body: Json, job: ValidJob, claim: CheckpointClaim) -> None:
    """An owner only with `Delete`: that is what makes the claim go with the job."""
    owned = job.spec.checkpoint.reclaim_policy is ReclaimPolicy.DELETE
    if owned == claim.owned:
        return
    others = [owner for owner in body["metadata"].get("ownerReferences", []) if owner["uid"] != job.uid]
    body["metadata"]["ownerReferences"] = [*others, marks.build_owner_reference(job)] if owned else others


async def apply_decision(kube: Kube, namespace: str, world: World, children: Children | None, decision: decide.Decision) -> None:
    """`children` is None only where the spec is invalid. Raises ApiRefused and NameTaken for the job's condition to tell."""
    match decision:
        case decide.Start() if children is not None:
            await _ensure_surroundings(kube, world, children)
            await _start(kube, world.set, children)
        case decide.Keep() if children is not None:
            await _ensure_surroundings(kube, world, children, config_map=world.set.config_map if world.set else None)
            await _scale(kube, world.set, 1)
            await _sweep(kube, namespace, world)
        case decide.Roll():
            await _scale(kube, world.set, 0, {marks.ROLLING: "true"})
        case decide.Rest():
            await _scale(kube, world.set, 0)
        case decide.Refuse(resume=True):
            await _scale(kube, world.set, 1)
        case decide.Stop() | decide.Refuse(stop=True):
            await _scale(kube, world.set, 0)
        case decide.GiveUp(why):
            await _scale(kube, world.set, 0, {marks.GIVEN_UP: why.render()})


async def _ensure_surroundings(kube: Kube, world: World, children: Children, config_map: str | None = None) -> None:
    """What the pod needs, in the order in which it needs it; the StatefulSet comes after all of them.

    `config_map`: the one that the running driver has, if it is another than the present spec would make.
    """
    if world.claim is None:
        await _create(kube, Resource.CLAIMS, children.claim)
    name = children.config_map["metadata"]["name"]
    if name not in world.config_maps and config_map in {None, name}:
        await _create(kube, Resource.CONFIG_MAPS, children.config_map)
    if not world.has_service:
        await _create(kube, Resource.SERVICES, children.service)


async def _create(kube: Kube, resource: Resource, body: Json) -> None:
    metadata = body["metadata"]
    try:
        await kube.create(resource, metadata["namespace"], body)
    except AlreadyExists:
        await _check_taken(kube, resource, body)
    except ApiRefused as error:
        error.kind = body["kind"]
        raise


async def _check_taken(kube: Kube, resource: Resource, body: Json) -> None:
    """Our own of an instant ago (the answer was lost, or a second look was faster) is fine; anybody else's is not."""
    metadata = body["metadata"]
    found = await kube.get(resource, metadata["namespace"], metadata["name"])
    wanted = {owner["uid"] for owner in metadata.get("ownerReferences", [])}
    if found is None or not wanted or wanted & {owner["uid"] for owner in found["metadata"].get("ownerReferences", [])}:
        return
    raise NameTaken(f"{body['kind']} {metadata['name']}")


async def _start(kube: Kube, driver_set: DriverSet | None, children: Children) -> None:
    if driver_set is None:
        await _create(kube, Resource.STATEFUL_SETS, children.stateful_set)
        return
    # One write for template and replicas: there is no moment at which one pod could come from two templates.
    body = deepcopy(driver_set.raw)
    wanted = children.stateful_set
    passing = {marks.GIVEN_UP, marks.ROLLING}
    annotations = {key: value for key, value in body["metadata"].get("annotations", {}).items() if key not in passing}
    body["metadata"]["annotations"] = {**annotations, **wanted["metadata"]["annotations"]}
    body["spec"]["template"] = wanted["spec"]["template"]
    body["spec"]["updateStrategy"] = wanted["spec"]["updateStrategy"]
    body["spec"]["replicas"] = 1
    await kube.replace(Resource.STATEFUL_SETS, body)


async def _scale(kube: Kube, driver_set: DriverSet | None, replicas: int, annotations: dict[str, str] | None = None) -> None:
    if driver_set is None:
        return
    known = driver_set.raw["metadata"].get("annotations", {})
    merged = {key: value for key, value in known.items() if key != marks.ROLLING} | (annotations or {})
    if driver_set.replicas == replicas and merged == known:
        return
    body = deepcopy(driver_set.raw)
    body["metadata"]["annotations"] = merged
    body["spec"]["replicas"] = replicas
    await kube.replace(Resource.STATEFUL_SETS, body)


async def _sweep(kube: Kube, namespace: str, world: World) -> None:
    """Removes the settings of earlier starts. Never those that the StatefulSet names."""
    if world.set is None:
        return
    for name, uid in world.config_map_uids:
        if name != world.set.config_map:
            await kube.delete(Resource.CONFIG_MAPS, namespace, name, uid)
