"""What the builders of the driver's objects (`manifests/`) and the code that reads these objects must agree on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath

from dedup_api import names
from dedup_api.checkpoint import Checkpoint
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.types import Json

CONFIG_KEY = PurePath(names.CONFIG_FILE).name
"""The key of the ConfigMap under which the driver finds its settings."""
TERMINATION_GRACE_SECONDS = 120
"""Time for the driver to finish its micro-batch and to commit. A
micro-batch takes seconds, but a slow broker can make it minutes."""
STARTUP_SECONDS = 300
"""Time for the driver to answer its startup probe. The JVM and the Spark session start in about 10 s. On a machine
under load they take many times as long, and a restart would only add load."""


class Kind(StrEnum):
    """The workload that runs the driver. All three kinds use the same name for one DedupJob."""

    STATEFUL_SET = "StatefulSet"
    """Runs the driver continuously."""
    JOB = "Job"
    """Runs the driver once."""
    CRON_JOB = "CronJob"
    """Runs the driver by a schedule."""


def choose_kind(spec: DedupJobSpec) -> Kind:
    run = spec.trigger.available_now
    return _choose_kind(None if run is None else {"schedule": run.schedule})


def find_wanted_kind(spec: Json) -> Kind | None:
    """`choose_kind` for a spec that may be invalid. None when `spec.trigger` is unreadable."""
    trigger = spec.get("trigger")
    available_now = trigger.get("availableNow") if isinstance(trigger, dict) else None
    return _choose_kind(available_now) if available_now is None or isinstance(available_now, dict) else None


def _choose_kind(available_now: Json | None) -> Kind:
    """`available_now`: the value of `spec.trigger.availableNow`."""
    if available_now is None:
        return Kind.STATEFUL_SET
    return Kind.JOB if available_now.get("schedule") is None else Kind.CRON_JOB


def find_claim_name(job_name: str, checkpoint: Checkpoint) -> str:
    """The claim with the checkpoint: the user's claim, or the claim that the operator creates."""
    return checkpoint.existing.claim_name if checkpoint.existing else names.claim_name(job_name)


@dataclass(frozen=True)
class CheckpointPlace:
    """Where a checkpoint is: a claim, and the folder on it for a claim of the user."""

    claim: str
    folder: str = ""


def find_wanted_place(job_name: str, spec: Json) -> CheckpointPlace:
    """The place that a spec asks for, which may be invalid."""
    checkpoint = spec.get("checkpoint")
    existing = checkpoint.get("existing") if isinstance(checkpoint, dict) else None
    if not isinstance(existing, dict) or "claimName" not in existing:
        return CheckpointPlace(names.claim_name(job_name))
    return CheckpointPlace(existing["claimName"], names.folder_name(job_name, existing.get("subPath")))


def find_mounted_place(workload: Json) -> CheckpointPlace | None:
    """The place that the pods of a workload mount. None when something else has changed the template."""
    spec = find_template(workload)["spec"]
    volumes = (volume for volume in spec.get("volumes", []) if "persistentVolumeClaim" in volume)
    claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in volumes}
    mounts = spec["containers"][0].get("volumeMounts", [])
    found = (CheckpointPlace(claims[mount["name"]], mount.get("subPath", "")) for mount in mounts if mount["name"] in claims)
    return next(found, None)


def find_template(workload: Json) -> Json:
    """The pod template of a StatefulSet, a Kubernetes Job or a CronJob."""
    spec: Json = workload["spec"]
    template: Json = (spec["jobTemplate"]["spec"] if workload["kind"] == Kind.CRON_JOB else spec)["template"]
    return template


def find_image(workload: Json) -> str:
    return str(find_template(workload)["spec"]["containers"][0]["image"])


def find_config_map(workload_or_pod: Json) -> str:
    """The name of the ConfigMap with `job.json` that a workload or a pod mounts. Empty when it mounts none."""
    is_pod = workload_or_pod["kind"] == "Pod"
    spec: Json = workload_or_pod.get("spec", {}) if is_pod else find_template(workload_or_pod)["spec"]
    volumes = spec.get("volumes", [])
    return next((str(volume["configMap"]["name"]) for volume in volumes if "configMap" in volume), "")
