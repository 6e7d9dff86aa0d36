"""Changes to the object that records a checkpoint: the operator's
own claim, or the record of a folder on a user's claim."""

from __future__ import annotations

from copy import deepcopy

from dedup_api.checkpoint import ReclaimPolicy
from dedup_api.quantities import parse_quantity
from dedup_operator.domain.annotations import CHECKPOINT_BEGUN, CLAIM_UID
from dedup_operator.domain.manifests import Children
from dedup_operator.domain.manifests.claim import build_claim_annotations
from dedup_operator.domain.manifests.metadata import build_owner_reference
from dedup_operator.domain.observe.checkpoint import CheckpointClaim
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import Invalid, ValidJob


def should_release_claim(job: ValidJob | Invalid, claim: CheckpointClaim) -> bool:
    """Whether the claim must lose its owner although the spec is invalid. `reclaimPolicy: Retain` must take effect
    before the spec is valid again, because the DedupJob may be deleted before that."""
    return isinstance(job, Invalid) and job.retain and claim.owned and not claim.deleting


def build_released_claim(uid: str, claim: CheckpointClaim) -> Json:
    """The claim without its owner, the DedupJob with this `uid`, so that it outlives the DedupJob."""
    body = deepcopy(claim.raw)
    body["metadata"]["ownerReferences"] = _list_other_owners(body, uid)
    return body


def build_annotated_claim(observed: ObservedState, claim: CheckpointClaim, children: Children) -> Json:
    """The claim with annotations that say what its keys belong to."""
    body = {**claim.raw, "metadata": deepcopy(claim.raw["metadata"])}
    if _may_annotate(observed, claim):
        _set_annotations(body, claim, children)
    return body


def build_owned_claim(body: Json, job: ValidJob, claim: CheckpointClaim) -> Json:
    """`body`, the claim as it was written last, with the owner that the spec asks for."""
    owned = {**body, "metadata": deepcopy(body["metadata"])}
    set_owner(owned, job, claim)
    return owned


def build_grown_claim(claim: Json, observed: CheckpointClaim, children: Children) -> Json | None:
    """The claim with the larger size that the spec asks for.

    None when it need not or cannot grow. A claim never shrinks.
    """
    if children.claim is None or observed.phase != "Bound":
        return None
    wanted = children.claim["spec"]["resources"]["requests"]["storage"]
    if parse_quantity(wanted) <= parse_quantity(observed.size):
        return None
    grown = deepcopy(claim)
    grown["spec"]["resources"]["requests"]["storage"] = wanted
    return grown


def build_updated_record(observed: ObservedState, claim: CheckpointClaim, children: Children) -> Json | None:
    """The record with annotations that say which claim and which settings its keys belong to.

    None when there is nothing to change.
    """
    if claim.record is None or not _may_annotate(observed, claim):
        return None
    body = deepcopy(claim.record)
    _set_annotations(body, claim, children)
    annotations = body["metadata"]["annotations"]
    if not claim.has_state or CLAIM_UID not in annotations:
        annotations[CLAIM_UID] = claim.raw["metadata"]["uid"]
    return body


def _may_annotate(observed: ObservedState, claim: CheckpointClaim) -> bool:
    """While another driver may still write keys, nobody knows to which settings they will belong."""
    return observed.cleanup_complete and not claim.state_unknown


def _set_annotations(body: Json, claim: CheckpointClaim, children: Children) -> None:
    """Without state, the checkpoint belongs to the present settings.

    With state, it always belongs to the settings that made it.
    """
    annotations = body["metadata"].setdefault("annotations", {})
    if claim.has_state:
        annotations[CHECKPOINT_BEGUN] = "true"
        if not claim.annotated and claim.config is not None:
            annotations.update(build_claim_annotations(claim.config))
    else:
        annotations.update((children.claim or children.record or body)["metadata"]["annotations"])


def set_owner(body: Json, job: ValidJob, claim: CheckpointClaim) -> None:
    """Makes the DedupJob the owner only with `reclaimPolicy: Delete`:
    the garbage collector deletes a claim together with its owner."""
    owned = job.spec.checkpoint.reclaim_policy is ReclaimPolicy.DELETE
    if owned == claim.owned:
        return
    others = _list_other_owners(body, job.uid)
    body["metadata"]["ownerReferences"] = [*others, build_owner_reference(job)] if owned else others


def _list_other_owners(raw: Json, uid: str) -> list[Json]:
    return [owner for owner in raw["metadata"].get("ownerReferences", []) if owner["uid"] != uid]
