"""The children: what they look like, and that they depend on the job alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api import names
from dedup_api.job_config import JobConfig
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG
from dedup_operator.domain.driver_settings import (
    build_driver_settings,
    list_settings_changes,
    parse_config,
    parse_spec,
    render_config,
    render_spec,
)
from dedup_operator.domain.manifests import Children, JobImage, build_children
from dedup_operator.domain.validate import Invalid, ValidJob, validate

IMAGE = JobImage("job:1")
SPEC: dict[str, Any] = {
    "source": {"bootstrapServers": "kafka:9092", "topic": "in"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "ts"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "out"}},
}


def make(image: JobImage = IMAGE, **changes: Any) -> Children:
    job = ValidJob(namespace="ns", name="demo", uid="uid", generation=1, spec=DedupJobSpec.model_validate({**SPEC, **changes}))
    return build_children(job, build_driver_settings("ns", "demo", job.spec, None), image)


def pod_spec(children: Children) -> dict[str, Any]:
    spec: dict[str, Any] = children.workload["spec"]["template"]["spec"]
    return spec


def test_the_settings_are_immutable_and_named_by_their_content() -> None:
    children, other = make(), make(watermark="20m")
    assert children.config_map["immutable"] is True
    assert JobConfig.model_validate_json(children.config_map["data"]["job.json"]).watermark == "10m"
    assert children.config_map["metadata"]["name"] != other.config_map["metadata"]["name"]
    assert pod_spec(children)["volumes"][0]["configMap"]["name"] == children.config_map["metadata"]["name"]


def test_the_pod_meets_the_restricted_standard() -> None:
    spec = pod_spec(make())
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {spec["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {names.USER_ID}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert "env" not in container and "command" not in container and "args" not in container


def test_one_driver_and_no_update_behind_the_operators_back() -> None:
    spec = make().workload["spec"]
    assert (spec["replicas"], spec["updateStrategy"]) == (1, {"type": "OnDelete"})
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 120


def test_memory_is_reserved_as_it_is_limited_unless_asked_otherwise() -> None:
    (container,) = pod_spec(make(driver={"resources": {"limits": {"memory": "3Gi"}}}))["containers"]
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "3Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}}


def test_the_claim_has_an_owner_only_where_it_is_to_go_with_the_job() -> None:
    retained, deleted = make().claim, make(checkpoint={"reclaimPolicy": "Delete"}).claim
    assert retained is not None and deleted is not None and "ownerReferences" not in retained["metadata"]
    (owner,) = deleted["metadata"]["ownerReferences"]
    assert owner["uid"] == "uid" and owner["blockOwnerDeletion"] is False
    assert retained["spec"]["accessModes"] == ["ReadWriteOncePod"] and "storageClassName" not in retained["spec"]
    assert parse_config(retained["metadata"]["annotations"][CHECKPOINT_CONFIG]) is not None


def test_pull_secrets_and_policy_are_passed_on() -> None:
    spec = pod_spec(make(JobImage("job:2", "Never", ("one", "two"))))
    assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert (spec["containers"][0]["image"], spec["containers"][0]["imagePullPolicy"]) == ("job:2", "Never")


specs = st.fixed_dictionaries(
    {
        "watermark": st.sampled_from(["1s", "10m", "1h30m"]),
        "key": st.fixed_dictionaries({"fields": st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)}),
        "parallelism": st.none() | st.integers(1, 64),
        "restartNonce": st.none() | st.integers(0, 9),
        "suspend": st.booleans(),
        "driver": st.fixed_dictionaries(
            {"resources": st.fixed_dictionaries({"limits": st.fixed_dictionaries({"cpu": st.sampled_from(["500m", "2", 4])})})}
        ),
    }
)


@given(specs)
def test_building_is_deterministic_and_survives_the_round_trip(changes: dict[str, Any]) -> None:
    changes = {field: value for field, value in changes.items() if value is not None}
    assert make(**changes) == make(**changes)
    assert json.dumps(make(**changes).workload) == json.dumps(make(**changes).workload)
    spec = DedupJobSpec.model_validate({**SPEC, **changes})
    kept = parse_spec(render_spec(spec))
    assert kept is not None
    before, after = build_driver_settings("ns", "demo", kept, None), build_driver_settings("ns", "demo", spec, None)
    assert list_settings_changes(before, after) == []
    assert parse_config(render_config(after.config)) == after.config


@given(specs, specs)
def test_a_restart_is_asked_for_exactly_when_the_driver_would_notice(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = (
        build_driver_settings(
            "ns", "demo", DedupJobSpec.model_validate({**SPEC, **{k: v for k, v in changes.items() if v is not None}}), None
        )
        for changes in (one, other)
    )
    same = (first.config, first.resources, first.spec.restart_nonce) == (second.config, second.resources, second.spec.restart_nonce)
    assert (list_settings_changes(first, second) == []) == same


def resource(**changes: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": "demo", "uid": "u", "generation": 3}, "spec": {**SPEC, **changes}}


def test_a_valid_resource_becomes_a_job() -> None:
    job = validate(resource())
    assert isinstance(job, ValidJob) and (job.name, job.generation) == ("demo", 3)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"watermark": "10 fortnights"}, "spec.watermark"),
        ({"watermark": None}, "spec.watermark"),
        ({"trigger": {"processingTime": "often"}}, "spec.trigger.processingTime"),
        ({"sink": {}}, "spec.sink"),
        ({"sink": {"console": {}, "kafka": {"topic": "x"}}}, "spec.sink"),
        ({"driver": {"resources": {"limits": {"memory": "lots"}}}}, "spec.driver.resources.limits.memory"),
        ({"checkpoint": {"claim": {"size": "big"}}}, "spec.checkpoint.claim.size"),
        ({"key": {"fields": []}}, "spec.key.fields"),
    ],
)
def test_what_an_older_crd_let_in_is_named(changes: dict[str, Any], field: str) -> None:
    job = validate(resource(**changes))
    assert isinstance(job, Invalid) and field in job.message
