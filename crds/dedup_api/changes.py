"""What may change on a running job, as data in one place.

A change of a *state* field does not fit the keys already stored: it needs a new checkpoint. All other fields of
`job.json` take effect with a restart of the driver.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from dedup_api.job_config import JobConfig

STATE_FIELDS: dict[str, str] = {
    "source.bootstrapServers": "spec.source.bootstrapServers",
    "source.topic": "spec.source.topic",
    "format": "spec.format",
    "key.from": "spec.key.from",
    "key.fields": "spec.key.fields",
    "eventTime.from": "spec.eventTime.from",
    "eventTime.field": "spec.eventTime.field",
    "eventTime.format": "spec.eventTime.format",
    "parallelism": "spec.parallelism",
}
"""Path in `job.json` -> the field that people know. The kind of sink and the transactional id's prefix too, see `_state`."""


def _at(document: dict[str, Any], path: str) -> Any:
    found: Any = document
    for part in path.split("."):
        found = found.get(part, {})
    return found


def _state(config: JobConfig) -> dict[str, Any]:
    document = config.to_json_dict()
    state = {field: _at(document, path) for path, field in STATE_FIELDS.items()}
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
