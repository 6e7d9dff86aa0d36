"""The StatefulSet of a driver that runs continuously. It is the only Kubernetes workload that guarantees at most one
pod.

It has 0 or 1 replica and the update strategy `OnDelete`, so that only the operator replaces the driver. For a new
template the operator scales it to 0, waits until the pod is gone, and scales it to 1.
"""

from __future__ import annotations

from dedup_api import names
from dedup_operator.domain.manifests.metadata import build_labels, build_metadata
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob


def build_stateful_set(job: ValidJob, template: Json, annotations: dict[str, str]) -> Json:
    """With one replica. The operator does not create it for a suspended DedupJob."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": build_metadata(job, names.driver_name(job.name), annotations=annotations),
        "spec": {
            "replicas": 1,
            "serviceName": names.driver_name(job.name),
            "selector": {"matchLabels": build_labels(job.name)},
            "updateStrategy": {"type": "OnDelete"},
            "revisionHistoryLimit": 2,
            "template": template,
        },
    }
