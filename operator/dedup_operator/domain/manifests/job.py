"""The Job of a driver that takes what there is and ends, and the CronJob that makes such Jobs by the clock.

A failed container is restarted in its pod, with kubelet's growing pauses, as in a StatefulSet: so one pod is all there is of a run, and
its exits can be read from it. A pod that was deleted is replaced only when it has ended (`podReplacementPolicy`), and no run of the
schedule begins beside another (`concurrencyPolicy`).
"""

from __future__ import annotations

from dedup_api import names
from dedup_operator.domain.annotations import APPLIED_SPEC
from dedup_operator.domain.manifests.metadata import build_labels, build_metadata
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob

NO_LIMIT = 2**31 - 1
"""Of retries: which failures are for good the driver says itself, by its exit code."""
KEPT_RUNS = 1
"""Of a schedule, so that the last run's log can be read."""


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
