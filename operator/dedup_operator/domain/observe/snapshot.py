"""The raw objects of one DedupJob, as the API server returned them in one reconciliation."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_api.driver_status import DriverStatus
from dedup_operator.domain.observe.pod import DriverUnreachable
from dedup_operator.domain.types import Json


@dataclass(frozen=True)
class Snapshot:
    """Every object comes from a live read: None means that the API server said it does not exist."""

    job: Json
    stateful_set: Json | None = None
    cron_job: Json | None = None
    runs: tuple[Json, ...] = ()
    """All Kubernetes Jobs with the DedupJob's label."""
    pods: tuple[Json, ...] = ()
    """All pods with the DedupJob's label, and the pod that has the name of a StatefulSet's pod."""
    claim: Json | None = None
    record: Json | None = None
    """With `spec.checkpoint.existing`: the ConfigMap that records
    which DedupJob uses the folder, and with which settings."""
    service: Json | None = None
    config_maps: tuple[Json, ...] = ()
    warnings: tuple[Json, ...] = ()
    """Warning events about the children. The operator reads them
    only while the driver's pod is missing or does not start."""
    driver_status: DriverStatus | DriverUnreachable | None = None
    """What the driver in the live pod answered. None when there is no such driver to ask."""
    last_deleted_pod: Json | None = None
    """The last pod that the watch saw being deleted. Between the end
    of a pod and its removal there is hardly time for a live read."""
