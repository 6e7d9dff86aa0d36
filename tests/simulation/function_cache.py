"""Caches the results of the operator's pure functions, so that five thousand seeds take minutes.

It caches only functions that depend on nothing but their arguments. The key is the content of the arguments if other
seeds have the same content, and otherwise the identity of the objects, which nobody changes after they are created. The
tests with a deliberately broken operator call `clear_cache` first.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

from dedup_api.job_config import JobConfig
from dedup_api.spec import DedupJobSpec
from dedup_api.status import DedupJobStatus
from dedup_operator.domain.driver_settings import DriverSettings
from dedup_operator.domain.manifests import Children, JobImage
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.validate import Invalid, ValidJob
from simulation.api_server import Json

changes_module: Any = import_module("dedup_api.changes")
checkpoint_module: Any = import_module("dedup_operator.domain.observe.checkpoint")
decide_module: Any = import_module("dedup_operator.domain.decide")
fetch_module: Any = import_module("dedup_operator.adapters.fetch")
owned_module: Any = import_module("dedup_operator.domain.observe.owned")
state_module: Any = import_module("dedup_operator.domain.observe.state")
status_module: Any = import_module("dedup_operator.domain.status")
workload_module: Any = import_module("dedup_operator.domain.observe.workload")
reconcile_module: Any = import_module("dedup_operator.reconcile")

_by_content: dict[Any, Any] = {}
"""Results by the content of the arguments. They stay for all seeds of the process."""
LIMIT = 20_000
"""The cache is cleared when it has more results than this."""
_by_ids: dict[Any, Any] = {}
"""Results by the ids of the arguments, for one seed. The arguments are kept with the result, so no other object gets
their ids."""


def clear_cache() -> None:
    _by_content.clear()


def _get_or_call(key: Any, make: Callable[[], Any]) -> Any:
    if key not in _by_content:
        if len(_by_content) > LIMIT:
            _by_content.clear()
        _by_content[key] = make()
    return _by_content[key]


def _by_identity(function: Callable[..., Any]) -> Callable[..., Any]:
    def cached(*arguments: Any) -> Any:
        key = (function, *map(id, arguments))
        entry = _by_ids.get(key)
        if entry is None:
            entry = _by_ids[key] = (function(*arguments), arguments)
        return entry[0]

    return cached


def _by_snapshot(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`: its first argument is a Snapshot, and its other arguments depend on nothing else."""

    def cached(snapshot: Snapshot, *rest: Any) -> Any:
        parts = [getattr(snapshot, field) for field in Snapshot.__dataclass_fields__]
        key = (function, *(tuple(map(id, part)) if isinstance(part, tuple) else id(part) for part in parts))
        entry = _by_ids.get(key)
        if entry is None:
            entry = _by_ids[key] = (function(snapshot, *rest), snapshot)
        return entry[0]

    return cached


@contextmanager
def cached_functions() -> Iterator[None]:
    """Replaces the operator's functions by cached ones while one seed runs."""
    real_validate, real_status = reconcile_module.validate, reconcile_module.parse_status
    real_settings, real_children = reconcile_module.build_driver_settings, reconcile_module.build_children
    real_spec, real_config, real_kind = workload_module.parse_spec, checkpoint_module.parse_config, fetch_module._with_kind

    def validate(resource: Json) -> ValidJob | Invalid:
        metadata = resource["metadata"]
        key = ("job", metadata["namespace"], metadata["name"], marshal.dumps(resource.get("spec")))
        found: ValidJob | Invalid = _get_or_call(key, lambda: real_validate(resource))
        if isinstance(found, Invalid):
            return found
        described: ValidJob = _get_or_call(
            (*key, metadata["uid"], metadata["generation"]),
            lambda: replace(found, uid=metadata["uid"], generation=metadata["generation"]),
        )
        return described

    def parse_status(resource: Json) -> DedupJobStatus:
        found: DedupJobStatus = _get_or_call(("status", marshal.dumps(resource.get("status"))), lambda: real_status(resource))
        return found

    def build_driver_settings(namespace: str, name: str, spec: DedupJobSpec, pinned_config: JobConfig | None) -> DriverSettings:
        key = ("settings", namespace, name, id(spec), id(pinned_config))
        found: DriverSettings = _get_or_call(key, lambda: (real_settings(namespace, name, spec, pinned_config), spec, pinned_config))[0]
        return found

    def build_children(job: ValidJob, settings: DriverSettings, image: JobImage) -> Children:
        key = ("children", job.namespace, job.name, job.uid, job.generation, id(job.spec), id(settings), image)
        found: Children = _get_or_call(key, lambda: (real_children(job, settings, image), job.spec, settings))[0]
        return found

    def parse_spec(text: str | None) -> DedupJobSpec | None:
        found: DedupJobSpec | None = _get_or_call(("spec", text), lambda: real_spec(text))
        return found

    def parse_config(text: str | None) -> JobConfig | None:
        found: JobConfig | None = _get_or_call(("config", text), lambda: real_config(text))
        return found

    def add_kind(item: Json, kind: str) -> Json:
        return item if item.get("kind") == kind else real_kind(item, kind)

    observe_pod = _by_identity(state_module.observe_pod)
    replaced: dict[tuple[Any, str], Any] = {
        (changes_module, "_collect_state_settings"): _by_identity(changes_module._collect_state_settings),
        (status_module, "state_identity"): _by_identity(status_module.state_identity),
        (fetch_module, "_with_kind"): add_kind,
        (owned_module, "observe_pod"): observe_pod,
        (state_module, "observe_pod"): observe_pod,
        (fetch_module, "find_owned_objects"): _by_snapshot(fetch_module.find_owned_objects),
        (reconcile_module, "observe_state"): _by_snapshot(reconcile_module.observe_state),
        (reconcile_module, "validate"): _by_identity(validate),
        (reconcile_module, "parse_status"): _by_identity(parse_status),
        (reconcile_module, "build_driver_settings"): build_driver_settings,
        (reconcile_module, "build_children"): _by_identity(build_children),
        (reconcile_module, "decide"): _by_identity(reconcile_module.decide),
        (decide_module, "build_driver_settings"): build_driver_settings,
        (workload_module, "parse_spec"): parse_spec,
        (checkpoint_module, "parse_config"): parse_config,
    }
    before = {place: getattr(*place) for place in replaced}
    _by_ids.clear()
    for (module, name), function in replaced.items():
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name), function in before.items():
            setattr(module, name, function)
