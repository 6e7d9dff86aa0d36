"""The metadata of the driver's objects: labels, annotations and the owner reference."""

from __future__ import annotations

from dedup_api import names
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob


def build_labels(job_name: str) -> dict[str, str]:
    """The labels of every child. The operator never copies the DedupJob's own labels, because Argo CD and Helm would
    then treat the children as theirs."""
    return {
        names.LABEL_NAME: names.DRIVER_APP,
        names.LABEL_MANAGED_BY: names.MANAGER,
        names.LABEL_JOB: job_name,
    }


def build_owner_reference(job: ValidJob) -> Json:
    """With it the garbage collector deletes a child together with its DedupJob.

    There is no finalizer, and nothing blocks the deletion.
    """
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def build_metadata(job: ValidJob, name: str, *, owned: bool = True, annotations: dict[str, str] | None = None) -> Json:
    metadata: Json = {"name": name, "namespace": job.namespace, "labels": build_labels(job.name)}
    if annotations:
        metadata["annotations"] = annotations
    if owned:
        metadata["ownerReferences"] = [build_owner_reference(job)]
    return metadata
