"""A checkpoint in a folder on a claim of the user: who owns the folder, and to which settings its keys belong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dedup_api import names
from dedup_api.reasons import Reason
from dedup_operator.domain.annotations import CHECKPOINT_BEGUN, CLAIM_UID
from dedup_operator.domain.decision import Refuse, Start
from dedup_operator.domain.driver_settings import build_driver_settings
from dedup_operator.domain.manifests import Children, JobImage, build_children
from dedup_operator.domain.manifests.metadata import build_labels
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.validate import ValidJob
from unit.operator.samples import SPEC, decide_on, make_job
from unit.operator.samples import observe as observe_snapshot

EXISTING: dict[str, Any] = {"checkpoint": {"existing": {"claimName": "shared", "subPath": "orders"}}}
OBJECT = {"metadata": {"namespace": "ns", "name": "demo", "uid": "uid", "generation": 1}, "spec": {**SPEC, **EXISTING}}
CLAIM: dict[str, Any] = {
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "shared", "namespace": "ns", "uid": "c1", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"resources": {"requests": {"storage": "1Gi"}}},
    "status": {"phase": "Bound"},
}


def build(job: ValidJob) -> Children:
    return build_children(job, build_driver_settings(job.namespace, job.name, job.spec, None), JobImage("job:1"))


def observe(record: dict[str, Any] | None = None, claim: dict[str, Any] | None = CLAIM) -> ObservedState:
    return observe_snapshot(Snapshot(job=OBJECT, claim=claim, record=record))


def make_record(**changes: Any) -> dict[str, Any]:
    record = build(make_job(**EXISTING, **changes)).record
    assert record is not None
    return record


@pytest.mark.parametrize(("folder", "expected"), [({"subPath": "orders"}, "orders"), ({}, "demo")])
def test_the_driver_mounts_the_folder_and_the_operator_does_not_create_the_claim(folder: dict[str, str], expected: str) -> None:
    children = build(make_job(checkpoint={"existing": {"claimName": "shared", **folder}}))
    pod = children.workload["spec"]["template"]["spec"]
    assert children.claim is None and children.record is not None
    assert children.record["metadata"]["name"] == names.record_name("shared", expected)
    assert "ownerReferences" not in children.record["metadata"], "the folder outlives the DedupJob, and so must its record"
    assert {"name": "checkpoint", "mountPath": names.CHECKPOINT_DIR, "subPath": expected} in pod["containers"][0]["volumeMounts"]
    assert {"name": "checkpoint", "persistentVolumeClaim": {"claimName": "shared"}} in pod["volumes"]


def test_a_missing_claim_is_pending_before_the_first_start_and_lost_after_it() -> None:
    missing = decide_on(make_job(**EXISTING), observe(claim=None))
    assert isinstance(missing, Refuse) and missing.reason == Reason.CHECKPOINT_PENDING
    lost = decide_on(make_job(**EXISTING), replace(observe(claim=None), claim_was_recorded=True))
    assert isinstance(lost, Refuse) and lost.reason == Reason.CHECKPOINT_LOST


def test_a_job_can_use_a_free_folder_and_its_own_folder() -> None:
    assert decide_on(make_job(**EXISTING), observe()) == Start(first=True)
    assert decide_on(make_job(**EXISTING), observe(make_record())) == Start(first=True)


def test_the_folder_of_another_job_is_refused() -> None:
    record = make_record()
    record["metadata"]["labels"][names.LABEL_JOB] = "other"
    taken = decide_on(make_job(**EXISTING), observe(record))
    assert isinstance(taken, Refuse) and taken.reason == Reason.CHECKPOINT_TAKEN and "DedupJob other" in taken.message


def test_the_record_of_another_job_is_ignored() -> None:
    """Otherwise the two jobs would overwrite the record in turns."""
    record = make_record(key={"fields": ["another"]})
    record["metadata"]["labels"][names.LABEL_JOB] = "other"
    record["metadata"]["annotations"][CHECKPOINT_BEGUN] = "true"
    claim = observe(record).claim
    assert claim is not None and (claim.record, claim.config, claim.has_state) == (None, None, False)


def test_a_claim_that_the_operator_created_cannot_be_shared() -> None:
    created = {**CLAIM, "metadata": {**CLAIM["metadata"], "labels": build_labels("other")}}
    taken = decide_on(make_job(**EXISTING), observe(claim=created))
    assert isinstance(taken, Refuse) and taken.reason == Reason.CHECKPOINT_TAKEN


def test_the_record_blocks_a_later_job_of_the_same_name_with_other_settings() -> None:
    record = make_record(key={"fields": ["another"]})
    record["metadata"]["annotations"][CHECKPOINT_BEGUN] = "true"
    blocked = decide_on(make_job(**EXISTING), observe(record))
    assert isinstance(blocked, Refuse) and blocked.reason == Reason.CHANGE_BLOCKED and "spec.key.fields" in blocked.message


def test_a_recreated_claim_has_lost_the_keys() -> None:
    record = make_record()
    annotations = record["metadata"]["annotations"]
    annotations[CLAIM_UID] = "an earlier one"
    assert decide_on(make_job(**EXISTING), observe(record)) == Start(first=True), "no keys were stored on the earlier claim"
    annotations[CHECKPOINT_BEGUN] = "true"
    lost = decide_on(make_job(**EXISTING), observe(record))
    assert isinstance(lost, Refuse) and lost.reason == Reason.CHECKPOINT_LOST and record["metadata"]["name"] in lost.message
    annotations[CLAIM_UID] = CLAIM["metadata"]["uid"]
    assert decide_on(make_job(**EXISTING), observe(record)) == Start(first=True)


def test_each_folder_has_its_own_record() -> None:
    assert names.record_name("a", "b") != names.record_name("a", "c") != names.record_name("d", "b")


@pytest.mark.parametrize(("fs_group", "expected"), [(None, 10001), ("Apply", 10001), ("Leave", None)])
def test_kubelet_changes_the_group_of_the_volume_unless_the_spec_says_leave(fs_group: str | None, expected: int | None) -> None:
    existing = {"claimName": "shared", **({"fsGroup": fs_group} if fs_group else {})}
    context = build(make_job(checkpoint={"existing": existing})).workload["spec"]["template"]["spec"]["securityContext"]
    assert (context.get("fsGroup"), "fsGroupChangePolicy" in context) == (expected, expected is not None)
    assert context["runAsUser"] == context["runAsGroup"] == 10001
