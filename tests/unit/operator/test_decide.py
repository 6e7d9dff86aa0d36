"""Decisions about a DedupJob: single situations, and laws that hold in all situations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.reasons import Reason
from dedup_operator.domain.annotations import GivenUp, parse_given_up
from dedup_operator.domain.decision import (
    Decision,
    GiveUp,
    Keep,
    Refuse,
    RemoveWorkload,
    RepairDrift,
    ScaleDownForRestart,
    Start,
    Suspend,
    Suspended,
    Wait,
)
from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.observe.pod import DriverPod
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Run
from dedup_operator.domain.validate import Invalid, ValidJob
from unit.operator.samples import (
    CLAIM,
    CONFIG_MAP,
    CRASHED,
    FAILED,
    JOB,
    NOW,
    POD,
    REFUSED,
    RUNNING,
    SET,
    SETTINGS,
    STOPPED,
    decide_on,
    make_children,
    make_job,
)


def test_a_new_job_starts() -> None:
    assert decide_on(JOB, ObservedState()) == Start(first=True)


def test_a_driver_with_the_present_settings_is_kept() -> None:
    assert decide_on(JOB, RUNNING) == Keep()


@pytest.mark.parametrize("changes", [{"suspend": False}, {"parallelism": 2}, {"driver": {"resources": {}}}])
def test_writing_out_a_default_is_no_edit(changes: dict[str, Any]) -> None:
    """The default of parallelism is the CPU limit."""
    assert decide_on(make_job(2, **changes), RUNNING) == Keep()


@pytest.mark.parametrize("observed", [STOPPED, ObservedState(claim=CLAIM)])
def test_an_edit_that_the_stored_keys_do_not_fit_blocks_the_next_start(observed: ObservedState) -> None:
    decision = decide_on(make_job(2, key={"fields": ["id", "more"]}), observed)
    assert isinstance(decision, Refuse) and not decision.stop
    assert decision.reason == Reason.CHANGE_BLOCKED and "spec.key.fields" in decision.message


def test_an_incompatible_edit_does_not_stop_a_driver_that_does_not_answer() -> None:
    unknown = replace(RUNNING, claim=replace(CLAIM, has_state=False, state_unknown=True))
    decision = decide_on(make_job(2, key={"fields": ["other"]}), unknown)
    assert isinstance(decision, Refuse) and not decision.stop


@pytest.mark.parametrize("phase", ["Bound", "Pending"])
def test_while_no_keys_are_stored_an_incompatible_edit_restarts_the_driver(phase: str) -> None:
    fresh = replace(RUNNING, claim=replace(CLAIM, phase=phase, has_state=False))
    assert isinstance(decide_on(make_job(2, source={"bootstrapServers": "k:9092", "topic": "corrected"}), fresh), ScaleDownForRestart)


@pytest.mark.parametrize(
    ("restarting", "pod", "suspend", "resume"),
    [(True, None, False, True), (True, POD, False, False), (False, None, False, False), (True, None, True, False)],
)
def test_a_refused_edit_during_a_restart_resumes_the_driver(restarting: bool, pod: DriverPod | None, suspend: bool, resume: bool) -> None:
    observed = replace(STOPPED, workload=replace(SET, replicas=0, restarting=restarting), pod=pod)
    blocked = decide_on(make_job(2, key={"fields": ["other"]}, suspend=suspend), observed)
    invalid = decide_on(Invalid("uid-1", "spec.watermark: no", suspend), observed)
    for decision in (blocked, invalid):
        assert isinstance(decision, Refuse)
        assert decision.resume is resume


def test_a_lost_checkpoint_resumes_no_driver() -> None:
    observed = replace(STOPPED, workload=replace(SET, replicas=0, restarting=True), claim=None)
    decision = decide_on(JOB, observed)
    assert isinstance(decision, Refuse) and not decision.resume


def test_a_larger_cpu_limit_keeps_the_parallelism_of_the_checkpoint() -> None:
    job = make_job(2, driver={"resources": {"limits": {"cpu": "8"}}})
    settings, _ = make_children(job, CLAIM)
    assert (settings.config.cpus, settings.config.parallelism) == (8, SETTINGS.config.parallelism)


def test_drift_is_repaired_without_a_restart() -> None:
    drifted = replace(RUNNING, workload=replace(SET, drifted=True))
    assert decide_on(JOB, drifted) == RepairDrift()
    assert isinstance(decide_on(make_job(2, watermark="1h"), drifted), ScaleDownForRestart), "an edit still restarts the driver"
    assert decide_on(JOB, replace(STOPPED, workload=replace(SET, replicas=0, drifted=True))) == Start(first=False)


def test_a_running_driver_continues_while_an_old_object_is_deleted() -> None:
    with_old_pod = replace(RUNNING, terminating=("Pod demo-driver-of-an-earlier-job",))
    assert decide_on(JOB, with_old_pod) == Keep()
    assert isinstance(decide_on(JOB, replace(STOPPED, terminating=("Pod demo-driver-1",))), Wait)


def test_an_image_that_cannot_be_pulled_is_replaced_by_the_present_image() -> None:
    stuck = replace(POD, started_at=None, waiting="ImagePullBackOff")
    assert decide_on(JOB, replace(RUNNING, pod=stuck)) == Keep()
    assert isinstance(decide_on(JOB, replace(RUNNING, pod=stuck, workload=replace(SET, image="job:0"))), ScaleDownForRestart)


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (RUNNING, Suspend()),
        (replace(RUNNING, workload=replace(SET, replicas=0)), Suspend()),
        (STOPPED, Suspended()),
        (ObservedState(), Suspended()),
    ],
)
def test_a_suspended_job_has_no_driver(observed: ObservedState, expected: Decision) -> None:
    assert decide_on(make_job(2, suspend=True), observed) == expected


def test_a_job_with_a_refused_edit_can_be_suspended() -> None:
    blocked = decide_on(make_job(2, suspend=True, key={"fields": ["other"]}), RUNNING)
    assert isinstance(blocked, Refuse) and blocked.stop
    invalid = decide_on(Invalid("uid-1", "spec.watermark: no", suspend=True), RUNNING)
    assert isinstance(invalid, Refuse) and invalid.stop


def test_the_driver_starts_only_when_the_old_pod_is_gone() -> None:
    assert isinstance(decide_on(JOB, replace(STOPPED, pod=replace(POD, deleting=True))), Wait)
    assert decide_on(JOB, STOPPED) == Start(first=False)


def test_the_operator_gives_up_after_a_permanent_exit_until_the_spec_changes() -> None:
    failed = replace(RUNNING, pod=FAILED)
    expected = GivenUp(1, Reason.CONFIGURATION_REFUSED, "no", REFUSED)
    assert parse_given_up(expected.render()) == expected
    assert parse_given_up('{"generation": 1, "reason": "DriverFailed", "message": "x"}') == GivenUp(1, Reason.DRIVER_FAILED, "x")
    assert decide_on(JOB, failed) == GiveUp(expected)
    assert decide_on(JOB, replace(RUNNING, pod=replace(FAILED, exits=(CRASHED, REFUSED), last_exit=CRASHED))) == Keep()
    stopped = replace(STOPPED, workload=replace(SET, replicas=0, given_up=expected))
    assert decide_on(JOB, stopped) == GiveUp(expected)
    assert decide_on(make_job(2), stopped) == Start(first=False)
    assert isinstance(decide_on(make_job(2, watermark="1h"), failed), ScaleDownForRestart)


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (replace(RUNNING, conflicting_objects=("Service demo-driver",)), Reason.NAME_CONFLICT),
        (replace(STOPPED, claim=None), Reason.CHECKPOINT_LOST),
        (ObservedState(claim_was_recorded=True), Reason.CHECKPOINT_LOST),
        (replace(RUNNING, claim=replace(CLAIM, deleting=True)), Reason.CHECKPOINT_LOST),
        (replace(STOPPED, claim=replace(CLAIM, phase="Lost")), Reason.CHECKPOINT_LOST),
        (ObservedState(claim=replace(CLAIM, config=None)), Reason.CHANGE_BLOCKED),
    ],
)
def test_a_start_that_would_do_harm_is_refused(observed: ObservedState, reason: Reason) -> None:
    decision = decide_on(JOB, observed)
    assert isinstance(decision, Refuse) and decision.reason == reason


def test_the_operator_waits_until_the_children_of_an_earlier_job_are_deleted() -> None:
    assert isinstance(decide_on(JOB, ObservedState(terminating=("StatefulSet demo-driver",))), Wait)


def test_a_lost_config_map_is_recreated_or_the_driver_restarts() -> None:
    assert decide_on(JOB, replace(RUNNING, config_map_uids=())) == Keep()
    lost = replace(RUNNING, workload=replace(SET, config_map="demo-job-older"), config_map_uids=())
    assert isinstance(decide_on(JOB, lost), ScaleDownForRestart)


pods = st.none() | st.builds(
    replace,
    st.just(POD),
    deleting=st.booleans(),
    started_at=st.none() | st.just(NOW),
    waiting=st.sampled_from([None, "CrashLoopBackOff", "ErrImagePull"]),
    exits=st.sampled_from([(), (REFUSED,), (CRASHED,), (CRASHED, REFUSED)]),
)
sets = st.none() | st.builds(
    replace,
    st.just(SET),
    replicas=st.integers(0, 2),
    applied=st.sampled_from([None, JOB.spec, make_job(watermark="1h").spec]),
    given_up=st.none() | st.builds(GivenUp, st.integers(1, 3), st.just(Reason.DRIVER_FAILED), st.just("x")),
    image=st.sampled_from(["job:0", "job:1"]),
    kind=st.sampled_from(list(Kind)),
    drifted=st.booleans(),
    ended=st.booleans(),
    completed=st.booleans(),
    runs=st.sampled_from([(), (Run("demo-driver-1", "run", deleting=False),), (Run("demo-driver-1", "run", deleting=True),)]),
)
claims = st.none() | st.builds(
    replace,
    st.just(CLAIM),
    deleting=st.booleans(),
    phase=st.sampled_from(["Bound", "Pending", "Lost"]),
    config=st.sampled_from([None, SETTINGS.config, make_children(make_job(key={"fields": ["b"]}))[0].config]),
)
states = st.builds(
    ObservedState,
    workload=sets,
    pod=pods,
    claim=claims,
    has_service=st.booleans(),
    config_map_uids=st.sampled_from([(), ((CONFIG_MAP, "cm"),)]),
    conflicting_objects=st.sampled_from([(), ("Service demo-driver",)]),
    terminating=st.sampled_from([(), ("Pod demo-driver-0",)]),
    claim_was_recorded=st.booleans(),
)
jobs = st.builds(
    make_job,
    st.integers(1, 3),
    suspend=st.booleans(),
    watermark=st.sampled_from(["10m", "1h"]),
    key=st.sampled_from([{"fields": ["id"]}, {"fields": ["b"]}]),
    trigger=st.sampled_from([{"processingTime": "5s"}, {"availableNow": {}}, {"availableNow": {"schedule": "@daily"}}]),
)


@given(jobs, states)
def test_no_driver_starts_beside_a_pod_or_on_a_checkpoint_that_does_not_fit(job: ValidJob, observed: ObservedState) -> None:
    decision = decide_on(job, observed)
    if isinstance(decision, Start):
        assert observed.pod is None and not observed.conflicting_objects and not observed.terminating and not job.spec.suspend
        assert observed.workload is None or observed.workload.replicas == 0
        assert observed.claim is None or (observed.claim.config is not None and observed.claim.config.key.fields == job.spec.key.fields)
        assert observed.claim is not None or not (observed.claim_was_recorded or observed.workload)
    if isinstance(decision, RemoveWorkload):
        assert observed.pod is None and not job.spec.suspend


@given(jobs, states)
def test_a_refusal_stops_a_driver_only_when_the_job_is_suspended(job: ValidJob, observed: ObservedState) -> None:
    decision = decide_on(job, observed)
    if isinstance(decision, Refuse):
        assert decision.stop == job.spec.suspend
    if isinstance(decision, ScaleDownForRestart | Keep):
        assert not job.spec.suspend


@given(jobs, states)
def test_decisions_are_deterministic(job: ValidJob, observed: ObservedState) -> None:
    assert decide_on(job, observed) == decide_on(job, observed)
