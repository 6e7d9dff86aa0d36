"""A checkpoint in a folder of a claim that is the user's: whose folder it is, and what its keys belong to."""

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
from unit.operator.samples import observe as observe_snapshot
from unit.operator.test_decide import SPEC, ask, make_job

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
def test_the_folder_is_mounted_and_nothing_of_the_claim_is_written(folder: dict[str, str], expected: str) -> None:
    children = build(make_job(checkpoint={"existing": {"claimName": "shared", **folder}}))
    pod = children.workload["spec"]["template"]["spec"]
    assert children.claim is None and children.record is not None
    assert children.record["metadata"]["name"] == names.record_name("shared", expected)
    assert "ownerReferences" not in children.record["metadata"], "the folder outlives the DedupJob, and so does what is known of it"
    assert {"name": "checkpoint", "mountPath": names.CHECKPOINT_DIR, "subPath": expected} in pod["containers"][0]["volumeMounts"]
    assert {"name": "checkpoint", "persistentVolumeClaim": {"claimName": "shared"}} in pod["volumes"]


def test_a_claim_that_is_not_there_yet_is_asked_for_and_one_that_is_gone_is_a_loss() -> None:
    missing = ask(make_job(**EXISTING), observe(claim=None))
    assert isinstance(missing, Refuse) and missing.reason is Reason.CHECKPOINT_PENDING
    lost = ask(make_job(**EXISTING), replace(observe(claim=None), claim_was_recorded=True))
    assert isinstance(lost, Refuse) and lost.reason is Reason.CHECKPOINT_LOST


def test_a_free_folder_and_ones_own_are_taken() -> None:
    assert ask(make_job(**EXISTING), observe()) == Start(first=True)
    assert ask(make_job(**EXISTING), observe(make_record())) == Start(first=True)


def test_the_folder_of_another_job_is_left_alone() -> None:
    record = make_record()
    record["metadata"]["labels"][names.LABEL_JOB] = "other"
    taken = ask(make_job(**EXISTING), observe(record))
    assert isinstance(taken, Refuse) and taken.reason is Reason.CHECKPOINT_TAKEN and "DedupJob other" in taken.message


def test_what_another_job_has_noted_about_its_folder_is_not_seen_as_ones_own() -> None:
    """Else each round would note this job's settings there, and the other job its own again."""
    record = make_record(key={"fields": ["another"]})
    record["metadata"]["labels"][names.LABEL_JOB] = "other"
    record["metadata"]["annotations"][CHECKPOINT_BEGUN] = "true"
    claim = observe(record).claim
    assert claim is not None and (claim.record, claim.config, claim.has_state) == (None, None, False)


def test_a_claim_that_was_made_for_a_job_is_not_to_be_shared() -> None:
    made = {**CLAIM, "metadata": {**CLAIM["metadata"], "labels": build_labels("other")}}
    taken = ask(make_job(**EXISTING), observe(claim=made))
    assert isinstance(taken, Refuse) and taken.reason is Reason.CHECKPOINT_TAKEN


def test_another_job_of_the_name_is_told_by_the_record() -> None:
    record = make_record(key={"fields": ["another"]})
    record["metadata"]["annotations"][CHECKPOINT_BEGUN] = "true"
    blocked = ask(make_job(**EXISTING), observe(record))
    assert isinstance(blocked, Refuse) and blocked.reason is Reason.CHANGE_BLOCKED and "spec.key.fields" in blocked.message


def test_a_claim_that_was_made_again_has_lost_the_keys() -> None:
    record = make_record()
    annotations = record["metadata"]["annotations"]
    annotations[CLAIM_UID] = "an earlier one"
    assert ask(make_job(**EXISTING), observe(record)) == Start(first=True), "there were none"
    annotations[CHECKPOINT_BEGUN] = "true"
    lost = ask(make_job(**EXISTING), observe(record))
    assert isinstance(lost, Refuse) and lost.reason is Reason.CHECKPOINT_LOST and record["metadata"]["name"] in lost.message
    annotations[CLAIM_UID] = CLAIM["metadata"]["uid"]
    assert ask(make_job(**EXISTING), observe(record)) == Start(first=True)


def test_one_folder_has_one_record_whoever_asks() -> None:
    assert names.record_name("a", "b") != names.record_name("a", "c") != names.record_name("d", "b")
