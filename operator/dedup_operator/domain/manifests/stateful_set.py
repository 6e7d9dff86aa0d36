"""The StatefulSet of a driver that runs all the time: the one stock object with at-most-one semantics.

It has 0 or 1 replica and `OnDelete`, so that nothing but the operator ever changes what runs: a changed template waits until
the operator has scaled to 0, seen the pod gone, and scales to 1.
"""

from __future__ import annotations

from dedup_api import names
from dedup_operator.domain.manifests.metadata import build_labels, build_metadata
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob


def build_stateful_set(job: ValidJob, template: Json, annotations: dict[str, str]) -> Json:
    """With one replica; a job that must not run has none or is scaled down by the operator."""
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
