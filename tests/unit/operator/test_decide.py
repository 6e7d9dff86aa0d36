"""Decisions: a table of situations, and laws that hold for all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import DriverExit
from dedup_operator.domain import decide as rules
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
from dedup_operator.domain.driver_settings import DriverSettings, build_driver_settings
from dedup_operator.domain.manifests import Children, JobImage, build_children
from dedup_operator.domain.observe.checkpoint import CheckpointClaim
from dedup_operator.domain.observe.pod import DriverPod
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Run, Workload
from dedup_operator.domain.validate import Invalid, ValidJob

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IMAGE = JobImage("job:1")
SPEC: dict[str, Any] = {
    "source": {"bootstrapServers": "kafka:9092", "topic": "in"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "ts"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "out"}},
}


def make_job(generation: int = 1, **changes: Any) -> ValidJob:
    return ValidJob(namespace="ns", name="demo", uid="uid", generation=generation, spec=DedupJobSpec.model_validate({**SPEC, **changes}))


def make_children(job: ValidJob, claim: CheckpointClaim | None = None) -> tuple[DriverSettings, Children]:
    inputs = build_driver_settings(job.namespace, job.name, job.spec, claim.config if claim and claim.may_hold_keys else None)
    return inputs, build_children(job, inputs, IMAGE)


JOB = make_job()
INPUTS, CHILDREN = make_children(JOB)
CONFIG_MAP = CHILDREN.config_map["metadata"]["name"]
CLAIM = CheckpointClaim(
    phase="Bound",
    deleting=False,
    config=INPUTS.config,
    annotated=True,
    has_state=True,
    state_unknown=False,
    owned=False,
    size="10Gi",
    raw={},
)
SET = Workload(
    kind=Kind.STATEFUL_SET,
    uid="set",
    replicas=1,
    applied=JOB.spec,
    given_up=None,
    restarting=False,
    image="job:1",
    config_map=CONFIG_MAP,
    raw={},
)
POD = DriverPod(
    name="demo-driver-0",
    uid="pod",
    address="10.0.0.1",
    deleting=False,
    created_at=NOW,
    scheduled=True,
    unschedulable=None,
    waiting=None,
    waiting_message="",
    started_at=NOW,
    ready=True,
    restarts=0,
    exits=(),
)
RUNNING = ObservedState(
    workload=SET, pod=POD, claim=CLAIM, has_service=True, config_map_uids=((CONFIG_MAP, "cm"),), claim_was_recorded=True
)
STOPPED = replace(RUNNING, workload=replace(SET, replicas=0), pod=None)
REFUSED = DriverExit(exit_code=64, reason="ConfigurationRefused", message="no", finished_at="2026-01-01T00:00:00Z")
CRASHED = DriverExit(exit_code=70, reason="DriverFailed", message="oops", finished_at="2026-01-01T00:00:00Z")


def ask(job: ValidJob | Invalid, observed: ObservedState) -> Decision:
    if isinstance(job, Invalid):
        return rules.decide(job, observed, None, None)
    return rules.decide(job, observed, *make_children(job, observed.claim))


def test_a_new_job_starts() -> None:
    assert ask(JOB, ObservedState()) == Start(first=True)


def test_a_settled_job_is_kept() -> None:
    assert ask(JOB, RUNNING) == Keep()


@pytest.mark.parametrize("changes", [{"suspend": False}, {"parallelism": 2}, {"driver": {"resources": {}}}])
def test_a_default_that_is_written_out_is_no_edit(changes: dict[str, Any]) -> None:
    """The default of parallelism is the CPU limit."""
    assert ask(make_job(2, **changes), RUNNING) == Keep()


@pytest.mark.parametrize("observed", [STOPPED, ObservedState(claim=CLAIM)])
def test_keys_that_do_not_fit_block_the_start_too(observed: ObservedState) -> None:
    decision = ask(make_job(2, key={"fields": ["id", "more"]}), observed)
    assert isinstance(decision, Refuse) and not decision.stop
    assert decision.reason is Reason.CHANGE_BLOCKED and "spec.key.fields" in decision.message


def test_a_driver_that_does_not_answer_is_left_alone() -> None:
    doubtful = replace(RUNNING, claim=replace(CLAIM, has_state=False, state_unknown=True))
    decision = ask(make_job(2, key={"fields": ["other"]}), doubtful)
    assert isinstance(decision, Refuse) and not decision.stop


@pytest.mark.parametrize("phase", ["Bound", "Pending"])
def test_while_no_key_is_stored_the_same_change_rolls(phase: str) -> None:
    fresh = replace(RUNNING, claim=replace(CLAIM, phase=phase, has_state=False))
    assert isinstance(ask(make_job(2, source={"bootstrapServers": "k:9092", "topic": "corrected"}), fresh), ScaleDownForRestart)


@pytest.mark.parametrize(
    ("rolling", "pod", "suspend", "resume"),
    [(True, None, False, True), (True, POD, False, False), (False, None, False, False), (True, None, True, False)],
)
def test_a_blocked_edit_in_the_middle_of_a_restart_brings_the_driver_back(
    rolling: bool, pod: DriverPod | None, suspend: bool, resume: bool
) -> None:
    observed = replace(STOPPED, workload=replace(SET, replicas=0, restarting=rolling), pod=pod)
    blocked = ask(make_job(2, key={"fields": ["other"]}, suspend=suspend), observed)
    invalid = ask(Invalid("uid-1", "spec.watermark: no", suspend), observed)
    for decision in (blocked, invalid):
        assert isinstance(decision, Refuse)
        assert decision.resume is resume


def test_a_lost_checkpoint_brings_no_driver_back() -> None:
    observed = replace(STOPPED, workload=replace(SET, replicas=0, restarting=True), claim=None)
    decision = ask(JOB, observed)
    assert isinstance(decision, Refuse) and not decision.resume


def test_a_larger_cpu_limit_keeps_the_parallelism_of_the_checkpoint() -> None:
    job = make_job(2, driver={"resources": {"limits": {"cpu": "8"}}})
    inputs, _ = make_children(job, CLAIM)
    assert (inputs.config.cpus, inputs.config.parallelism) == (8, INPUTS.config.parallelism)


def test_what_somebody_has_changed_is_mended_without_a_restart() -> None:
    drifted = replace(RUNNING, workload=replace(SET, drifted=True))
    assert ask(JOB, drifted) == RepairDrift()
    assert isinstance(ask(make_job(2, watermark="1h"), drifted), ScaleDownForRestart), "an edit restarts it all the same"
    assert ask(JOB, replace(STOPPED, workload=replace(SET, replicas=0, drifted=True))) == Start(first=False)


def test_what_goes_beside_a_driver_at_work_does_not_concern_it() -> None:
    leaving = replace(RUNNING, terminating=("Pod demo-driver-of-an-earlier-job",))
    assert ask(JOB, leaving) == Keep()
    assert isinstance(ask(JOB, replace(STOPPED, terminating=("Pod demo-driver-1",))), Wait)


def test_a_missing_image_is_replaced_by_the_present_one() -> None:
    stuck = replace(POD, started_at=None, waiting="ImagePullBackOff")
    assert ask(JOB, replace(RUNNING, pod=stuck)) == Keep()
    assert isinstance(ask(JOB, replace(RUNNING, pod=stuck, workload=replace(SET, image="job:0"))), ScaleDownForRestart)


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (RUNNING, Suspend()),
        (replace(RUNNING, workload=replace(SET, replicas=0)), Suspend()),
        (STOPPED, Suspended()),
        (ObservedState(), Suspended()),
    ],
)
def test_suspend(observed: ObservedState, expected: Decision) -> None:
    assert ask(make_job(2, suspend=True), observed) == expected


def test_a_blocked_or_invalid_edit_can_still_be_suspended() -> None:
    blocked = ask(make_job(2, suspend=True, key={"fields": ["other"]}), RUNNING)
    assert isinstance(blocked, Refuse) and blocked.stop
    invalid = ask(Invalid("uid-1", "spec.watermark: no", suspend=True), RUNNING)
    assert isinstance(invalid, Refuse) and invalid.stop


def test_after_a_stop_the_driver_starts_only_when_its_pod_is_gone() -> None:
    assert isinstance(ask(JOB, replace(STOPPED, pod=replace(POD, deleting=True))), Wait)
    assert ask(JOB, STOPPED) == Start(first=False)


def test_a_permanent_exit_is_given_up_until_the_spec_changes() -> None:
    failed = replace(RUNNING, pod=replace(POD, exits=(REFUSED,)))
    expected = GivenUp(1, Reason.CONFIGURATION_REFUSED, "no", REFUSED)
    assert parse_given_up(expected.render()) == expected
    assert parse_given_up('{"generation": 1, "reason": "DriverFailed", "message": "x"}') == GivenUp(1, Reason.DRIVER_FAILED, "x")
    assert ask(JOB, failed) == GiveUp(expected)
    assert ask(JOB, replace(RUNNING, pod=replace(POD, exits=(CRASHED, REFUSED)))) == Keep()
    stopped = replace(STOPPED, workload=replace(SET, replicas=0, given_up=expected))
    assert ask(JOB, stopped) == GiveUp(expected)
    assert ask(make_job(2), stopped) == Start(first=False)
    assert isinstance(ask(make_job(2, watermark="1h"), failed), ScaleDownForRestart)


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
def test_what_does_not_fit_is_refused(observed: ObservedState, reason: Reason) -> None:
    decision = ask(JOB, observed)
    assert isinstance(decision, Refuse) and decision.reason is reason


def test_the_children_of_an_earlier_job_go_first() -> None:
    assert isinstance(ask(JOB, ObservedState(terminating=("StatefulSet demo-driver",))), Wait)


def test_lost_settings_are_made_again_or_roll() -> None:
    assert ask(JOB, replace(RUNNING, config_map_uids=())) == Keep()
    lost = replace(RUNNING, workload=replace(SET, config_map="demo-job-older"), config_map_uids=())
    assert isinstance(ask(JOB, lost), ScaleDownForRestart)


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
    config=st.sampled_from([None, INPUTS.config, make_children(make_job(key={"fields": ["b"]}))[0].config]),
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
def test_nothing_starts_beside_a_pod_or_on_a_checkpoint_that_does_not_fit(job: ValidJob, observed: ObservedState) -> None:
    decision = ask(job, observed)
    if isinstance(decision, Start):
        assert observed.pod is None and not observed.conflicting_objects and not observed.terminating and not job.spec.suspend
        assert observed.workload is None or observed.workload.replicas == 0
        assert observed.claim is None or (observed.claim.config is not None and observed.claim.config.key.fields == job.spec.key.fields)
        assert observed.claim is not None or not (observed.claim_was_recorded or observed.workload)
    if isinstance(decision, RemoveWorkload):
        assert observed.pod is None and not job.spec.suspend


@given(jobs, states)
def test_a_refusal_never_stops_a_driver_that_nobody_asked_to_stop(job: ValidJob, observed: ObservedState) -> None:
    decision = ask(job, observed)
    if isinstance(decision, Refuse):
        assert decision.stop == job.spec.suspend
    if isinstance(decision, ScaleDownForRestart | Keep):
        assert not job.spec.suspend


@given(jobs, states)
def test_the_same_situation_gives_the_same_decision(job: ValidJob, observed: ObservedState) -> None:
    assert ask(job, observed) == ask(job, observed)
