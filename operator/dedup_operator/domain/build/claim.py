"""The volume claim of the checkpoint. The operator makes it itself, so that size and retention stay in its hands."""

from __future__ import annotations

from typing import Any

from dedup_api import names
from dedup_api.changes import state_identity
from dedup_api.job_config import JobConfig
from dedup_api.spec import ReclaimPolicy
from dedup_operator.domain import marks
from dedup_operator.domain.inputs import DriverInputs, render_config
from dedup_operator.domain.validate import ValidJob


def build_claim_annotations(config: JobConfig) -> dict[str, str]:
    """What the stored keys belong to, or will: see `apply._set_marks`."""
    return {
        marks.CHECKPOINT_CONFIG: render_config(config),
        marks.CHECKPOINT_IDENTITY: state_identity(config),
    }


def build_claim(job: ValidJob, inputs: DriverInputs) -> dict[str, Any]:
    """With `reclaimPolicy: Retain` it has no owner, so nothing removes it with the job."""
    checkpoint = job.spec.checkpoint
    spec: dict[str, Any] = {
        "accessModes": [checkpoint.claim.access_mode.value],
        "resources": {"requests": {"storage": str(checkpoint.claim.size)}},
        "volumeMode": "Filesystem",
    }
    if checkpoint.claim.storage_class_name is not None:
        spec["storageClassName"] = checkpoint.claim.storage_class_name
    owned = checkpoint.reclaim_policy is ReclaimPolicy.DELETE
    annotations = build_claim_annotations(inputs.config)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": marks.build_metadata(job, names.claim_name(job.name), owned=owned, annotations=annotations),
        "spec": spec,
    }
