"""The driver's pod: the same whatever makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dedup_api import names
from dedup_operator.domain import annotations as marks
from dedup_operator.domain.driver_settings import DriverInputs
from dedup_operator.domain.manifests.claim import find_claim_name
from dedup_operator.domain.validate import ValidJob

TERMINATION_GRACE_SECONDS = 120
"""The running batch may finish its sink and commit; a batch is seconds, but a slow broker can make it minutes."""
STARTUP_SECONDS = 300
"""The JVM and the session start in about 10 s; a machine under load takes many times that, and killing it then only adds load."""

_VOLUME_CONFIG, _VOLUME_CHECKPOINT, _VOLUME_TMP = "config", "checkpoint", "tmp"


@dataclass(frozen=True)
class JobImage:
    """How pods get the job image."""

    reference: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


def build_pod_template(job: ValidJob, inputs: DriverInputs, image: JobImage, config_map: str) -> dict[str, Any]:
    return {
        "metadata": {"labels": marks.build_labels(job.name), "annotations": _build_scrape_annotations()},
        "spec": _build_pod_spec(job, inputs, image, config_map),
    }


def _build_scrape_annotations() -> dict[str, str]:
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(names.HTTP_PORT), "prometheus.io/path": "/metrics"}


def _build_pod_spec(job: ValidJob, inputs: DriverInputs, image: JobImage, config_map: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": names.USER_ID,
            "runAsGroup": names.USER_ID,
            "fsGroup": names.USER_ID,
            # A checkpoint has many small files: changing their group at every start would take longer than the start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_build_container(job, inputs, image)],
        "volumes": [
            {"name": _VOLUME_CONFIG, "configMap": {"name": config_map}},
            {"name": _VOLUME_CHECKPOINT, "persistentVolumeClaim": {"claimName": find_claim_name(job.name, job.spec.checkpoint)}},
            {"name": _VOLUME_TMP, "emptyDir": {}},
        ],
    }
    if image.pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in image.pull_secrets]
    return spec


def _build_container(job: ValidJob, inputs: DriverInputs, image: JobImage) -> dict[str, Any]:
    return {
        "name": names.CONTAINER,
        "image": image.reference,
        "imagePullPolicy": image.pull_policy,
        "ports": [{"name": names.HTTP_PORT_NAME, "containerPort": names.HTTP_PORT, "protocol": "TCP"}],
        "resources": _build_resources(inputs),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "startupProbe": _build_probe("/healthz", period=5, failures=STARTUP_SECONDS // 5),
        "livenessProbe": _build_probe("/healthz", period=15, failures=4),
        "readinessProbe": _build_probe("/readyz", period=5, failures=2),
        "terminationMessagePath": names.TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": _VOLUME_CONFIG, "mountPath": names.CONFIG_DIR, "readOnly": True},
            _build_checkpoint_mount(job),
            {"name": _VOLUME_TMP, "mountPath": "/tmp"},
        ],
    }


def _build_checkpoint_mount(job: ValidJob) -> dict[str, Any]:
    existing = job.spec.checkpoint.existing
    folder = {"subPath": names.folder_name(job.name, existing.sub_path)} if existing else {}
    return {"name": _VOLUME_CHECKPOINT, "mountPath": names.CHECKPOINT_DIR, **folder}


def _build_resources(inputs: DriverInputs) -> dict[str, Any]:
    limits, requests = inputs.resources.limits, inputs.resources.requests
    return {
        "requests": {"cpu": str(requests.cpu), "memory": str(requests.memory or limits.memory)},
        "limits": {"cpu": str(limits.cpu), "memory": str(limits.memory)},
    }


def _build_probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": names.HTTP_PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
