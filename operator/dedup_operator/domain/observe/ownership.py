"""Whose an object is: this job's, that of an earlier job of the same name and on its way out, or somebody else's."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Any

from dedup_api import names
from dedup_operator.domain import annotations as marks

Json = dict[str, Any]


class Ownership(Enum):
    OURS = "ours"
    LEAVING = "leaving"
    """Of an earlier DedupJob of this name, or of ours, and on its way out: wait."""
    FOREIGN = "foreign"
    STRAY = "stray"
    """Of a pod: it bears this job's label, and nobody owns it. It may be a driver that its owner was taken from."""


def find_controller(raw: Json) -> Json | None:
    owners = raw["metadata"].get("ownerReferences", [])
    return next((owner for owner in owners if owner.get("controller")), None)


def is_deleting(raw: Json) -> bool:
    return "deletionTimestamp" in raw["metadata"]


def observe_ownership(raw: Json, uid: str, name: str) -> Ownership:
    """Of a child that the DedupJob `name` with `uid` controls."""
    owner = find_controller(raw)
    if owner is None:
        return Ownership.FOREIGN
    if owner["uid"] == uid:
        return Ownership.LEAVING if is_deleting(raw) else Ownership.OURS
    return Ownership.LEAVING if (owner["kind"], owner["name"]) == (names.KIND, name) else Ownership.FOREIGN


def observe_pod_ownership(pod: Json, controllers: Collection[str], name: str) -> Ownership:
    """`controllers`: UIDs of what makes this job's pods."""
    owner = find_controller(pod)
    if owner is not None and owner["uid"] in controllers:
        return Ownership.OURS
    of_driver = owner is not None and (owner["kind"], owner["name"]) == ("StatefulSet", names.driver_name(name))
    if of_driver or is_deleting(pod):
        return Ownership.LEAVING
    if pod["metadata"]["name"] == names.driver_pod_name(name):
        return Ownership.FOREIGN
    return Ownership.STRAY if owner is None else Ownership.LEAVING  # of a Job that is gone already


def observe_claim_ownership(claim: Json, started: bool, uid: str, name: str) -> Ownership:
    """A retained claim has no owner: labels and what it was made with are its mark. `started`: there is a workload that uses it."""
    metadata = claim["metadata"]
    owners = metadata.get("ownerReferences", [])
    if owners and not any(owner["uid"] == uid for owner in owners):
        of_earlier = any((owner["kind"], owner["name"]) == (names.KIND, name) for owner in owners)
        return Ownership.LEAVING if of_earlier else Ownership.FOREIGN
    if not is_marked(metadata, name) or (not started and marks.CHECKPOINT_CONFIG not in metadata.get("annotations", {})):
        return Ownership.FOREIGN
    return Ownership.LEAVING if is_deleting(claim) and not started else Ownership.OURS


def is_marked(metadata: Json, name: str) -> bool:
    """Whether the operator made it for a DedupJob of this name."""
    labels = metadata.get("labels", {})
    return bool(labels.get(names.LABEL_MANAGED_BY) == names.MANAGER and labels.get(names.LABEL_JOB) == name)
