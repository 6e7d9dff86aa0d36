"""What a driver runs on, and whether an edit of the spec touches it.

The spec that a driver was started with is kept in an annotation of its StatefulSet. An edit is judged by rendering both that
spec and the present one with *today's* code: a new operator version, default or image therefore never looks like an edit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dedup_api.changes import LIVE
from dedup_api.driver import Resources
from dedup_api.job_config import JobConfig, build_job_config
from dedup_api.spec import DedupJobSpec


@dataclass(frozen=True)
class DriverInputs:
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


def build_inputs(namespace: str, name: str, spec: DedupJobSpec, pinned: JobConfig | None) -> DriverInputs:
    """The inputs that a spec asks for.

    `pinned`: the configuration that the checkpoint was made with. Where the spec leaves parallelism open, the checkpoint's
    stays: its default follows the CPU limit, and a larger limit must not ask for a new checkpoint.
    """
    config = build_job_config(namespace, name, spec)
    if pinned is not None and spec.parallelism is None:
        config = config.model_copy(update={"parallelism": pinned.parallelism})
    return DriverInputs(spec, config)


def list_input_changes(before: DriverInputs, after: DriverInputs) -> list[str]:
    """The fields of the spec whose change needs a restart of the driver; empty where none does."""
    if _essence(before) == _essence(after):
        return []
    old, new = _leaves(_relevant(before.spec)), _leaves(_relevant(after.spec))
    return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))


def _essence(inputs: DriverInputs) -> tuple[object, ...]:
    """What a driver is made of. Another spec may come to the same, as with a default that is written out."""
    return inputs.config, inputs.resources, inputs.schedule, inputs.spec.restart_nonce


def render_spec(spec: DedupJobSpec) -> str:
    """The part of the spec that concerns the driver, as it is kept in an annotation."""
    return json.dumps(_relevant(spec), sort_keys=True, separators=(",", ":"))


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


def _relevant(spec: DedupJobSpec) -> dict[str, Any]:
    return _without(spec.to_json_dict(), LIVE)


def _without(document: dict[str, Any], paths: set[str], prefix: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for field, value in document.items():
        path = prefix + field
        if path in paths:
            continue
        inner = _without(value, paths, f"{path}.") if isinstance(value, dict) else value
        if inner != {} or value == {}:
            kept[field] = inner
    return kept


def _leaves(document: Any, path: str = "spec") -> dict[str, Any]:
    if not isinstance(document, dict):
        return {path: document}
    leaves: dict[str, Any] = {} if document else {path: document}
    for field, value in document.items():
        leaves.update(_leaves(value, f"{path}.{field}"))
    return leaves
