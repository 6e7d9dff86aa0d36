"""Changes to an existing workload, and which of the objects around it are missing or no longer needed."""

from __future__ import annotations

from copy import deepcopy

from dedup_operator.domain.annotations import APPLIED_GENERATION, GIVEN_UP, RESTARTED_FOR, ROLLING
from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.manifests import Children
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Workload, find_restarted_at
from dedup_operator.domain.types import Json

CHANGEABLE = {
    Kind.STATEFUL_SET: {"template", "updateStrategy", "replicas"},
    Kind.JOB: {"suspend"},
    Kind.CRON_JOB: {"schedule", "timeZone", "concurrencyPolicy", "suspend", "jobTemplate"},
}
"""The fields of the spec that a start needs and that the API server lets the operator change."""
_CLEARED_BY_START = {GIVEN_UP, ROLLING}


def build_started_workload(workload: Workload, wanted: Json) -> Json:
    """The workload with the present template and one replica.

    One write sets both, so that no pod comes from an old template.
    """
    body = deepcopy(workload.raw)
    kept = {key: value for key, value in body["metadata"].get("annotations", {}).items() if key not in _CLEARED_BY_START}
    restarted_at = find_restarted_at(workload.raw)
    handled = {RESTARTED_FOR: restarted_at} if restarted_at else {}
    body["metadata"]["annotations"] = {**kept, **handled, **wanted["metadata"]["annotations"]}
    fields = CHANGEABLE[workload.kind]
    body["spec"].update(deepcopy({field: value for field, value in wanted["spec"].items() if field in fields}))
    return body


def build_scaled_workload(workload: Workload, replicas: int, annotations: dict[str, str]) -> Json | None:
    """The workload with 0 or 1 replica and with `annotations`. The annotation ROLLING goes, unless `annotations`
    contains it.

    None when nothing changes, and for a Kubernetes Job that has ended.
    """
    known = workload.raw["metadata"].get("annotations", {})
    merged = {key: value for key, value in known.items() if key != ROLLING} | annotations
    if workload.ended or (workload.replicas == replicas and merged == known):
        return None
    body = deepcopy(workload.raw)
    body["metadata"]["annotations"] = merged
    if workload.kind is Kind.STATEFUL_SET:
        body["spec"]["replicas"] = replicas
    else:
        body["spec"]["suspend"] = replicas == 0
    return body


def set_applied_generation(workload: Json, generation: int) -> None:
    """See `annotations.APPLIED_GENERATION`."""
    workload["metadata"].setdefault("annotations", {})[APPLIED_GENERATION] = str(generation)


def list_missing_objects(observed: ObservedState, children: Children, config_map: str | None = None) -> list[Json]:
    """What the driver's pod needs and does not exist, in the order in which the operator creates it. The workload comes
    after all of it.

    `config_map`: the ConfigMap of the running driver. When it is not the one of the present spec, the latter is not
    needed yet.
    """
    missing: list[Json] = []
    if observed.claim is None and children.claim is not None:
        missing.append(children.claim)
    if observed.claim is not None and observed.claim.record is None and children.record is not None:
        missing.append(children.record)
    name = children.config_map["metadata"]["name"]
    if name not in observed.config_maps and config_map in {None, name}:
        missing.append(children.config_map)
    if not observed.has_service:
        missing.append(children.service)
    return missing


def list_outdated_config_maps(observed: ObservedState) -> list[tuple[str, str]]:
    """(name, UID) of the ConfigMaps of earlier starts that no workload, pod or run mounts any more."""
    if observed.workload is None:
        return []
    return [(name, uid) for name, uid in observed.config_map_uids if name not in observed.used_config_maps]
