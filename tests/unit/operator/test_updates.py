"""How the operator changes existing claims, records and workloads."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from dedup_operator.domain.annotations import (
    APPLIED_SPEC,
    CHECKPOINT_BEGUN,
    CHECKPOINT_CONFIG,
    CLAIM_UID,
    GIVEN_UP,
    ROLLING,
)
from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.driver_settings import parse_config
from dedup_operator.domain.observe.checkpoint import CheckpointClaim
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import observe_workload
from dedup_operator.domain.types import Json
from dedup_operator.domain.updates.checkpoint import (
    build_annotated_claim,
    build_grown_claim,
    build_owned_claim,
    build_released_claim,
    build_updated_record,
    should_release_claim,
)
from dedup_operator.domain.updates.workload import (
    build_scaled_workload,
    build_started_workload,
    list_missing_objects,
    list_outdated_config_maps,
)
from dedup_operator.domain.validate import Invalid
from unit.operator.samples import CLAIM, CONFIG_MAP, NIGHTLY, ONCE, RUNNING, make_children, make_job

OTHER = {"kind": "Backup", "name": "backup", "uid": "other"}
EXISTING: dict[str, Any] = {"checkpoint": {"existing": {"claimName": "shared"}}}
EDITED = make_job(2, key={"fields": ["other"]})


def make_claim(owners: list[Json] | None = None, **changes: Any) -> CheckpointClaim:
    """A claim that the operator created for the job of `samples`."""
    raw: Json = {
        "metadata": {"name": "demo-checkpoint", "uid": "c1", "ownerReferences": owners or []},
        "spec": {"resources": {"requests": {"storage": "10Gi"}}},
    }
    return replace(CLAIM, raw=raw, owned=any(owner["uid"] == "uid" for owner in owners or []), **changes)


def list_owners(body: Json) -> list[str]:
    return [owner["uid"] for owner in body["metadata"]["ownerReferences"]]


@pytest.mark.parametrize(("policy", "owners"), [("Delete", ["other", "uid"]), ("Retain", ["other"])])
def test_the_reclaim_policy_decides_whether_the_job_owns_the_claim(policy: str, owners: list[str]) -> None:
    job = make_job(checkpoint={"reclaimPolicy": policy})
    for before in ([OTHER], [OTHER, {"kind": "DedupJob", "name": "demo", "uid": "uid"}]):
        claim = make_claim(before)
        raw = deepcopy(claim.raw)
        assert list_owners(build_owned_claim(claim.raw, job, claim)) == owners
        assert claim.raw == raw, "the observed object must not be changed"


@pytest.mark.parametrize(
    ("retain", "owned", "deleting", "release"),
    [(True, True, False, True), (False, True, False, False), (True, False, False, False), (True, True, True, False)],
)
def test_an_invalid_spec_with_retain_releases_the_claim(retain: bool, owned: bool, deleting: bool, release: bool) -> None:
    owners = [OTHER, {"kind": "DedupJob", "name": "demo", "uid": "uid"}] if owned else [OTHER]
    claim = make_claim(owners, deleting=deleting)
    assert should_release_claim(Invalid("uid", "no", suspend=False, retain=retain), claim) is release
    assert list_owners(build_released_claim("uid", claim)) == ["other"]


def find_recorded_key(body: Json) -> list[str] | None:
    config = parse_config(body["metadata"].get("annotations", {}).get(CHECKPOINT_CONFIG))
    return config.key.fields if config else None


@pytest.mark.parametrize(
    ("observed", "changes", "recorded", "has_state"),
    [
        (ObservedState(), {"has_state": False}, ["other"], False),
        (ObservedState(), {"has_state": True, "annotated": False}, ["id"], True),
        (ObservedState(), {"has_state": True, "annotated": True}, None, True),
        (ObservedState(), {"has_state": False, "state_unknown": True}, None, False),
        (ObservedState(orphaned_pods=("Pod a",)), {"has_state": False}, None, False),
        (ObservedState(terminating=("Pod a",)), {"has_state": False}, None, False),
        (ObservedState(conflicting_objects=("Pod a",)), {"has_state": False}, None, False),
    ],
    ids=[
        "no keys: the present settings",
        "the first keys: the settings of the driver",
        "recorded already",
        "the driver does not answer",
        "an orphaned pod may store keys",
        "an old pod may store keys",
        "a conflicting pod may store keys",
    ],
)
def test_the_claim_records_to_which_settings_its_keys_belong(
    observed: ObservedState, changes: dict[str, Any], recorded: list[str] | None, has_state: bool
) -> None:
    body = build_annotated_claim(observed, make_claim(**changes), make_children(EDITED)[1])
    assert find_recorded_key(body) == recorded
    assert (CHECKPOINT_BEGUN in body["metadata"].get("annotations", {})) is has_state


@pytest.mark.parametrize(
    ("uid", "has_state", "expected"), [(None, False, "c1"), ("c0", False, "c1"), ("c0", True, "c0"), (None, True, "c1")]
)
def test_the_record_names_the_claim_that_holds_the_keys(uid: str | None, has_state: bool, expected: str) -> None:
    job = make_job(**EXISTING)
    record: Json = {"kind": "ConfigMap", "metadata": {"name": "r", "annotations": {} if uid is None else {CLAIM_UID: uid}}}
    claim = make_claim(shared=True, record=record, has_state=has_state)
    body = build_updated_record(ObservedState(), claim, make_children(job)[1])
    assert body is not None and body["metadata"]["annotations"][CLAIM_UID] == expected
    assert build_updated_record(ObservedState(terminating=("Pod a",)), claim, make_children(job)[1]) is None
    assert build_updated_record(ObservedState(), replace(claim, record=None), make_children(job)[1]) is None


@pytest.mark.parametrize(
    ("size", "phase", "grown"), [("20Gi", "Bound", "20Gi"), ("20Gi", "Pending", None), ("10240Mi", "Bound", None), ("5Gi", "Bound", None)]
)
def test_a_bound_claim_grows_and_never_shrinks(size: str, phase: str, grown: str | None) -> None:
    job = make_job(checkpoint={"claim": {"size": size}})
    claim = make_claim(phase=phase)
    body = build_grown_claim(claim.raw, claim, make_children(job)[1])
    assert (body["spec"]["resources"]["requests"]["storage"] if body else None) == grown


def make_workload(trigger: dict[str, Any], **annotations: str) -> Json:
    body = deepcopy(make_children(make_job(**trigger))[1].workload)
    body["metadata"] |= {"uid": "w1", "generation": 1, "annotations": {**body["metadata"]["annotations"], **annotations}}
    return body


def test_a_start_writes_template_and_replicas_at_once_and_clears_what_the_last_start_left() -> None:
    raw = make_workload({}, **{GIVEN_UP: "x", ROLLING: "true", "example.com/note": "kept"})
    raw["spec"] |= {"replicas": 0, "serviceName": "earlier"}
    wanted = make_children(make_job(watermark="1h"))[1].workload
    body = build_started_workload(observe_workload(raw), wanted)
    assert body["spec"]["replicas"] == 1 and body["spec"]["template"] == wanted["spec"]["template"]
    assert body["spec"]["serviceName"] == "earlier", "the API server allows no change of this field"
    annotations = body["metadata"]["annotations"]
    assert annotations["example.com/note"] == "kept" and not {GIVEN_UP, ROLLING} & annotations.keys()
    assert annotations[APPLIED_SPEC] == wanted["metadata"]["annotations"][APPLIED_SPEC]


@pytest.mark.parametrize(
    ("trigger", "field", "values"), [({}, "replicas", (0, 1)), (ONCE, "suspend", (True, False)), (NIGHTLY, "suspend", (True, False))]
)
def test_each_kind_of_workload_can_be_scaled(trigger: dict[str, Any], field: str, values: tuple[Any, Any]) -> None:
    running = observe_workload(make_workload(trigger))
    stopped = build_scaled_workload(running, 0, {ROLLING: "true"})
    assert stopped is not None and stopped["spec"][field] == values[0] and stopped["metadata"]["annotations"][ROLLING] == "true"
    resumed = build_scaled_workload(observe_workload(stopped), 1, {})
    assert resumed is not None and resumed["spec"][field] == values[1] and ROLLING not in resumed["metadata"]["annotations"]
    assert build_scaled_workload(running, 1, {}) is None, "there is nothing to change"
    assert running.kind is not Kind.JOB or build_scaled_workload(replace(running, ended=True), 0, {}) is None


def test_missing_objects_are_created_in_the_order_in_which_the_pod_needs_them() -> None:
    _, children = make_children(make_job())
    assert list_missing_objects(ObservedState(), children) == [children.claim, children.config_map, children.service]
    assert list_missing_objects(RUNNING, children) == []
    without_config_map = replace(RUNNING, config_map_uids=())
    assert list_missing_objects(without_config_map, children, CONFIG_MAP) == [children.config_map]
    assert list_missing_objects(without_config_map, children, "demo-job-older") == [], "the running driver has another ConfigMap"
    _, children = make_children(make_job(**EXISTING))
    assert list_missing_objects(RUNNING, children) == [children.record]


def test_only_config_maps_that_nothing_mounts_are_outdated() -> None:
    observed = replace(RUNNING, config_map_uids=(("new", "m1"), ("old", "m2")), used_config_maps=frozenset({"new"}))
    assert list_outdated_config_maps(observed) == [("old", "m2")]
    assert list_outdated_config_maps(replace(observed, workload=None)) == []
