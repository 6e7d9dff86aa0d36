"""How the operator observes workloads and runs: a StatefulSet, a Kubernetes Job, a CronJob and its runs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dedup_api.driver_status import DriverStatus, Phase, TerminationMessage
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import Progress
from dedup_operator.domain.annotations import APPLIED_GENERATION, APPLIED_SPEC, GIVEN_UP, GivenUp
from dedup_operator.domain.decision import (
    Start,
    Wait,
)
from dedup_operator.domain.driver_objects import Kind, find_config_map, find_template, find_wanted_kind
from dedup_operator.domain.driver_settings import build_driver_settings
from dedup_operator.domain.manifests import Children, JobImage, build_children
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import observe_workload
from dedup_operator.domain.validate import ValidJob
from unit.operator.samples import NIGHTLY, ONCE, REFUSED, SET, SPEC, decide_on, make_job, make_state
from unit.operator.samples import observe as observe_snapshot


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


def test_the_operator_uses_the_report_of_a_completed_run() -> None:
    report = DriverStatus(phase=Phase.STOPPING, progress=Progress(batch=4, rows_in=9), attempt=2)
    message = TerminationMessage(reason=Reason.COMPLETED, message="all", status=report).model_dump_json(by_alias=True)
    job = stored(build(ONCE), "j1", conditions=[{"type": "Complete", "status": "True"}])
    observed = observe(ONCE, runs=(job,), pods=(make_pod("p1", "j1", "Succeeded", message),))
    assert observed.pod is None and observed.driver_status == report and observed.last_pod_exits == ()
    assert observed.workload is not None and observed.workload.completed


def test_the_runs_of_a_schedule_and_their_pods_are_observed() -> None:
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
    ("of_next", "annotated", "outdated"),
    [
        ({}, True, False),
        ({}, False, False),
        ({"watermark": "1h"}, True, True),
        ({"watermark": "1h"}, False, True),
        ({"restartNonce": 1}, True, True),
        ({"restartNonce": 1}, False, False),  # the ConfigMap does not contain the nonce
    ],
)
def test_a_run_is_outdated_when_the_next_run_has_other_settings(of_next: dict[str, Any], annotated: bool, outdated: bool) -> None:
    """`annotated`: the run has the annotation with its spec, which runs of earlier versions lack."""
    run = make_run("r1", "c1")
    spec = run["metadata"]["annotations"]
    if not annotated:
        spec.clear()
    elif not of_next:  # as another version of the operator renders it
        spec[APPLIED_SPEC] = json.dumps(json.loads(spec[APPLIED_SPEC]), indent=1)
    cron_job = stored(build({**NIGHTLY, **of_next}), "c1")
    seen = observe_workload(cron_job, [run])
    assert seen.runs[0].outdated is outdated
    find_template(cron_job)["spec"]["containers"][0]["image"] = "job:2"
    assert observe_workload(cron_job, [run]).runs[0].outdated, "a new image makes it outdated too"


def test_keys_belong_to_the_settings_of_the_run_that_stored_them() -> None:
    """They do not belong to the settings of the next run."""
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


def test_a_live_pod_without_its_kubernetes_job_is_terminating_and_an_ended_one_is_ignored() -> None:
    assert observe(ONCE, pods=(make_pod("p1", "gone", "Running"),)).terminating == ("Pod p1",)
    assert observe(ONCE, pods=(make_pod("p1", "gone", "Failed"),)).terminating == ()


@pytest.mark.parametrize(("generation", "drifted"), [(1, False), (2, True)])
def test_drift_is_seen_in_metadata_generation(generation: int, drifted: bool) -> None:
    raw = stored(build({}), "s1")
    raw["metadata"]["generation"] = generation
    observed = observe({}, stateful_set=raw)
    assert observed.workload is not None and observed.workload.drifted is drifted


def test_after_a_stopped_run_the_report_of_the_run_before_is_ignored() -> None:
    report = DriverStatus(phase=Phase.STOPPING, progress=Progress(batch=4), attempt=2)
    message = TerminationMessage(reason=Reason.COMPLETED, message="all", status=report).model_dump_json(by_alias=True)
    pods = (make_pod("p1", "r1", "Succeeded", message),)
    raw = {"metadata": {"namespace": "ns", "name": "demo", "uid": "u1", "generation": 1}, "spec": {**SPEC, **NIGHTLY}}
    objects: dict[str, Any] = {"cron_job": stored(build(NIGHTLY), "c1"), "runs": (make_run("r1", "c1", ended=True),), "pods": pods}
    for known, expected in ((2, report), (3, None)):
        job = {**raw, "status": {"checkpoint": {"attempt": known}}}
        assert observe_snapshot(Snapshot(job=job, **objects)).driver_status == expected


@pytest.mark.parametrize(("seen", "observed_by_controller"), [(None, False), (1, False), (2, True)])
def test_the_driver_starts_only_after_the_controller_has_seen_0_replicas(seen: int | None, observed_by_controller: bool) -> None:
    raw = stored(build({}), "s1", **({} if seen is None else {"observedGeneration": seen}))
    raw["metadata"]["generation"] = 2
    raw["metadata"]["annotations"][APPLIED_GENERATION] = "2"
    observed = observe({}, stateful_set=raw)
    assert observed.workload is not None and observed.workload.observed_by_controller is observed_by_controller
    stopped = make_state(replace(SET, replicas=0, observed_by_controller=observed_by_controller))
    assert isinstance(decide_on(make_job(), stopped), Start if observed_by_controller else Wait)


def test_the_annotation_given_up_contains_the_exit() -> None:
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
def test_of_two_running_workloads_the_wanted_kind_stays(spec: dict[str, Any], kind: Kind | None) -> None:
    """A creation that arrives after a change of the trigger must not make the operator remove the wanted run."""
    assert find_wanted_kind(spec) is kind
    if spec is ONCE:
        observed = observe(ONCE, stateful_set=stored(build({}), "s1"), runs=(stored(build(ONCE), "j1"),))
        assert observed.workload is not None and observed.workload.kind is Kind.JOB
        assert observed.surplus_workload is not None and observed.surplus_workload.kind is Kind.STATEFUL_SET


def test_two_workloads_are_both_observed() -> None:
    observed = observe({}, stateful_set=stored(build({}), "s1"), cron_job=stored(build(NIGHTLY), "c1"))
    assert observed.workload is not None and observed.surplus_workload is not None
