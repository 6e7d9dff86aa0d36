"""The template of the driver's pod. It is the same for a StatefulSet, a Kubernetes Job and a CronJob."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_api import names
from dedup_operator.domain.driver_objects import STARTUP_SECONDS, TERMINATION_GRACE_SECONDS, find_claim_name
from dedup_operator.domain.driver_settings import DriverSettings
from dedup_operator.domain.manifests.metadata import build_labels
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob

_VOLUME_CONFIG, _VOLUME_CHECKPOINT, _VOLUME_TMP = "config", "checkpoint", "tmp"


@dataclass(frozen=True)
class JobImage:
    """The job image, and how kubelet pulls it."""

    reference: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


def build_pod_template(job: ValidJob, settings: DriverSettings, image: JobImage, config_map: str) -> Json:
    return {
        "metadata": {"labels": build_labels(job.name), "annotations": _build_scrape_annotations()},
        "spec": _build_pod_spec(job, settings, image, config_map),
    }


def _build_scrape_annotations() -> dict[str, str]:
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(names.HTTP_PORT), "prometheus.io/path": "/metrics"}


def _build_pod_spec(job: ValidJob, settings: DriverSettings, image: JobImage, config_map: str) -> Json:
    spec: Json = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": names.USER_ID,
            "runAsGroup": names.USER_ID,
            **_build_fs_group(settings),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_build_container(job, settings, image)],
        "volumes": [
            {"name": _VOLUME_CONFIG, "configMap": {"name": config_map}},
            {"name": _VOLUME_CHECKPOINT, "persistentVolumeClaim": {"claimName": find_claim_name(job.name, job.spec.checkpoint)}},
            {"name": _VOLUME_TMP, "emptyDir": {}},
        ],
    }
    if image.pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in image.pull_secrets]
    return spec


def _build_fs_group(settings: DriverSettings) -> Json:
    """A checkpoint has many small files. To change their group at every start would take longer than the start itself."""
    return {} if settings.leaves_group else {"fsGroup": names.USER_ID, "fsGroupChangePolicy": "OnRootMismatch"}


def _build_container(job: ValidJob, settings: DriverSettings, image: JobImage) -> Json:
    return {
        "name": names.CONTAINER,
        "image": image.reference,
        "imagePullPolicy": image.pull_policy,
        "ports": [{"name": names.HTTP_PORT_NAME, "containerPort": names.HTTP_PORT, "protocol": "TCP"}],
        "resources": _build_resources(settings),
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


def _build_checkpoint_mount(job: ValidJob) -> Json:
    existing = job.spec.checkpoint.existing
    folder = {"subPath": names.folder_name(job.name, existing.sub_path)} if existing else {}
    return {"name": _VOLUME_CHECKPOINT, "mountPath": names.CHECKPOINT_DIR, **folder}


def _build_resources(settings: DriverSettings) -> Json:
    limits, requests = settings.resources.limits, settings.resources.requests
    return {
        "requests": {"cpu": str(requests.cpu), "memory": str(requests.memory or limits.memory)},
        "limits": {"cpu": str(limits.cpu), "memory": str(limits.memory)},
    }


def _build_probe(path: str, *, period: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": names.HTTP_PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
