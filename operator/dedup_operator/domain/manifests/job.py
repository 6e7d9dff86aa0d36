"""The Kubernetes Job of a driver that processes the present records and ends, and the CronJob that creates such Jobs.

kubelet restarts a failed container in the same pod, with growing pauses, as it does for a StatefulSet. A run therefore
has one pod, and the operator reads the driver's exits from it. The Job controller replaces a deleted pod only when that
pod has ended (`podReplacementPolicy`), and the CronJob controller starts no run beside another (`concurrencyPolicy`).
"""

from __future__ import annotations

from dedup_api import names
from dedup_operator.domain.annotations import APPLIED_SPEC
from dedup_operator.domain.manifests.metadata import build_labels, build_metadata
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob

NO_LIMIT = 2**31 - 1
"""Retries. The driver's exit code says which failures are permanent, so Kubernetes must not count them."""
KEPT_RUNS = 1
"""Ended runs of a schedule that stay, so that the log of the last run can be read."""


def build_job(job: ValidJob, template: Json, annotations: dict[str, str]) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": build_metadata(job, names.driver_name(job.name), annotations=annotations),
        "spec": {"suspend": False, **_build_job_spec(template)},
    }


def build_cron_job(job: ValidJob, template: Json, annotations: dict[str, str], schedule: str) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": build_metadata(job, names.driver_name(job.name), annotations=annotations),
        "spec": {
            "schedule": schedule,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "suspend": False,
            "successfulJobsHistoryLimit": KEPT_RUNS,
            "failedJobsHistoryLimit": KEPT_RUNS,
            "jobTemplate": {
                "metadata": {
                    "labels": build_labels(job.name),
                    "annotations": {APPLIED_SPEC: annotations[APPLIED_SPEC]},
                },
                "spec": _build_job_spec(template),
            },
        },
    }


def _build_job_spec(template: Json) -> Json:
    return {
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": NO_LIMIT,
        "podReplacementPolicy": "Failed",
        "template": {**template, "spec": {**template["spec"], "restartPolicy": "OnFailure"}},
    }
