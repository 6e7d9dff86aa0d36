"""The settings with which a driver runs, and whether an edit of the spec changes them.

An annotation of the workload records the spec with which the driver was started. To judge an edit, the operator derives
the settings from that spec and from the present one with the same code. A new version of the operator, a new default or
a new job image is therefore no edit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from dedup_api.changes import UNSEEN_BY_DRIVER
from dedup_api.checkpoint import FsGroup
from dedup_api.driver import Resources
from dedup_api.durations import parse_duration
from dedup_api.job_config import JobConfig, build_job_config
from dedup_api.quantities import parse_quantity
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.types import Json


@dataclass(frozen=True)
class DriverSettings:
    """Everything in a spec that affects how the driver runs."""

    spec: DedupJobSpec
    config: JobConfig

    @property
    def schedule(self) -> str | None:
        """When runs start. None for a driver without a schedule."""
        run = self.spec.trigger.available_now
        return run.schedule if run else None

    @property
    def leaves_group(self) -> bool:
        """kubelet must not change the group of the files on the volume."""
        existing = self.spec.checkpoint.existing
        return existing is not None and existing.fs_group is FsGroup.LEAVE

    @property
    def resources(self) -> Resources:
        return self.spec.driver.resources


def build_driver_settings(namespace: str, name: str, spec: DedupJobSpec, pinned_config: JobConfig | None) -> DriverSettings:
    """The settings that a spec asks for.

    `pinned_config`: the configuration to which the stored keys belong. Its parallelism stays when the spec does not set
    one. The default of parallelism follows the CPU limit, and a larger limit must not require a new checkpoint.
    """
    config = build_job_config(namespace, name, spec)
    if pinned_config is not None and spec.parallelism is None:
        config = config.model_copy(update={"parallelism": pinned_config.parallelism})
    return DriverSettings(spec, config)


def list_settings_changes(before: DriverSettings, after: DriverSettings) -> list[str]:
    """The changed fields of the spec when the driver must restart for them. Empty when no restart is needed."""
    if _effective(before) == _effective(after):
        return []
    old, new = _measure_leaves(before.spec), _measure_leaves(after.spec)
    changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    if before.leaves_group != after.leaves_group:
        changed.add("spec.checkpoint.existing.fsGroup")
    return sorted(changed)


def _effective(settings: DriverSettings) -> tuple[object, ...]:
    """What the driver notices of a spec.

    Two specs can be equal in this, for example when one of them writes out a default, or `2Gi` as `2048Mi`.
    """
    config = settings.config
    durations = (config.watermark_delay, config.trigger_interval, config.max_future_skew)
    event_time = config.event_time.model_copy(update={"max_future_skew": ""})
    rest = config.model_copy(update={"watermark": "", "processing_time": "", "event_time": event_time})
    return rest, durations, _measure(settings.resources), settings.schedule, settings.spec.restart_nonce, settings.leaves_group


def _measure(resources: Resources) -> tuple[Decimal, ...]:
    """Requests and limits as numbers of cores and bytes."""
    limits, requests = resources.limits, resources.requests
    quantities = (requests.cpu, requests.memory or limits.memory, limits.cpu, limits.memory)
    return tuple(parse_quantity(quantity) for quantity in quantities)


def render_spec(spec: DedupJobSpec) -> str:
    """The part of the spec that concerns the driver, as text for an annotation."""
    return json.dumps(_without_live_fields(spec), sort_keys=True, separators=(",", ":"))


def parse_spec(text: str | None) -> DedupJobSpec | None:
    """Parses what `render_spec` wrote.

    None when `text` is missing or unreadable. Fields that it lacks get their defaults.
    """
    try:
        return DedupJobSpec.model_validate_json(text) if text else None
    except ValidationError:
        return None


def render_config(config: JobConfig) -> str:
    """The content of `job.json`. It is deterministic, because the name of the ConfigMap contains its hash."""
    return json.dumps(config.to_json_dict(), sort_keys=True, indent=2)


def parse_config(text: str | None) -> JobConfig | None:
    """Parses what `render_config` wrote. None when `text` is missing or unreadable."""
    try:
        return JobConfig.model_validate_json(text) if text else None
    except ValidationError:
        return None


def _without_live_fields(spec: DedupJobSpec) -> Json:
    return _without(spec.to_json_dict(), UNSEEN_BY_DRIVER)


def _without(document: Json, paths: set[str], prefix: str = "") -> Json:
    kept: Json = {}
    for field, value in document.items():
        path = prefix + field
        if path in paths:
            continue
        inner = _without(value, paths, f"{path}.") if isinstance(value, dict) else value
        if inner != {} or value == {}:
            kept[field] = inner
    return kept


_MEASURES: dict[str, Callable[[str], object]] = {
    "spec.watermark": parse_duration,
    "spec.trigger.processingTime": parse_duration,
    "spec.eventTime.maxFutureSkew": parse_duration,
    "spec.driver.resources.requests.cpu": parse_quantity,
    "spec.driver.resources.requests.memory": parse_quantity,
    "spec.driver.resources.limits.cpu": parse_quantity,
    "spec.driver.resources.limits.memory": parse_quantity,
}
"""Fields whose value has several spellings, and what they mean."""


def _measure_leaves(spec: DedupJobSpec) -> Json:
    """What the driver sees of the spec: by path, the value, or what it means. Without the place of the checkpoint: version
    0.1.0 did not record it, and `ObservedState.moved_from` says whether it differs."""
    leaves = {path: value for path, value in _flatten(_without_live_fields(spec)).items() if not path.startswith("spec.checkpoint.")}
    return {path: _MEASURES[path](value) if path in _MEASURES else value for path, value in leaves.items()}


def _flatten(document: Any, path: str = "spec") -> Json:
    if not isinstance(document, dict):
        return {path: document}
    leaves: Json = {} if document else {path: document}
    for field, value in document.items():
        leaves.update(_flatten(value, f"{path}.{field}"))
    return leaves
