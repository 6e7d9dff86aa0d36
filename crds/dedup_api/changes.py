"""What an edit of each field of the spec does to a running job.

The operator, the reference page and the tests read this table. A test fails if a field of the spec is missing here.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any

from dedup_api.job_config import JobConfig


class Change(StrEnum):
    """What an edit of a field does to a running job."""

    LIVE = "live"
    """The edit takes effect at once, and the driver keeps running."""
    RESTART = "restart"
    """The operator restarts the driver after the current batch, and the driver continues where it stopped."""
    STATE = "state"
    """The stored keys would not fit the edit. The operator blocks the edit if keys are stored, and restarts the driver
    otherwise."""
    UNTIL_KEYS = "until keys"
    """The operator restarts the driver for the edit. Once keys are stored, the API server refuses it."""
    FIXED = "fixed"
    """The API server refuses the edit."""


CHANGES: dict[str, Change] = {
    "source.bootstrapServers": Change.RESTART,
    "source.topic": Change.STATE,
    "source.startingOffsets": Change.RESTART,
    "source.maxOffsetsPerTrigger": Change.RESTART,
    "source.onDataLoss": Change.RESTART,
    "source.consumerGroup": Change.RESTART,
    "format": Change.STATE,
    "framing": Change.RESTART,
    "key.from": Change.STATE,
    "key.fields": Change.STATE,
    "key.headers": Change.STATE,
    "eventTime.from": Change.STATE,
    "eventTime.field": Change.STATE,
    "eventTime.header": Change.STATE,
    "eventTime.format": Change.STATE,
    "eventTime.timeZone": Change.STATE,
    "eventTime.maxFutureSkew": Change.RESTART,
    "watermark": Change.RESTART,
    "onLate": Change.RESTART,
    "onInvalid": Change.RESTART,
    "onTombstone": Change.RESTART,
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
    "checkpoint.claim": Change.LIVE,
    "checkpoint.claim.size": Change.LIVE,
    "checkpoint.claim.storageClassName": Change.FIXED,
    "checkpoint.claim.accessMode": Change.FIXED,
    "checkpoint.existing": Change.UNTIL_KEYS,
    "checkpoint.existing.claimName": Change.UNTIL_KEYS,
    "checkpoint.existing.subPath": Change.UNTIL_KEYS,
    "checkpoint.existing.fsGroup": Change.RESTART,
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
"""By path below `spec`. A member of a union has an entry of its own, because replacing one member by another is an edit
too."""

UNSEEN_BY_DRIVER = {path for path, change in CHANGES.items() if change in {Change.LIVE, Change.FIXED}}
"""Fields that the driver never sees. A FIXED field can only differ in an object that was stored under another CRD."""

_STATE_FIELDS = [path for path, change in CHANGES.items() if change is Change.STATE and not path.startswith("sink.")]
"""These fields have the same path in `job.json`, where the operator has filled in the defaults."""


def _find_value(document: dict[str, Any], path: str) -> Any:
    found: Any = document
    for part in path.split("."):
        found = found.get(part, {})
    return found


def _collect_state_settings(config: JobConfig) -> dict[str, Any]:
    document = config.to_json_dict()
    state = {f"spec.{path}": _find_value(document, path) for path in _STATE_FIELDS}
    state["spec.sink"] = sorted(document["sink"])
    state["spec.sink.kafka.transactionalIdPrefix"] = config.transactional_id_prefix
    return state


def list_state_changes(before: JobConfig, after: JobConfig) -> list[str]:
    """The fields of the spec that differ and that the stored keys depend on. Empty if the checkpoint fits both
    configurations."""
    old, new = _collect_state_settings(before), _collect_state_settings(after)
    return [field for field in old if old[field] != new[field]]


def state_identity(config: JobConfig) -> str:
    """Hash of everything that the stored keys depend on: 16 hexadecimal digits."""
    text = json.dumps([config.generation, _collect_state_settings(config)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
