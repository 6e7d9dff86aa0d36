"""What the operator writes on its objects to know them again: labels, annotations and owner references."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dedup_api import names
from dedup_api.reasons import Reason
from dedup_api.status import DriverExit
from dedup_operator.domain.validate import ValidJob

APPLIED_SPEC = f"{names.GROUP}/applied-spec"
"""On the workload, and on each run of a schedule: the part of the spec that its template was made from."""
APPLIED_GENERATION = f"{names.GROUP}/applied-generation"
"""On it too: its metadata.generation after the operator's last write. Another one means that somebody else has changed its spec. Never
compared with what today's builders would make, so that a new version or default is no change."""
CHECKPOINT_CONFIG = f"{names.GROUP}/checkpoint-config"
"""On the claim: the job.json that its state belongs to. Survives the DedupJob, so that a later one of the same name is
compared with it field by field."""
CHECKPOINT_IDENTITY = f"{names.GROUP}/checkpoint-identity"
"""On the claim: the hash that status shows, for people."""
CHECKPOINT_BEGUN = f"{names.GROUP}/checkpoint-begun"
"""On the claim: a driver may have stored keys in it. Before that, edits of any field are free."""
CLAIM_UID = f"{names.GROUP}/claim-uid"
"""On the record of a shared claim: which claim its keys are on. Another one of the same name has none of them."""
ROLLING = f"{names.GROUP}/rolling"
"""On the StatefulSet: it is at 0 only until its pod is gone, for other settings of the same job."""
GIVEN_UP = f"{names.GROUP}/given-up"
"""On the StatefulSet: why and at which generation the operator stopped trying."""

OWN_SELECTOR = f"{names.LABEL_MANAGED_BY}={names.MANAGER}"
"""What the operator watches: nothing of others passes over the wire."""


@dataclass(frozen=True)
class GivenUp:
    generation: int
    reason: Reason
    message: str
    exit: DriverExit | None = None
    """That of the driver. Its pod goes with the decision, and the status is written after that: an operator that ends in between has it
    from here."""

    def render(self) -> str:
        document: dict[str, Any] = {"generation": self.generation, "reason": self.reason, "message": self.message}
        return json.dumps(document | ({"exit": self.exit.to_json_dict()} if self.exit else {}))


def parse_given_up(text: str | None) -> GivenUp | None:
    """What `GivenUp.render` wrote; None where nothing legible is kept."""
    try:
        document = json.loads(text) if text else {}
        exit = DriverExit.model_validate(document["exit"]) if "exit" in document else None
        return GivenUp(int(document["generation"]), Reason(document["reason"]), str(document["message"]), exit)
    except (ValueError, KeyError, TypeError):
        return None


def build_labels(job_name: str) -> dict[str, str]:
    """Labels of every child. The DedupJob's own are never copied: Argo CD and Helm would take the children for theirs."""
    return {
        names.LABEL_NAME: names.DRIVER_APP,
        names.LABEL_MANAGED_BY: names.MANAGER,
        names.LABEL_JOB: job_name,
    }


def build_owner_reference(job: ValidJob) -> dict[str, Any]:
    """Lets the garbage collector remove a child with its DedupJob, without a finalizer and without blocking the deletion."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def build_metadata(job: ValidJob, name: str, *, owned: bool = True, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """Metadata of a child."""
    metadata: dict[str, Any] = {"name": name, "namespace": job.namespace, "labels": build_labels(job.name)}
    if annotations:
        metadata["annotations"] = annotations
    if owned:
        metadata["ownerReferences"] = [build_owner_reference(job)]
    return metadata
