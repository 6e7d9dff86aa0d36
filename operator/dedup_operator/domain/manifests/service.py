"""The headless Service that gives the driver's pod its stable name."""

from __future__ import annotations

from dedup_api import names
from dedup_operator.domain.manifests.metadata import build_labels, build_metadata
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob


def build_service(job: ValidJob) -> Json:
    """The name resolves also while the driver is not ready yet."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(job, names.driver_name(job.name)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": build_labels(job.name),
            "ports": [{"name": names.HTTP_PORT_NAME, "port": names.HTTP_PORT, "targetPort": names.HTTP_PORT_NAME, "protocol": "TCP"}],
        },
    }
