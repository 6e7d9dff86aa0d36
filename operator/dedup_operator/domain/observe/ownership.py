"""Who owns an object: this DedupJob, an earlier DedupJob of the same name, or something else."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from dedup_api import names
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG
from dedup_operator.domain.errors import ApiConflict, CheckpointTaken, DedupOperatorError, NameTaken
from dedup_operator.domain.types import Json


class Ownership(Enum):
    OURS = "ours"
    TERMINATING = "terminating"
    """Kubernetes is deleting it, or will delete it together with an
    earlier DedupJob of this name. The operator waits for that."""
    CONFLICTING = "conflicting"
    """It has a name that the operator needs, and it belongs to something else."""
    ORPHANED = "orphaned"
    """A pod that has this DedupJob's label and no owner. It may be a driver whose owner reference was removed."""


def find_controller(raw: Json) -> Json | None:
    """The owner reference that has `controller: true`."""
    owners = raw["metadata"].get("ownerReferences", [])
    return next((owner for owner in owners if owner.get("controller")), None)


def is_deleting(raw: Json) -> bool:
    return "deletionTimestamp" in raw["metadata"]


def is_labelled_for(metadata: Json, name: str) -> bool:
    """Whether the operator created the object for a DedupJob of this name."""
    labels = metadata.get("labels", {})
    return bool(labels.get(names.LABEL_MANAGED_BY) == names.MANAGER and labels.get(names.LABEL_JOB) == name)


def observe_ownership(raw: Json, uid: str, name: str) -> Ownership:
    """For a child whose controller is the DedupJob `name` with this `uid`."""
    owner = find_controller(raw)
    if owner is None:
        return Ownership.CONFLICTING
    if owner["uid"] == uid:
        return Ownership.TERMINATING if is_deleting(raw) else Ownership.OURS
    return Ownership.TERMINATING if (owner["kind"], owner["name"]) == (names.KIND, name) else Ownership.CONFLICTING


def observe_pod_ownership(pod: Json, controllers: Collection[str], name: str) -> Ownership:
    """`controllers`: the UIDs of everything that may create a pod for this DedupJob."""
    owner = find_controller(pod)
    if owner is not None and owner["uid"] in controllers:
        return Ownership.OURS
    of_driver = owner is not None and (owner["kind"], owner["name"]) == ("StatefulSet", names.driver_name(name))
    if of_driver or is_deleting(pod):
        return Ownership.TERMINATING
    if pod["metadata"]["name"] == names.driver_pod_name(name):
        return Ownership.CONFLICTING
    return Ownership.ORPHANED if owner is None else Ownership.TERMINATING  # its Kubernetes Job is gone already


def observe_claim_ownership(claim: Json, started: bool, uid: str, name: str) -> Ownership:
    """A retained claim has no owner, so its labels and annotations identify it.

    `started`: a workload exists that uses the claim.
    """
    metadata = claim["metadata"]
    owners = metadata.get("ownerReferences", [])
    if owners and not any(owner["uid"] == uid for owner in owners):
        return Ownership.TERMINATING if _belongs_to_earlier_job(owners, name) else Ownership.CONFLICTING
    if not is_labelled_for(metadata, name) or (not started and CHECKPOINT_CONFIG not in metadata.get("annotations", {})):
        return Ownership.CONFLICTING
    return Ownership.TERMINATING if is_deleting(claim) and not started else Ownership.OURS


def _belongs_to_earlier_job(owners: list[Json], name: str) -> bool:
    return any((owner["kind"], owner["name"]) == (names.KIND, name) for owner in owners)


def find_name_conflict(wanted: Json, found: Json | None) -> DedupOperatorError | None:
    """Why the operator cannot use the name of the child `wanted`, whose creation failed with "already exists".

    `found`: the object that has the name, None when it is gone again. The result is None when the object is our own.
    Then the answer to an earlier request was lost, or another reconciliation was faster.
    """
    kind, name, job = wanted["kind"], wanted["metadata"]["name"], wanted["metadata"]["labels"][names.LABEL_JOB]
    if found is None:
        # To continue would create the StatefulSet next. A claim that is missing beside a StatefulSet counts as lost.
        return ApiConflict(f"{kind} {name} existed and is gone now; the operator creates it in the next reconciliation")
    owners = found["metadata"].get("ownerReferences", [])
    wanted_uids, present_uids = ({owner["uid"] for owner in refs} for refs in (wanted["metadata"].get("ownerReferences", []), owners))
    shared = wanted_uids & present_uids
    if is_deleting(found) or (not shared and _belongs_to_earlier_job(owners, job)):
        return ApiConflict(f"{kind} {name} of an earlier start is being deleted")
    if shared:
        return None
    if kind != "PersistentVolumeClaim" or not is_labelled_for(found["metadata"], job):
        return NameTaken(f"{kind} {name}")
    if not wanted_uids and not present_uids and _find_checkpoint_config(found) == _find_checkpoint_config(wanted):
        return None
    # A retained claim that this reconciliation did not create may hold keys.
    return ApiConflict(f"claim {name} exists already; the operator reads it before it starts a driver")


def find_record_conflict(wanted: Json, found: Json | None) -> DedupOperatorError:
    """Why the operator cannot create the record `wanted`, whose creation failed with "already exists". The name of the
    record is a lock: of two DedupJobs that want one folder at the same time, only one can create it. `found`: the
    ConfigMap that has the name."""
    owner = found["metadata"].get("labels", {}).get(names.LABEL_JOB) if found else None
    if found is None or owner == wanted["metadata"]["labels"][names.LABEL_JOB]:
        return ApiConflict("the checkpoint's record was created or deleted a moment ago; the operator reads it first")
    return CheckpointTaken(f"DedupJob {owner}" if owner else f"ConfigMap {wanted['metadata']['name']}, which the operator did not create")


def _find_checkpoint_config(claim: Json) -> str | None:
    config: str | None = claim["metadata"].get("annotations", {}).get(CHECKPOINT_CONFIG)
    return config
