"""Drivers that do not run all the time: what is decided about a Job, a CronJob and its runs, and how they are built and seen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dedup_api import names
from dedup_api.driver_status import DriverStatus, Phase, TerminationMessage
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import DedupJobStatus, Progress
from dedup_operator.domain.annotations import APPLIED_GENERATION, APPLIED_SPEC, GIVEN_UP, GivenUp
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
from dedup_operator.domain.driver_objects import Kind, find_config_map, find_template, find_wanted_kind
from dedup_operator.domain.driver_settings import build_driver_settings
from dedup_operator.domain.manifests import Children, JobImage, build_children
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Run, Workload, observe_workload
from dedup_operator.domain.validate import Invalid, ValidJob, validate
from dedup_operator.domain.verdict import DiagnosisInput
from unit.operator.samples import observe as observe_snapshot
from unit.operator.test_decide import CLAIM, CRASHED, NOW, POD, REFUSED, SET, SPEC, ask, make_children, make_job

ONCE: dict[str, Any] = {"trigger": {"availableNow": {}}}
NIGHTLY: dict[str, Any] = {"trigger": {"availableNow": {"schedule": "0 3 * * *"}}}


def make_workload(kind: Kind, job: ValidJob, **changes: Any) -> Workload:
    _, children = make_children(job)
    settings = children.config_map["metadata"]["name"]
    return replace(SET, kind=kind, applied=job.spec, config_map=settings, **changes)


def make_state(workload: Workload, **changes: Any) -> ObservedState:
    observed = ObservedState(
        workload=workload, claim=CLAIM, has_service=True, config_map_uids=((workload.config_map, "cm"),), claim_was_recorded=True
    )
    return replace(observed, **changes)


JOB = make_workload(Kind.JOB, make_job(**ONCE))
CRON_JOB = make_workload(Kind.CRON_JOB, make_job(**NIGHTLY))
RUN = Run("demo-driver-123", "run", deleting=False)
AT_WORK = DriverStatus(phase=Phase.RUNNING, committed_in_this_run=True)


def test_a_run_that_is_through_stays_so() -> None:
    done = make_state(replace(JOB, ended=True, completed=True))
    assert ask(make_job(**ONCE), done) == Keep()
    assert ask(make_job(**ONCE), replace(done, config_map_uids=())) == Keep(), "settings that are swept are no reason to run again"
    assert ask(make_job(2, suspend=True, **ONCE), done) == Suspended()


@pytest.mark.parametrize("changes", [{"restartNonce": 1}, {"watermark": "1h"}])
def test_another_nonce_or_setting_runs_it_again(changes: dict[str, Any]) -> None:
    job = make_job(2, **ONCE, **changes)
    done = replace(JOB, ended=True, completed=True)
    assert ask(job, make_state(done)) == RemoveWorkload(done)
    assert isinstance(ask(job, make_state(JOB, pod=POD)), ScaleDownForRestart)
    stopped = replace(JOB, replicas=0)
    assert isinstance(ask(job, make_state(stopped, pod=replace(POD, deleting=True))), Wait)
    assert ask(job, make_state(stopped)) == RemoveWorkload(stopped), "a Job's template cannot be changed"


def test_a_run_that_was_through_before_it_was_stopped_is_not_brought_back() -> None:
    stopped = make_state(replace(JOB, replicas=0, restarting=True, ended=True, completed=True))
    decision = ask(Invalid("uid-1", "spec.watermark: no", suspend=False), stopped)
    assert isinstance(decision, Refuse) and not decision.resume


@pytest.mark.parametrize(
    ("checkpoint", "retain"), [({"reclaimPolicy": "Retain"}, True), ({"reclaimPolicy": "Delete"}, False), ({}, False), ("x", False)]
)
def test_a_claim_is_kept_also_by_a_spec_that_is_not_valid(checkpoint: Any, retain: bool) -> None:
    """It may be deleted before it is valid again."""
    spec = {**SPEC, "watermark": "soon", "checkpoint": checkpoint}
    found = validate({"metadata": {"namespace": "ns", "name": "demo", "uid": "u", "generation": 1}, "spec": spec})
    assert isinstance(found, Invalid) and found.retain is retain


def test_a_run_that_failed_for_good_is_made_again() -> None:
    failed = replace(JOB, ended=True, completed=False)
    assert ask(make_job(**ONCE), make_state(failed)) == RemoveWorkload(failed)
    assert isinstance(ask(make_job(**ONCE), make_state(failed, pod=POD)), Wait)


def test_a_job_that_is_resumed_is_made_anew() -> None:
    stopped = replace(JOB, replicas=0)
    assert ask(make_job(suspend=True, **ONCE), make_state(JOB, pod=POD)) == Suspend()
    assert ask(make_job(suspend=True, **ONCE), make_state(stopped)) == Suspended()
    assert ask(make_job(**ONCE), make_state(stopped)) == RemoveWorkload(stopped)
    assert ask(make_job(**ONCE), ObservedState(claim=CLAIM, claim_was_recorded=True)) == Start(first=True)


OTHER_KINDS = [(SET, ONCE), (SET, NIGHTLY), (JOB, {}), (JOB, NIGHTLY), (CRON_JOB, {}), (CRON_JOB, ONCE)]


@pytest.mark.parametrize(("workload", "trigger"), OTHER_KINDS)
def test_another_kind_of_trigger_removes_what_ran_before(workload: Workload, trigger: dict[str, Any]) -> None:
    job = make_job(2, **trigger)
    rolled = ask(job, make_state(workload, pod=POD))
    assert isinstance(rolled, ScaleDownForRestart) and "spec.trigger" in rolled.message
    stopped = replace(workload, replicas=0, restarting=True)
    assert isinstance(ask(job, make_state(stopped, pod=replace(POD, deleting=True))), Wait)
    assert ask(job, make_state(stopped)) == RemoveWorkload(stopped)
    assert isinstance(ask(job, ObservedState(claim=CLAIM, claim_was_recorded=True, terminating=("Job demo-driver",))), Wait)


def test_a_second_workload_goes_first() -> None:
    assert ask(make_job(), replace(make_state(SET, pod=POD), surplus_workload=JOB)) == RemoveWorkload(JOB)


@pytest.mark.parametrize(
    ("changes", "stop_run"),
    [
        ({}, False),
        ({"pod": POD, "driver_status": AT_WORK}, False),
        ({"pod": POD}, False),
        ({"pod": replace(POD, started_at=None)}, False),  # it is on its way
        ({"pod": replace(POD, started_at=None, unschedulable="Insufficient cpu")}, True),
        ({"pod": replace(POD, started_at=None, waiting="ImagePullBackOff")}, True),
        ({"pod": replace(POD, started_at=None, exits=(CRASHED,))}, True),
        ({"pod": replace(POD, exits=(CRASHED,))}, False),
        ({"pod": replace(POD, exits=(CRASHED,)), "driver_status": AT_WORK}, False),
    ],
)
def test_a_schedule_takes_settings_for_its_next_run(changes: dict[str, Any], stop_run: bool) -> None:
    decision = ask(make_job(2, watermark="1h", **NIGHTLY), make_state(replace(CRON_JOB, runs=(RUN,)), **changes))
    assert isinstance(decision, UpdateSchedule) and decision.stop_run is stop_run and "spec.watermark" in decision.message


@pytest.mark.parametrize(
    ("changes", "stop_run"),
    [
        ({"driver_status": AT_WORK}, False),
        ({"pod": replace(POD, exits=(REFUSED,))}, False),  # it tries again at the moment
        ({"pod": replace(POD, started_at=None, exits=(REFUSED,))}, True),
        ({"pod": replace(POD, started_at=None, exits=(CRASHED,))}, False),
        ({"pod": replace(POD, started_at=None, unschedulable="Insufficient cpu")}, False),
        ({"pod": replace(POD, started_at=None, waiting="ImagePullBackOff")}, True),
    ],
)
def test_a_run_that_fails_with_settings_of_before_makes_room_for_the_next(changes: dict[str, Any], stop_run: bool) -> None:
    """Its failure says nothing about those of today."""
    outdated = replace(CRON_JOB, runs=(replace(RUN, outdated=True),))
    decision = ask(make_job(**NIGHTLY), make_state(outdated, **{"pod": POD, **changes}))
    assert (isinstance(decision, UpdateSchedule) and decision.stop_run and not decision.settings) if stop_run else decision == Keep()
    stopping = replace(CRON_JOB, runs=(replace(RUN, outdated=True, deleting=True),))
    assert ask(make_job(**NIGHTLY), make_state(stopping, **{"pod": POD, **changes})) == Keep()


def test_a_schedule_takes_a_new_time_and_a_new_image_too_and_a_nonce_stops_the_run() -> None:
    observed = make_state(replace(CRON_JOB, runs=(RUN,)), pod=POD, driver_status=AT_WORK)
    hourly = {"trigger": {"availableNow": {"schedule": "@hourly"}}}
    assert isinstance(ask(make_job(2, **hourly), observed), UpdateSchedule)
    older = make_state(replace(CRON_JOB, image="job:0"))
    assert isinstance(ask(make_job(**NIGHTLY), older), UpdateSchedule), "each run is a start, and a start has the present image"
    starting = replace(older, pod=replace(POD, started_at=None, unschedulable="Insufficient cpu"))
    upgraded = ask(make_job(**NIGHTLY), starting)
    assert isinstance(upgraded, UpdateSchedule) and not upgraded.stop_run, "an upgrade stops nothing"
    nonce = ask(make_job(2, restartNonce=1, **NIGHTLY), observed)
    assert isinstance(nonce, UpdateSchedule) and nonce.stop_run


def test_a_schedule_that_is_suspended_stops_its_run_and_begins_again() -> None:
    running, stopping = replace(CRON_JOB, runs=(RUN,)), replace(CRON_JOB, replicas=0, runs=(replace(RUN, deleting=True),))
    suspended = make_job(2, suspend=True, **NIGHTLY)
    assert ask(suspended, make_state(running, pod=POD)) == Suspend()
    assert ask(suspended, make_state(stopping)) == Suspend(), "a run is there until its pod is gone"
    assert ask(suspended, make_state(replace(CRON_JOB, replicas=0))) == Suspended()
    assert isinstance(ask(make_job(3, **NIGHTLY), make_state(stopping)), Wait)
    left = replace(CRON_JOB, replicas=0, runs=(RUN,))
    assert isinstance(ask(make_job(3, **NIGHTLY), make_state(left, pod=POD)), ScaleDownForRestart), (
        "an operator that ended had not stopped it"
    )
    assert ask(make_job(3, **NIGHTLY), make_state(replace(CRON_JOB, replicas=0))) == Start(first=False)


@pytest.mark.parametrize("workload", [JOB, replace(CRON_JOB, runs=(RUN,))])
def test_a_permanent_exit_is_given_up(workload: Workload) -> None:
    job = make_job(**(ONCE if workload.kind is Kind.JOB else NIGHTLY))
    decision = ask(job, make_state(workload, pod=replace(POD, exits=(REFUSED,))))
    assert isinstance(decision, GiveUp) and decision.why.reason is Reason.CONFIGURATION_REFUSED


@pytest.mark.parametrize(
    ("workload", "reason"),
    [(replace(JOB, ended=True, completed=True), Reason.COMPLETED), (CRON_JOB, Reason.SCHEDULED), (JOB, Reason.STARTING)],
)
def test_what_is_said_while_no_driver_runs(workload: Workload, reason: Reason) -> None:
    case = DiagnosisInput(
        spec=make_job(**ONCE).spec,
        decision=Keep(),
        observed=make_state(workload),
        before=DedupJobStatus(observed_generation=1),
        now=NOW,
    )
    verdict = diagnose(case)
    assert verdict.reason is reason and verdict.reconciling is (reason is Reason.STARTING)


@pytest.mark.parametrize("kind", list(Kind))
def test_all_three_have_one_name_and_one_pod_at_a_time(kind: Kind) -> None:
    job = make_job(**{Kind.STATEFUL_SET: {}, Kind.JOB: ONCE, Kind.CRON_JOB: NIGHTLY}[kind])
    _, children = make_children(job)
    workload = children.workload
    assert (workload["kind"], workload["metadata"]["name"]) == (kind, "demo-driver")
    assert len(f"{'x' * names.MAX_NAME_LENGTH}-driver") <= 52, "the CronJob controller appends eleven characters"
    spec = workload["spec"]
    if kind is Kind.CRON_JOB:
        assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("0 3 * * *", "Etc/UTC", "Forbid")
        assert spec["jobTemplate"]["metadata"]["labels"][names.LABEL_JOB] == "demo"
        spec = spec["jobTemplate"]["spec"]
    if kind is not Kind.STATEFUL_SET:
        assert (spec["podReplacementPolicy"], spec["parallelism"], spec["completions"]) == ("Failed", 1, 1)
        assert spec["template"]["spec"]["restartPolicy"] == "OnFailure"


def stored(body: dict[str, Any], uid: str, **status: Any) -> dict[str, Any]:
    return {**body, "metadata": {**body["metadata"], "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status}


def observe(trigger: dict[str, Any], **objects: Any) -> ObservedState:
    raw = {"metadata": {"namespace": "ns", "name": "demo", "uid": "u1", "generation": 1}, "spec": {**SPEC, **trigger}}
    return observe_snapshot(Snapshot(job=raw, **objects))


def build_all(changes: dict[str, Any]) -> Children:
    spec = DedupJobSpec.model_validate({**SPEC, **changes})
    job = ValidJob(namespace="ns", name="demo", uid="u1", generation=1, spec=spec)
    return build_children(job, build_driver_settings("ns", "demo", spec, None), JobImage("job:1"))


def build(trigger: dict[str, Any]) -> dict[str, Any]:
    return build_all(trigger).workload


def make_run(uid: str, owner: str, *, ended: bool = False) -> dict[str, Any]:
    template = build(NIGHTLY)["spec"]["jobTemplate"]
    controller = {"kind": "CronJob", "name": "demo-driver", "uid": owner, "controller": True}
    metadata = {**template["metadata"], "name": f"demo-driver-{uid}", "ownerReferences": [controller]}
    conditions = [{"type": "Complete", "status": "True"}] if ended else []
    return stored({"kind": "Job", "metadata": metadata, "spec": template["spec"]}, uid, conditions=conditions)


def make_pod(name: str, owner: str, phase: str, message: str = "") -> dict[str, Any]:
    controller = {"kind": "Job", "name": "x", "uid": owner, "controller": True}
    end = {"exitCode": 0, "message": message, "finishedAt": "2026-01-01T00:01:00Z"}
    state = {"running": {"startedAt": "2026-01-01T00:00:05Z"}} if phase == "Running" else {"terminated": end}
    container = {"name": "driver", "state": state}
    return stored(
        {"kind": "Pod", "metadata": {"name": name, "ownerReferences": [controller]}}, name, phase=phase, containerStatuses=[container]
    )


def test_the_report_of_a_run_that_was_through_is_believed() -> None:
    report = DriverStatus(phase=Phase.STOPPING, progress=Progress(batch=4, rows_in=9), attempt=2)
    message = TerminationMessage(reason=Reason.COMPLETED, message="all", status=report).model_dump_json(by_alias=True)
    job = stored(build(ONCE), "j1", conditions=[{"type": "Complete", "status": "True"}])
    observed = observe(ONCE, runs=(job,), pods=(make_pod("p1", "j1", "Succeeded", message),))
    assert observed.pod is None and observed.driver_status == report and observed.last_pod_exits == ()
    assert observed.workload is not None and observed.workload.completed


def test_the_runs_of_a_schedule_and_their_pods_are_ours() -> None:
    cron_job = stored(build(NIGHTLY), "c1")
    runs = (make_run("r1", "c1", ended=True), make_run("r2", "c1"))
    pods = (make_pod("p1", "r1", "Succeeded"), make_pod("p2", "r2", "Running"))
    observed = observe(NIGHTLY, cron_job=cron_job, runs=runs, pods=pods)
    assert observed.pod is not None and observed.pod.name == "p2"
    assert observed.workload is not None and [run.uid for run in observed.workload.runs] == ["r2"]
    assert not observed.workload.runs[0].outdated
    edited = stored(build({**NIGHTLY, "watermark": "1h"}), "c1")
    later = observe(NIGHTLY, cron_job=edited, runs=runs, pods=pods).workload
    assert later is not None and later.runs[0].outdated
    assert observed.used_config_maps == {find_config_map(cron_job)}


@pytest.mark.parametrize(
    ("of_next", "says", "outdated"),
    [
        ({}, True, False),
        ({}, False, False),
        ({"watermark": "1h"}, True, True),
        ({"watermark": "1h"}, False, True),
        ({"restartNonce": 1}, True, True),
        ({"restartNonce": 1}, False, False),  # nothing tells
    ],
)
def test_which_run_has_settings_of_before(of_next: dict[str, Any], says: bool, outdated: bool) -> None:
    """`says`: whether the run bears the spec that it was made from, as those of earlier versions do not."""
    run = make_run("r1", "c1")
    spec = run["metadata"]["annotations"]
    if not says:
        spec.clear()
    elif not of_next:  # as another version writes it
        spec[APPLIED_SPEC] = json.dumps(json.loads(spec[APPLIED_SPEC]), indent=1)
    cron_job = stored(build({**NIGHTLY, **of_next}), "c1")
    seen = observe_workload(cron_job, [run])
    assert seen.runs[0].outdated is outdated
    find_template(cron_job)["spec"]["containers"][0]["image"] = "job:2"
    assert observe_workload(cron_job, [run]).runs[0].outdated, "its image may be why it cannot start"


def test_keys_belong_to_the_settings_of_the_run_that_made_them() -> None:
    """Not to those that the schedule has been given for the next one."""
    of_run, of_next = (build_all({**NIGHTLY, "key": {"fields": [field]}}) for field in ("id", "other"))
    run = make_run("r1", "c1")
    pod = {**make_pod("p1", "r1", "Running"), "spec": of_run.workload["spec"]["jobTemplate"]["spec"]["template"]["spec"]}
    assert of_next.claim is not None
    observed = observe(
        NIGHTLY,
        cron_job=stored(of_next.workload, "c1"),
        runs=(run,),
        pods=(pod,),
        claim=stored(of_next.claim, "v1") | {"status": {"phase": "Bound"}},
        config_maps=(stored(of_next.config_map, "m2"), stored(of_run.config_map, "m1")),
        driver_status=DriverStatus(phase=Phase.RUNNING, checkpoint_has_state=True),
    )
    assert observed.pinned_config is not None and observed.pinned_config.key.fields == ["id"]
    assert observed.used_config_maps == {children.config_map["metadata"]["name"] for children in (of_run, of_next)}


def test_a_live_pod_whose_job_is_gone_is_waited_for_and_an_ended_one_does_not_matter() -> None:
    assert observe(ONCE, pods=(make_pod("p1", "gone", "Running"),)).terminating == ("Pod p1",)
    assert observe(ONCE, pods=(make_pod("p1", "gone", "Failed"),)).terminating == ()


@pytest.mark.parametrize(("generation", "drifted"), [(1, False), (2, True)])
def test_a_change_behind_the_operators_back_is_seen_by_the_generation(generation: int, drifted: bool) -> None:
    raw = stored(build({}), "s1")
    raw["metadata"]["generation"] = generation
    observed = observe({}, stateful_set=raw)
    assert observed.workload is not None and observed.workload.drifted is drifted


def test_a_run_that_was_stopped_does_not_bring_back_the_report_of_the_one_before() -> None:
    report = DriverStatus(phase=Phase.STOPPING, progress=Progress(batch=4), attempt=2)
    message = TerminationMessage(reason=Reason.COMPLETED, message="all", status=report).model_dump_json(by_alias=True)
    pods = (make_pod("p1", "r1", "Succeeded", message),)
    raw = {"metadata": {"namespace": "ns", "name": "demo", "uid": "u1", "generation": 1}, "spec": {**SPEC, **NIGHTLY}}
    objects: dict[str, Any] = {"cron_job": stored(build(NIGHTLY), "c1"), "runs": (make_run("r1", "c1", ended=True),), "pods": pods}
    for known, expected in ((2, report), (3, None)):
        job = {**raw, "status": {"checkpoint": {"attempt": known}}}
        assert observe_snapshot(Snapshot(job=job, **objects)).driver_status == expected


@pytest.mark.parametrize(("seen", "settled"), [(None, False), (1, False), (2, True)])
def test_a_set_at_0_is_believed_when_its_controller_has_seen_it(seen: int | None, settled: bool) -> None:
    raw = stored(build({}), "s1", **({} if seen is None else {"observedGeneration": seen}))
    raw["metadata"]["generation"] = 2
    raw["metadata"]["annotations"][APPLIED_GENERATION] = "2"
    observed = observe({}, stateful_set=raw)
    assert observed.workload is not None and observed.workload.observed_by_controller is settled
    stopped = make_state(replace(SET, replicas=0, observed_by_controller=settled))
    assert isinstance(ask(make_job(), stopped), Start if settled else Wait)


def test_how_a_driver_ended_that_was_given_up_is_remembered_beside_the_decision() -> None:
    raw = stored(build({}), "s1")
    raw["metadata"]["annotations"][GIVEN_UP] = GivenUp(1, Reason.CONFIGURATION_REFUSED, "no", REFUSED).render()
    assert observe({}, stateful_set=raw).last_pod_exits == (REFUSED,)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({}, Kind.STATEFUL_SET),
        ({"trigger": {"processingTime": "1s"}}, Kind.STATEFUL_SET),
        (ONCE, Kind.JOB),
        (NIGHTLY, Kind.CRON_JOB),
        ({"trigger": {"availableNow": 1}}, None),
        ({"trigger": "now"}, Kind.STATEFUL_SET),
    ],
)
def test_of_two_at_work_the_one_stays_that_is_wanted(spec: dict[str, Any], kind: Kind | None) -> None:
    """A late creation across a change of the trigger must not remove the run that was asked for."""
    assert find_wanted_kind(spec) is kind
    if spec is ONCE:
        observed = observe(ONCE, stateful_set=stored(build({}), "s1"), runs=(stored(build(ONCE), "j1"),))
        assert observed.workload is not None and observed.workload.kind is Kind.JOB
        assert observed.surplus_workload is not None and observed.surplus_workload.kind is Kind.STATEFUL_SET


def test_two_workloads_are_both_seen() -> None:
    observed = observe({}, stateful_set=stored(build({}), "s1"), cron_job=stored(build(NIGHTLY), "c1"))
    assert observed.workload is not None and observed.surplus_workload is not None


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("*/10 * * * *", None),
        ("0 3-5,7 1 jan-mar mon-fri", None),
        ("@daily", None),
        ("? 3 * * 0", None),
        ("61 * * * *", "five fields"),
        ("* * * *", "five fields"),
        ("*/0 * * * *", "five fields"),
        ("@reboot", "five fields"),
        ("* 5-3 * * *", "5-3 runs backwards"),
        ("* * * * fri-mon", "fri-mon runs backwards"),
    ],
)
def test_schedules(schedule: str, problem: str | None) -> None:
    spec = {**SPEC, "trigger": {"availableNow": {"schedule": schedule}}}
    found = validate({"metadata": {"namespace": "ns", "name": "demo", "uid": "u", "generation": 1}, "spec": spec})
    if problem is None:
        assert isinstance(found, ValidJob)
    else:
        assert isinstance(found, Invalid) and problem in found.message and "spec.trigger.availableNow.schedule" in found.message
