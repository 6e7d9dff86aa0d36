"""The claim for the checkpoint, or the record of a folder on a claim of the user.

The operator creates the claim itself, not with the template of a StatefulSet, so that it controls size and retention.
"""

from __future__ import annotations

from dedup_api import names
from dedup_api.changes import state_identity
from dedup_api.checkpoint import ReclaimPolicy
from dedup_api.job_config import JobConfig
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG, CHECKPOINT_IDENTITY
from dedup_operator.domain.driver_settings import DriverSettings, render_config
from dedup_operator.domain.manifests.metadata import build_metadata
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob


def build_claim_annotations(config: JobConfig) -> dict[str, str]:
    """The settings to which the keys of a checkpoint belong. `updates/checkpoint.py` says when they are written."""
    return {
        CHECKPOINT_CONFIG: render_config(config),
        CHECKPOINT_IDENTITY: state_identity(config),
    }


def build_claim(job: ValidJob, settings: DriverSettings) -> Json | None:
    """With `reclaimPolicy: Retain` the claim has no owner, so it outlives the DedupJob.

    None when the user provides the claim.
    """
    claim = job.spec.checkpoint.own_claim
    if claim is None:
        return None
    spec: Json = {
        "accessModes": [claim.access_mode.value],
        "resources": {"requests": {"storage": str(claim.size)}},
        "volumeMode": "Filesystem",
    }
    if claim.storage_class_name is not None:
        spec["storageClassName"] = claim.storage_class_name
    owned = job.spec.checkpoint.reclaim_policy is ReclaimPolicy.DELETE
    annotations = build_claim_annotations(settings.config)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": build_metadata(job, names.claim_name(job.name), owned=owned, annotations=annotations),
        "spec": spec,
    }


def build_record(job: ValidJob, settings: DriverSettings) -> Json | None:
    """Records which DedupJob uses a folder on a claim of the user, and with which settings. It has no owner, because
    the folder outlives the DedupJob. None when the operator creates the claim."""
    existing = job.spec.checkpoint.existing
    if existing is None:
        return None
    folder = names.folder_name(job.name, existing.sub_path)
    name = names.record_name(existing.claim_name, folder)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(job, name, owned=False, annotations=build_claim_annotations(settings.config)),
        "data": {"claim": existing.claim_name, "folder": folder, "dedupJob": job.name},
    }
