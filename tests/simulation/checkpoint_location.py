"""Where the checkpoint of a DedupJob is: on its own claim, or in a folder of a claim that several DedupJobs share."""

from __future__ import annotations

from dedup_api import names
from simulation.api_server import Address, Json, Kind

SHARED_CLAIM = "shared"
"""The name of the claim that users create, in seeds in which jobs share a claim."""


def find_checkpoint_location(spec: Json, job: str) -> tuple[str, str]:
    """(claim, folder). The folder is empty if the job has its own claim."""
    existing = (spec.get("checkpoint") or {}).get("existing")
    return (existing["claimName"], names.folder_name(job, existing.get("subPath"))) if existing else (names.claim_name(job), "")


def find_checkpoint_object_address(spec: Json, namespace: str, job: str) -> Address:
    return build_checkpoint_object_address(namespace, *find_checkpoint_location(spec, job))


def build_checkpoint_object_address(namespace: str, claim: str, folder: str) -> Address:
    """The object whose annotations describe the stored keys: the job's own claim, or the record of its folder (a
    ConfigMap)."""
    return Address(Kind.CONFIG_MAPS, namespace, names.record_name(claim, folder)) if folder else Address(Kind.CLAIMS, namespace, claim)


def find_claim_name(pod: Json) -> str:
    """The claim of a pod or of a pod template."""
    volumes = pod["spec"]["volumes"]
    return next((str(volume["persistentVolumeClaim"]["claimName"]) for volume in volumes if "persistentVolumeClaim" in volume), "")


def find_mounted_location(pod: Json) -> tuple[str, str]:
    """(claim, folder) that a pod or a pod template mounts."""
    mounts = (mount for container in pod["spec"]["containers"] for mount in container.get("volumeMounts", ()))
    return find_claim_name(pod), next((str(mount.get("subPath", "")) for mount in mounts if mount["mountPath"] == names.CHECKPOINT_DIR), "")


def build_volume_key(claim_uid: str, folder: str) -> str:
    return f"{claim_uid}/{folder}"


def is_folder_record(body: Json) -> bool:
    """Whether a ConfigMap is the record of a folder. The other ConfigMaps hold a driver's settings."""
    return "folder" in body.get("data", {})
