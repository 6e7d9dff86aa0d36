"""Where a DedupJob's checkpoint is: on a claim of its own, or in a folder of the one that several may share."""

from __future__ import annotations

from dedup_api import names
from simulation.api_server import Address, Json, Kind

SHARED_CLAIM = "shared"
"""The users' claim, in seeds that have one."""


def find_checkpoint_location(spec: Json, job: str) -> tuple[str, str]:
    """Claim and folder; no folder where the claim is the job's own."""
    existing = (spec.get("checkpoint") or {}).get("existing")
    return (existing["claimName"], names.folder_name(job, existing.get("subPath"))) if existing else (names.claim_name(job), "")


def find_checkpoint_object(spec: Json, namespace: str, job: str) -> Address:
    return build_checkpoint_object_address(namespace, *find_checkpoint_location(spec, job))


def build_checkpoint_object_address(namespace: str, claim: str, folder: str) -> Address:
    """The object that says what the keys belong to."""
    return Address(Kind.CONFIG_MAPS, namespace, names.record_name(claim, folder)) if folder else Address(Kind.CLAIMS, namespace, claim)


def find_claim_name(pod: Json) -> str:
    """Of a pod or of the template of one."""
    volumes = pod["spec"]["volumes"]
    return next((str(volume["persistentVolumeClaim"]["claimName"]) for volume in volumes if "persistentVolumeClaim" in volume), "")


def find_mounted_location(pod: Json) -> tuple[str, str]:
    """Claim and folder of a pod or of the template of one."""
    mounts = (mount for container in pod["spec"]["containers"] for mount in container.get("volumeMounts", ()))
    return find_claim_name(pod), next((str(mount.get("subPath", "")) for mount in mounts if mount["mountPath"] == names.CHECKPOINT_DIR), "")


def build_volume_key(claim_uid: str, folder: str) -> str:
    return f"{claim_uid}/{folder}"


def is_folder_record(body: Json) -> bool:
    """Whether a ConfigMap is the record of a folder."""
    return "folder" in body.get("data", {})
