"""spec.checkpoint names another claim or folder than the driver mounts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dedup_api.driver_status import DriverStatus, Phase, TerminationMessage
from dedup_api.reasons import Reason
from dedup_operator.domain.conditions import build_conditions
from dedup_operator.domain.decision import Refuse, RemoveWorkload, ScaleDownForRestart, Start, Wait
from dedup_operator.domain.diagnose import diagnose
from dedup_operator.domain.driver_objects import CheckpointPlace, find_mounted_place, find_wanted_place
from dedup_operator.domain.driver_settings import list_settings_changes
from dedup_operator.domain.manifests.metadata import build_labels
from dedup_operator.domain.observe.pod import DriverUnreachable
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.status import build_status, parse_status
from unit.operator.samples import (
    CRON_JOB,
    NIGHTLY,
    NOW,
    ONCE,
    ONE_RUN,
    POD,
    RUN,
    RUNNING,
    SET,
    SPEC,
    STOPPED,
    decide_on,
    make_children,
    make_job,
    observe,
)
from unit.operator.test_diagnose import make_input

SHARED: dict[str, Any] = {"checkpoint": {"existing": {"claimName": "shared", "subPath": "orders"}}}
WITHOUT_FOLDER: dict[str, Any] = {"checkpoint": {"existing": {"claimName": "shared"}}}
SHARED_CLAIM: dict[str, Any] = {
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "shared", "namespace": "ns", "uid": "c2", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"resources": {"requests": {"storage": "1Gi"}}},
    "status": {"phase": "Bound"},
}


def make_pod(state: dict[str, Any]) -> dict[str, Any]:
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "demo-driver", "uid": "set", "controller": True}
    metadata = {
        "name": "demo-driver-0",
        "namespace": "ns",
        "uid": "p",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [owner],
        "labels": build_labels("demo"),
    }
    containers = [{"name": "driver", "state": state}] if state else []
    return {"kind": "Pod", "metadata": metadata, "status": {"podIP": "10.0.0.1", "containerStatuses": containers}}


def observe_move(
    old: dict[str, Any],
    new: dict[str, Any],
    *,
    drifted: bool = False,
    workload: bool = True,
    claim: Any = SHARED_CLAIM,
    status: dict[str, Any] | None = None,
    pod: dict[str, Any] | None = None,
    driver_status: DriverStatus | DriverUnreachable | None = None,
    deleted: dict[str, Any] | None = None,
) -> ObservedState:
    """A StatefulSet with the settings `old` is there, and the spec is `new`. `pod` and `deleted`: the state of the container
    in the live pod, and in the last one that was deleted."""
    _, children = make_children(make_job(**old))
    body = {
        **children.workload,
        "metadata": {**children.workload["metadata"], "uid": "set", "generation": 7, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"observedGeneration": 7},
    }
    body["metadata"]["annotations"]["streamdedup.dev/applied-generation"] = "6" if drifted else "7"
    job = {"metadata": {"namespace": "ns", "name": "demo", "uid": "uid", "generation": 2}, "spec": {**SPEC, **new}, "status": status or {}}
    snapshot = Snapshot(
        job=job,
        stateful_set=body if workload else None,
        claim=claim,
        pods=() if pod is None else (make_pod(pod),),
        driver_status=driver_status,
        last_deleted_pod=None if deleted is None else make_pod(deleted),
    )
    return observe(snapshot)


@pytest.mark.parametrize(
    ("old", "new", "moved_from"),
    [
        ({}, {}, None),
        ({}, SHARED, "demo-checkpoint"),
        (SHARED, {}, "shared"),
        (SHARED, SHARED, None),
        (
            {"checkpoint": {"existing": {"claimName": "shared"}}},
            {"checkpoint": {"existing": {"claimName": "shared", "subPath": "demo"}}},
            None,
        ),
        (SHARED, {"checkpoint": {"existing": {"claimName": "shared", "subPath": "other"}}}, "shared"),
        (SHARED, {"checkpoint": {"existing": {"claimName": "shared", "subPath": "orders", "fsGroup": "Leave"}}}, None),
    ],
)
def test_the_workload_shows_where_the_checkpoint_was(old: dict[str, Any], new: dict[str, Any], moved_from: str | None) -> None:
    assert observe_move(old, new).moved_from == moved_from


def test_a_folder_is_a_place_too() -> None:
    known = {"checkpoint": {"claim": "shared", "folder": "orders"}}
    other = {"checkpoint": {"existing": {"claimName": "shared", "subPath": "other"}}}
    assert observe_move(SHARED, other, drifted=True, status=known).moved_from == "shared"
    assert observe_move(SHARED, SHARED, drifted=True, status=known).moved_from is None
    assert observe_move(SHARED, SHARED, drifted=True, status={"checkpoint": {"claim": "shared"}}).moved_from is None, "version 0.1.0"


def test_without_a_workload_of_the_operators_own_the_status_shows_it() -> None:
    known = {"checkpoint": {"claim": "demo-checkpoint"}}
    assert observe_move({}, SHARED, workload=False).moved_from is None
    assert observe_move({}, SHARED, workload=False, status=known).moved_from == "demo-checkpoint"


def test_a_workload_that_something_else_changed_proves_nothing_against_the_status() -> None:
    known = {"checkpoint": {"claim": "demo-checkpoint"}}
    assert observe_move(SHARED, {}, drifted=True).moved_from == "shared", "there is nothing else to go by"
    assert observe_move(SHARED, {}, drifted=True, status=known).moved_from is None
    assert observe_move(SHARED, SHARED, drifted=True, status=known).moved_from == "demo-checkpoint"


@pytest.mark.parametrize(
    ("status", "kept"),
    [
        ({}, False),
        ({"checkpoint": {"claim": "demo-checkpoint"}}, False),
        ({"checkpoint": {"claim": "demo-checkpoint", "keysStored": True}}, True),
        ({"progress": {"batch": 0}}, True),
    ],
)
def test_the_status_says_whether_keys_are_left_behind(status: dict[str, Any], kept: bool) -> None:
    assert observe_move({}, SHARED, status=status).keys_left_behind is kept


ENDED = {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:01:00Z"}}


def say(has_state: bool | None, attempt: int = 1) -> dict[str, Any]:
    said = TerminationMessage(reason=Reason.DRIVER_FAILED, message="stopped as requested", checkpoint_has_state=has_state, attempt=attempt)
    return {"terminated": {**ENDED["terminated"], "message": json.dumps(said.to_json_dict())}}


RUNNING_STATE: dict[str, Any] = {"running": {"startedAt": "2026-01-01T00:00:10Z"}}
EMPTY = DriverStatus(phase=Phase.STARTING, reports_keys_at_end=True)
WITH_KEYS = DriverStatus(phase=Phase.RUNNING, checkpoint_has_state=True, reports_keys_at_end=True)


@pytest.mark.parametrize(
    ("live", "driver_status", "deleted", "attempt", "kept"),
    [
        (None, None, None, None, False),  # no driver has ever run
        (None, None, None, 1, True),  # one has run, and nothing is known about its end
        ({}, None, None, None, False),  # the pod waits for its node
        ({}, None, None, 1, True),
        (RUNNING_STATE, EMPTY, None, 1, False),
        (RUNNING_STATE, WITH_KEYS, None, 1, True),
        (RUNNING_STATE, DriverStatus(phase=Phase.STARTING), None, 1, True),  # version 0.1.0 would say nothing at its end
        (RUNNING_STATE, DriverUnreachable(NOW, "no answer"), None, 1, True),
        (RUNNING_STATE, None, None, None, True),
        (None, None, say(False), 1, False),
        (None, None, say(True), 1, True),
        (None, None, say(None), 1, True),
        (None, None, ENDED, None, True),  # a driver of version 0.1.0 says nothing
        (None, None, {"terminated": {**say(False)["terminated"], "exitCode": 73}}, 1, False),  # it failed before it stored keys
        (say(False, 0), None, None, None, False),  # no driver has ever been able to use the volume
        (say(False, 0), None, None, 1, True),
        (None, None, say(False), 2, True),  # a later driver has answered since
        (None, None, {"terminated": {"exitCode": 137, "finishedAt": "2026-01-01T00:01:00Z"}}, 1, True),
        (say(False), None, None, 1, False),
        (RUNNING_STATE, None, say(False), 1, True),
        (None, None, {}, None, False),  # the container of the deleted pod never ran
    ],
)
def test_only_a_proof_that_no_keys_are_stored_lets_the_driver_move(
    live: Any, driver_status: Any, deleted: Any, attempt: int | None, kept: bool
) -> None:
    status = {"checkpoint": {"claim": "demo-checkpoint", "attempt": attempt}} if attempt else {}
    found = observe_move({}, SHARED, status=status, pod=live, driver_status=driver_status, deleted=deleted)
    assert found.moved_from == "demo-checkpoint" and found.keys_left_behind is kept


def test_keys_that_would_be_left_behind_block_the_edit() -> None:
    decision = decide_on(make_job(2, **SHARED), replace(RUNNING, moved_from="demo-checkpoint", keys_left_behind=True))
    assert isinstance(decision, Refuse) and decision.reason == Reason.CHANGE_BLOCKED
    assert "Keys may be stored in claim demo-checkpoint" in decision.message and not decision.stop


def test_without_keys_the_driver_restarts_at_the_new_place() -> None:
    job = make_job(2, **SHARED)
    decision = decide_on(job, replace(RUNNING, moved_from="demo-checkpoint"))
    assert isinstance(decision, ScaleDownForRestart) and "spec.checkpoint" in decision.message
    assert decide_on(job, replace(STOPPED, moved_from="demo-checkpoint")) == Start(first=False)


def test_a_new_claim_that_does_not_exist_is_pending_and_not_lost() -> None:
    decision = decide_on(make_job(2, **SHARED), observe_move({}, SHARED, claim=None, status={"checkpoint": {"claim": "demo-checkpoint"}}))
    assert isinstance(decision, Refuse) and decision.reason == Reason.CHECKPOINT_PENDING


def test_a_job_that_ran_before_its_claim_was_named_again_has_lost_it() -> None:
    decision = decide_on(make_job(2, **SHARED), observe_move(SHARED, SHARED, claim=None, status={"checkpoint": {"claim": "shared"}}))
    assert isinstance(decision, Refuse) and decision.reason == Reason.CHECKPOINT_LOST


def test_the_present_run_of_a_schedule_stops_before_the_next_one_gets_another_place() -> None:
    job = make_job(2, **NIGHTLY, **SHARED)
    decision = decide_on(job, replace(RUNNING, workload=replace(CRON_JOB, runs=(RUN,)), moved_from="demo-checkpoint"))
    assert isinstance(decision, ScaleDownForRestart), "the run must end before the template names another place"
    suspended = replace(CRON_JOB, replicas=0, restarting=True)
    assert decide_on(job, replace(STOPPED, workload=suspended, moved_from="demo-checkpoint")) == Start(first=False)


def test_a_run_that_has_failed_without_keys_is_created_again_at_the_new_place() -> None:
    job = make_job(2, **ONCE, **SHARED)
    ended = replace(ONE_RUN, ended=True, replicas=0)
    assert isinstance(decide_on(job, replace(STOPPED, workload=ended, moved_from="demo-checkpoint")), RemoveWorkload)


def test_while_the_move_is_blocked_the_status_keeps_the_old_place() -> None:
    before = parse_status({"status": {"observedGeneration": 1, "checkpoint": {"claim": "demo-checkpoint", "keysStored": True}}})
    observed = observe_move({}, SHARED, status={"checkpoint": {"claim": "demo-checkpoint", "keysStored": True}})
    assert build_status(before, observed, 2, [], NOW).checkpoint == before.checkpoint


def test_the_status_says_that_keys_are_stored() -> None:
    before = parse_status({})
    found = build_status(before, RUNNING, 1, [], NOW).checkpoint
    assert found is not None and found.keys_stored is True
    assert RUNNING.claim is not None
    empty = replace(RUNNING, claim=replace(RUNNING.claim, has_state=False))
    found = build_status(before, empty, 1, [], NOW).checkpoint
    assert found is not None and found.keys_stored is None


def test_places() -> None:
    assert find_wanted_place("demo", {}) == CheckpointPlace("demo-checkpoint")
    assert find_wanted_place("demo", {"checkpoint": "x"}) == CheckpointPlace("demo-checkpoint")
    assert find_wanted_place("demo", SHARED) == CheckpointPlace("shared", "orders")
    for spec in ({}, SHARED, NIGHTLY, {**ONCE, **SHARED}):
        _, children = make_children(make_job(**spec))
        assert find_mounted_place(children.workload) == find_wanted_place("demo", spec)


def test_the_operator_waits_for_the_last_words_of_a_driver_that_stops() -> None:
    stopping = replace(STOPPED, pod=replace(POD, deleting=True), moved_from="demo-checkpoint", keys_left_behind=True)
    assert isinstance(decide_on(make_job(2, **SHARED), stopping), Wait)
    unproved = replace(STOPPED, workload=replace(SET, replicas=0, restarting=True), moved_from="demo-checkpoint", keys_left_behind=True)
    decision = decide_on(make_job(2, **SHARED), unproved)
    assert isinstance(decision, Refuse) and decision.resume, "without a proof the driver resumes where it was"


def test_while_the_move_is_blocked_the_conditions_name_the_old_place() -> None:
    observed = replace(observe_move({}, SHARED), pod=POD, driver_status=WITH_KEYS, keys_left_behind=True)
    given = replace(make_input(observed, decide_on(make_job(2, **SHARED), observed)), spec=make_job(2, **SHARED).spec)
    found = {condition.type: condition for condition in build_conditions(given, diagnose(given), 2)}
    assert found["Ready"].reason == found["CheckpointReady"].reason == Reason.CHANGE_BLOCKED
    assert "demo-checkpoint" in found["CheckpointReady"].message


def test_an_edit_after_an_upgrade_names_only_the_fields_that_differ() -> None:
    """Version 0.1.0 recorded no place of the checkpoint."""
    before = make_children(make_job())[0]
    after = make_children(make_job(**SHARED, watermark="20m"))[0]
    assert list_settings_changes(before, after) == ["spec.watermark"]
    leave = make_children(make_job(checkpoint={"existing": {"claimName": "shared", "fsGroup": "Leave"}}))[0]
    assert list_settings_changes(before, leave) == ["spec.checkpoint.existing.fsGroup"]
