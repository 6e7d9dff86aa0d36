"""What a driver runs on, and whether an edit of the spec touches it.

The spec that a driver was started with is kept in an annotation of its StatefulSet. An edit is judged by rendering both that
spec and the present one with *today's* code: a new operator version, default or image therefore never looks like an edit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dedup_api.changes import UNSEEN_BY_DRIVER
from dedup_api.driver import Resources
from dedup_api.job_config import JobConfig, build_job_config
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.types import Json


@dataclass(frozen=True)
class DriverSettings:
    """All that decides how a driver runs, as far as people can decide it."""

    spec: DedupJobSpec
    config: JobConfig

    @property
    def schedule(self) -> str | None:
        """When runs begin; None where the driver is not started by the clock."""
        run = self.spec.trigger.available_now
        return run.schedule if run else None

    @property
    def resources(self) -> Resources:
        return self.spec.driver.resources


def build_driver_settings(namespace: str, name: str, spec: DedupJobSpec, pinned_config: JobConfig | None) -> DriverSettings:
    """The settings that a spec asks for.

    `pinned_config`: the configuration that the checkpoint was made with. Where the spec leaves parallelism open, the checkpoint's
    stays: its default follows the CPU limit, and a larger limit must not ask for a new checkpoint.
    """
    config = build_job_config(namespace, name, spec)
    if pinned_config is not None and spec.parallelism is None:
        config = config.model_copy(update={"parallelism": pinned_config.parallelism})
    return DriverSettings(spec, config)


def list_settings_changes(before: DriverSettings, after: DriverSettings) -> list[str]:
    """The fields of the spec whose change needs a restart of the driver; empty where none does."""
    if _effective(before) == _effective(after):
        return []
    old, new = _flatten(_without_live_fields(before.spec)), _flatten(_without_live_fields(after.spec))
    return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))


def _effective(settings: DriverSettings) -> tuple[object, ...]:
    """What a driver is made of. Another spec may come to the same, as with a default that is written out."""
    return settings.config, settings.resources, settings.schedule, settings.spec.restart_nonce


def render_spec(spec: DedupJobSpec) -> str:
    """The part of the spec that concerns the driver, as it is kept in an annotation."""
    return json.dumps(_without_live_fields(spec), sort_keys=True, separators=(",", ":"))


def parse_spec(text: str | None) -> DedupJobSpec | None:
    """What `render_spec` wrote; None where nothing legible is kept. Fields that are newer than the text have their defaults."""
    try:
        return DedupJobSpec.model_validate_json(text) if text else None
    except ValidationError:
        return None


def render_config(config: JobConfig) -> str:
    """The content of `job.json`. Deterministic, because ConfigMaps are named by its hash."""
    return json.dumps(config.to_json_dict(), sort_keys=True, indent=2)


def parse_config(text: str | None) -> JobConfig | None:
    """What `render_config` wrote; None where nothing legible is kept."""
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


def _flatten(document: Any, path: str = "spec") -> Json:
    if not isinstance(document, dict):
        return {path: document}
    leaves: Json = {} if document else {path: document}
    for field, value in document.items():
        leaves.update(_flatten(value, f"{path}.{field}"))
    return leaves
