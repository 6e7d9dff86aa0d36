"""The headless Service that gives the driver's pod its stable name."""

from __future__ import annotations

from typing import Any

from dedup_api import names
from dedup_operator.domain import annotations as marks
from dedup_operator.domain.validate import ValidJob


def build_service(job: ValidJob) -> dict[str, Any]:
    """Headless; resolves also while the driver starts."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": marks.build_metadata(job, names.driver_name(job.name)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": marks.build_labels(job.name),
            "ports": [{"name": names.HTTP_PORT_NAME, "port": names.HTTP_PORT, "targetPort": names.HTTP_PORT_NAME, "protocol": "TCP"}],
        },
    }
