"""The driver's objects, as the operator creates them."""

from __future__ import annotations

from typing import Any

import pytest

from dedup_api import names
from dedup_api.job_config import JobConfig
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG
from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.driver_settings import (
    build_driver_settings,
    parse_config,
)
from dedup_operator.domain.manifests import Children, JobImage, build_children
from dedup_operator.domain.validate import ValidJob
from unit.operator.samples import IMAGE, NIGHTLY, ONCE, SPEC, make_children, make_job


def make(image: JobImage = IMAGE, **changes: Any) -> Children:
    job = ValidJob(namespace="ns", name="demo", uid="uid", generation=1, spec=DedupJobSpec.model_validate({**SPEC, **changes}))
    return build_children(job, build_driver_settings("ns", "demo", job.spec, None), image)


def find_pod_spec(children: Children) -> dict[str, Any]:
    spec: dict[str, Any] = children.workload["spec"]["template"]["spec"]
    return spec


def test_the_config_map_is_immutable_and_named_by_its_content() -> None:
    children, other = make(), make(watermark="20m")
    assert children.config_map["immutable"] is True
    assert JobConfig.model_validate_json(children.config_map["data"]["job.json"]).watermark == "10m"
    assert children.config_map["metadata"]["name"] != other.config_map["metadata"]["name"]
    assert find_pod_spec(children)["volumes"][0]["configMap"]["name"] == children.config_map["metadata"]["name"]


def test_the_pod_meets_the_restricted_pod_security_standard() -> None:
    spec = find_pod_spec(make())
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


def test_there_is_one_driver_and_only_the_operator_replaces_it() -> None:
    spec = make().workload["spec"]
    assert (spec["replicas"], spec["updateStrategy"]) == (1, {"type": "OnDelete"})
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 120


def test_the_memory_request_is_the_memory_limit_unless_the_spec_sets_it() -> None:
    (container,) = find_pod_spec(make(driver={"resources": {"limits": {"memory": "3Gi"}}}))["containers"]
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "3Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}}


def test_the_claim_has_an_owner_only_with_the_reclaim_policy_delete() -> None:
    retained, deleted = make().claim, make(checkpoint={"reclaimPolicy": "Delete"}).claim
    assert retained is not None and deleted is not None and "ownerReferences" not in retained["metadata"]
    (owner,) = deleted["metadata"]["ownerReferences"]
    assert owner["uid"] == "uid" and owner["blockOwnerDeletion"] is False
    assert retained["spec"]["accessModes"] == ["ReadWriteOncePod"] and "storageClassName" not in retained["spec"]
    assert parse_config(retained["metadata"]["annotations"][CHECKPOINT_CONFIG]) is not None


def test_the_pod_gets_pull_secrets_and_pull_policy() -> None:
    spec = find_pod_spec(make(JobImage("job:2", "Never", ("one", "two"))))
    assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert (spec["containers"][0]["image"], spec["containers"][0]["imagePullPolicy"]) == ("job:2", "Never")


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_workload_has_the_same_name_and_one_pod_at_a_time(kind: Kind) -> None:
    job = make_job(**{Kind.STATEFUL_SET: {}, Kind.JOB: ONCE, Kind.CRON_JOB: NIGHTLY}[kind])
    _, children = make_children(job)
    workload = children.workload
    assert (workload["kind"], workload["metadata"]["name"]) == (kind, "demo-driver")
    assert len(f"{'x' * names.MAX_NAME_LENGTH}-driver") <= 52, "the CronJob controller appends eleven characters to the name"
    spec = workload["spec"]
    if kind is Kind.CRON_JOB:
        assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("0 3 * * *", "Etc/UTC", "Forbid")
        assert spec["jobTemplate"]["metadata"]["labels"][names.LABEL_JOB] == "demo"
        spec = spec["jobTemplate"]["spec"]
    if kind is not Kind.STATEFUL_SET:
        assert (spec["podReplacementPolicy"], spec["parallelism"], spec["completions"]) == ("Failed", 1, 1)
        assert spec["template"]["spec"]["restartPolicy"] == "OnFailure"
