"""Decisions about drivers that do not run continuously: a Kubernetes Job, a CronJob and its runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dedup_api.driver_status import Blocked, DriverStatus, Phase
from dedup_api.reasons import Reason
from dedup_api.status import DedupJobStatus
from dedup_operator.domain.decision import (
    GiveUp,
    Keep,
    Refuse,
    RemoveWorkload,
    ScaleDownForRestart,
    Start,
    Suspend,
    Suspended,
    UpdateSchedule,
    Wait,
)
from dedup_operator.domain.diagnose import diagnose
from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Workload
from dedup_operator.domain.validate import Invalid
from dedup_operator.domain.verdict import DiagnosisInput
from unit.operator.samples import (
    CLAIM,
    CRASHED,
    CRON_JOB,
    FAILED,
    NIGHTLY,
    NOW,
    ONCE,
    ONE_RUN,
    POD,
    REFUSED,
    RUN,
    SET,
    SPEC,
    WORKING,
    decide_on,
    make_job,
    make_state,
)


def test_a_completed_run_is_not_repeated() -> None:
    done = make_state(replace(ONE_RUN, ended=True, completed=True))
    assert decide_on(make_job(**ONCE), done) == Keep()
    assert decide_on(make_job(**ONCE), replace(done, config_map_uids=())) == Keep(), (
        "the operator has deleted the ConfigMap, which is no reason to run again"
    )
    assert decide_on(make_job(2, suspend=True, **ONCE), done) == Suspended()


@pytest.mark.parametrize("changes", [{"restartNonce": 1}, {"watermark": "1h"}])
def test_a_new_nonce_or_setting_repeats_the_run(changes: dict[str, Any]) -> None:
    job = make_job(2, **ONCE, **changes)
    done = replace(ONE_RUN, ended=True, completed=True)
    assert decide_on(job, make_state(done)) == RemoveWorkload(done)
    assert isinstance(decide_on(job, make_state(ONE_RUN, pod=POD)), ScaleDownForRestart)
    stopped = replace(ONE_RUN, replicas=0)
    assert isinstance(decide_on(job, make_state(stopped, pod=replace(POD, deleting=True))), Wait)
    assert decide_on(job, make_state(stopped)) == RemoveWorkload(stopped), "nothing can change the template of a Kubernetes Job"


def test_a_refused_edit_does_not_resume_a_run_that_completed_before_it_was_stopped() -> None:
    stopped = make_state(replace(ONE_RUN, replicas=0, restarting=True, ended=True, completed=True))
    decision = decide_on(Invalid("uid-1", "spec.watermark: no", suspend=False), stopped)
    assert isinstance(decision, Refuse) and not decision.resume


def test_a_failed_run_is_recreated() -> None:
    failed = replace(ONE_RUN, ended=True, completed=False)
    assert decide_on(make_job(**ONCE), make_state(failed)) == RemoveWorkload(failed)
    assert isinstance(decide_on(make_job(**ONCE), make_state(failed, pod=POD)), Wait)


def test_a_kubernetes_job_is_recreated_when_the_dedupjob_is_resumed() -> None:
    stopped = replace(ONE_RUN, replicas=0)
    assert decide_on(make_job(suspend=True, **ONCE), make_state(ONE_RUN, pod=POD)) == Suspend()
    assert decide_on(make_job(suspend=True, **ONCE), make_state(stopped)) == Suspended()
    assert decide_on(make_job(**ONCE), make_state(stopped)) == RemoveWorkload(stopped)
    assert decide_on(make_job(**ONCE), ObservedState(claim=CLAIM, claim_was_recorded=True)) == Start(first=True)


OTHER_KINDS = [(SET, ONCE), (SET, NIGHTLY), (ONE_RUN, {}), (ONE_RUN, NIGHTLY), (CRON_JOB, {}), (CRON_JOB, ONCE)]


@pytest.mark.parametrize(("workload", "trigger"), OTHER_KINDS)
def test_another_kind_of_trigger_removes_the_old_workload(workload: Workload, trigger: dict[str, Any]) -> None:
    job = make_job(2, **trigger)
    restart = decide_on(job, make_state(workload, pod=POD))
    assert isinstance(restart, ScaleDownForRestart) and "spec.trigger" in restart.message
    stopped = replace(workload, replicas=0, restarting=True)
    assert isinstance(decide_on(job, make_state(stopped, pod=replace(POD, deleting=True))), Wait)
    assert decide_on(job, make_state(stopped)) == RemoveWorkload(stopped)
    assert isinstance(decide_on(job, ObservedState(claim=CLAIM, claim_was_recorded=True, terminating=("Job demo-driver",))), Wait)


def test_a_surplus_workload_is_removed_first() -> None:
    assert decide_on(make_job(), replace(make_state(SET, pod=POD), surplus_workload=ONE_RUN)) == RemoveWorkload(ONE_RUN)


@pytest.mark.parametrize(
    ("changes", "stop_run"),
    [
        ({}, False),
        ({"pod": POD, "driver_status": WORKING}, False),
        ({"pod": POD}, False),
        ({"pod": replace(POD, started_at=None)}, False),  # the run is only starting
        ({"pod": replace(POD, started_at=None, unschedulable="Insufficient cpu")}, True),
        ({"pod": replace(POD, started_at=None, waiting="ImagePullBackOff")}, True),
        ({"pod": replace(POD, started_at=None, exits=(CRASHED,))}, True),
        ({"pod": replace(POD, exits=(CRASHED,))}, False),
        ({"pod": replace(POD, exits=(CRASHED,)), "driver_status": WORKING}, False),
    ],
)
def test_an_edit_changes_the_next_run_and_stops_only_a_run_that_makes_no_progress(changes: dict[str, Any], stop_run: bool) -> None:
    decision = decide_on(make_job(2, watermark="1h", **NIGHTLY), make_state(replace(CRON_JOB, runs=(RUN,)), **changes))
    assert isinstance(decision, UpdateSchedule) and decision.stop_run is stop_run and "spec.watermark" in decision.message


def waits(reason: Reason, phase: Phase = Phase.WAITING) -> DriverStatus:
    return DriverStatus(phase=phase, blocked_by=Blocked(reason=reason, message="waits"))


@pytest.mark.parametrize(
    ("driver_status", "stop_run"),
    [
        (waits(Reason.SOURCE_UNAVAILABLE), True),
        (waits(Reason.SINK_TOPIC_MISSING), True),
        (waits(Reason.CHECKPOINT_LOCKED), False),
        (waits(Reason.SOURCE_UNAVAILABLE, Phase.RUNNING), False),  # a broker restarts while the query runs
        (WORKING, False),
    ],
)
def test_a_run_that_waits_for_brokers_is_stopped_only_when_the_brokers_or_topics_have_changed(
    driver_status: DriverStatus, stop_run: bool
) -> None:
    elsewhere = {"source": {**SPEC["source"], "bootstrapServers": "new:9092"}, **NIGHTLY}
    running = make_state(replace(CRON_JOB, runs=(RUN,)), pod=POD, driver_status=driver_status)
    decision = decide_on(make_job(2, **elsewhere), running)
    assert isinstance(decision, UpdateSchedule) and decision.stop_run is stop_run
    other = decide_on(make_job(2, watermark="1h", **NIGHTLY), running)
    assert isinstance(other, UpdateSchedule) and not other.stop_run, "the change does not help"
    for other_needs in (True, False):
        runs = (replace(RUN, outdated=True, other_needs=other_needs),)
        later = decide_on(make_job(**NIGHTLY), make_state(replace(CRON_JOB, runs=runs), pod=POD, driver_status=driver_status))
        assert isinstance(later, UpdateSchedule) and later.stop_run if stop_run and other_needs else later == Keep()


@pytest.mark.parametrize(
    ("changes", "stop_run"),
    [
        ({"driver_status": WORKING}, False),
        ({"pod": replace(POD, exits=(REFUSED,))}, False),  # kubelet has restarted the driver
        ({"pod": FAILED}, True),
        ({"pod": replace(POD, started_at=None, exits=(CRASHED,))}, False),
        ({"pod": replace(POD, started_at=None, unschedulable="Insufficient cpu")}, False),
        ({"pod": replace(POD, started_at=None, waiting="ImagePullBackOff")}, True),
    ],
)
def test_an_outdated_run_that_cannot_succeed_is_stopped(changes: dict[str, Any], stop_run: bool) -> None:
    """Its failure says nothing about the present settings, so the operator does not give up."""
    outdated = replace(CRON_JOB, runs=(replace(RUN, outdated=True),))
    decision = decide_on(make_job(**NIGHTLY), make_state(outdated, **{"pod": POD, **changes}))
    assert (isinstance(decision, UpdateSchedule) and decision.stop_run and not decision.settings) if stop_run else decision == Keep()
    stopping = replace(CRON_JOB, runs=(replace(RUN, outdated=True, deleting=True),))
    assert decide_on(make_job(**NIGHTLY), make_state(stopping, **{"pod": POD, **changes})) == Keep()


def test_a_new_time_or_image_changes_the_next_run_and_a_new_nonce_stops_the_present_one() -> None:
    observed = make_state(replace(CRON_JOB, runs=(RUN,)), pod=POD, driver_status=WORKING)
    hourly = {"trigger": {"availableNow": {"schedule": "@hourly"}}}
    assert isinstance(decide_on(make_job(2, **hourly), observed), UpdateSchedule)
    older = make_state(replace(CRON_JOB, image="job:0"))
    assert isinstance(decide_on(make_job(**NIGHTLY), older), UpdateSchedule), "each run is a start, and every start uses the present image"
    starting = replace(older, pod=replace(POD, started_at=None, unschedulable="Insufficient cpu"))
    upgraded = decide_on(make_job(**NIGHTLY), starting)
    assert isinstance(upgraded, UpdateSchedule) and not upgraded.stop_run, "an upgrade of the operator stops no run"
    nonce = decide_on(make_job(2, restartNonce=1, **NIGHTLY), observed)
    assert isinstance(nonce, UpdateSchedule) and nonce.stop_run


def test_a_suspended_schedule_stops_its_run_and_can_be_resumed() -> None:
    running, stopping = replace(CRON_JOB, runs=(RUN,)), replace(CRON_JOB, replicas=0, runs=(replace(RUN, deleting=True),))
    suspended = make_job(2, suspend=True, **NIGHTLY)
    assert decide_on(suspended, make_state(running, pod=POD)) == Suspend()
    assert decide_on(suspended, make_state(stopping)) == Suspend(), "a run exists until its pod is gone"
    assert decide_on(suspended, make_state(replace(CRON_JOB, replicas=0))) == Suspended()
    assert isinstance(decide_on(make_job(3, **NIGHTLY), make_state(stopping)), Wait)
    not_stopped = replace(CRON_JOB, replicas=0, runs=(RUN,))
    assert isinstance(decide_on(make_job(3, **NIGHTLY), make_state(not_stopped, pod=POD)), ScaleDownForRestart), (
        "an operator that was killed had not stopped the run"
    )
    assert decide_on(make_job(3, **NIGHTLY), make_state(replace(CRON_JOB, replicas=0))) == Start(first=False)


@pytest.mark.parametrize("workload", [ONE_RUN, replace(CRON_JOB, runs=(RUN,))])
def test_the_operator_gives_up_after_a_permanent_exit(workload: Workload) -> None:
    job = make_job(**(ONCE if workload.kind is Kind.JOB else NIGHTLY))
    decision = decide_on(job, make_state(workload, pod=FAILED))
    assert isinstance(decision, GiveUp) and decision.why.reason == Reason.CONFIGURATION_REFUSED


@pytest.mark.parametrize(
    ("workload", "reason"),
    [(replace(ONE_RUN, ended=True, completed=True), Reason.COMPLETED), (CRON_JOB, Reason.SCHEDULED), (ONE_RUN, Reason.STARTING)],
)
def test_the_reason_while_no_driver_runs(workload: Workload, reason: Reason) -> None:
    given = DiagnosisInput(
        spec=make_job(**ONCE).spec,
        decision=Keep(),
        observed=make_state(workload),
        before=DedupJobStatus(observed_generation=1),
        now=NOW,
    )
    verdict = diagnose(given)
    assert verdict.reason == reason and verdict.reconciling is (reason == Reason.STARTING)
