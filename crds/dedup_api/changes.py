"""What may change on a running job, as data in one place.

The operator's decisions, the reference page and the tests all read this table; a test fails when a field of the spec is not in it.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any

from dedup_api.job_config import JobConfig


class Change(StrEnum):
    """What an edit of a field does to a job that runs."""

    LIVE = "live"
    """Takes effect at once; the driver is left alone."""
    RESTART = "restart"
    """The driver restarts after the batch it is in, and goes on where it stopped."""
    STATE = "state"
    """The stored keys do not fit it: blocked once there are any, and a restart before."""
    FIXED = "fixed"
    """Refused by the API server."""


CHANGES: dict[str, Change] = {
    "source.bootstrapServers": Change.STATE,
    "source.topic": Change.STATE,
    "source.startingOffsets": Change.RESTART,
    "source.maxOffsetsPerTrigger": Change.RESTART,
    "source.onDataLoss": Change.RESTART,
    "source.consumerGroup": Change.RESTART,
    "format": Change.STATE,
    "key.from": Change.STATE,
    "key.fields": Change.STATE,
    "eventTime.from": Change.STATE,
    "eventTime.field": Change.STATE,
    "eventTime.format": Change.STATE,
    "eventTime.maxFutureSkew": Change.RESTART,
    "watermark": Change.RESTART,
    "onLate": Change.RESTART,
    "onInvalid": Change.RESTART,
    "deadLetter.topic": Change.RESTART,
    "trigger.processingTime": Change.RESTART,
    "trigger.availableNow": Change.RESTART,
    "trigger.availableNow.schedule": Change.RESTART,
    "sink.kafka": Change.STATE,
    "sink.kafka.topic": Change.RESTART,
    "sink.kafka.delivery": Change.RESTART,
    "sink.kafka.ordering": Change.RESTART,
    "sink.kafka.transactionalIdPrefix": Change.STATE,
    "sink.console": Change.STATE,
    "checkpoint.claim": Change.FIXED,
    "checkpoint.claim.size": Change.LIVE,
    "checkpoint.claim.storageClassName": Change.FIXED,
    "checkpoint.claim.accessMode": Change.FIXED,
    "checkpoint.existing": Change.FIXED,
    "checkpoint.existing.claimName": Change.FIXED,
    "checkpoint.existing.subPath": Change.FIXED,
    "checkpoint.reclaimPolicy": Change.LIVE,
    "onIncompatibleChange": Change.LIVE,
    "parallelism": Change.STATE,
    "driver.resources.requests.cpu": Change.RESTART,
    "driver.resources.requests.memory": Change.RESTART,
    "driver.resources.limits.cpu": Change.RESTART,
    "driver.resources.limits.memory": Change.RESTART,
    "suspend": Change.LIVE,
    "restartNonce": Change.RESTART,
}
"""Path below `spec` -> class. A member of a union stands for itself: to change the member is to change its class of thing."""

LIVE = {path for path, change in CHANGES.items() if change in {Change.LIVE, Change.FIXED}}
"""What a driver never sees: FIXED ones can differ only where an object was stored under another CRD."""

_STATE = [path for path, change in CHANGES.items() if change is Change.STATE and not path.startswith("sink.")]
"""These stand under the same path in `job.json`, with what the spec leaves open filled in."""


def _at(document: dict[str, Any], path: str) -> Any:
    found: Any = document
    for part in path.split("."):
        found = found.get(part, {})
    return found


def _state(config: JobConfig) -> dict[str, Any]:
    document = config.to_json_dict()
    state = {f"spec.{path}": _at(document, path) for path in _STATE}
    state["spec.sink"] = sorted(document["sink"])
    state["spec.sink.kafka.transactionalIdPrefix"] = config.transactional_id_prefix
    return state


def list_state_changes(before: JobConfig, after: JobConfig) -> list[str]:
    """The state fields (as people know them) in which two configurations differ; empty where the checkpoint fits both."""
    old, new = _state(before), _state(after)
    return [field for field in old if old[field] != new[field]]


def state_identity(config: JobConfig) -> str:
    """Hash of all that the stored keys depend on: 16 hexadecimal digits."""
    text = json.dumps([config.generation, _state(config)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
