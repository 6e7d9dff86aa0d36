"""The pauses between repairs of a workload that something else changes again and again, and the event about it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from dedup_api.reasons import Reason
from dedup_operator.domain.annotations import GivenUp
from dedup_operator.domain.decision import Decision, GiveUp, Keep, Refuse, RepairDrift, ScaleDownForRestart, Start, Suspend, Suspended
from dedup_operator.domain.drift import FORGOTTEN_AFTER, MAX_PAUSE, TOLERATED, DriftRepairs, build_restart_note, is_repair
from dedup_operator.domain.observe.workload import RESTARTED_AT, observe_workload
from dedup_operator.domain.updates.workload import build_started_workload
from unit.operator.samples import CHILDREN, JOB, NOW, RUNNING, SET, decide_on

DRIFTED = replace(RUNNING, workload=replace(SET, drifted=True))
RAW = {**CHILDREN.workload, "metadata": {**CHILDREN.workload["metadata"], "uid": "set"}}


def test_the_pauses_grow_and_end_after_a_quiet_time() -> None:
    repairs, now, moments = DriftRepairs(), NOW, []
    for _ in range(24 * 3600):
        now += timedelta(seconds=1)
        if repairs.is_due(now):  # something changes the workload at once after each repair
            repairs = repairs.record(now)
            moments.append(now)
    pauses = [after - before for before, after in itertools.pairwise(moments)]
    assert pauses[:4] == [timedelta(seconds=seconds) for seconds in (5, 10, 20, 40)]
    assert pauses == sorted(pauses) and pauses[-1] == MAX_PAUSE and len(moments) < 40
    assert repairs.record(now + FORGOTTEN_AFTER + MAX_PAUSE).count == 1


def test_a_clock_that_was_set_back_delays_no_repair() -> None:
    assert DriftRepairs(count=9, last=NOW).is_due(NOW - timedelta(days=1))


def test_a_drifted_workload_is_repaired_only_when_a_repair_is_due() -> None:
    assert decide_on(JOB, DRIFTED) == RepairDrift()
    assert decide_on(JOB, replace(DRIFTED, drift_repair_due=False)) == Keep(repair=False)


def test_a_driver_that_something_scales_to_0_is_started_again_with_pauses() -> None:
    stopped = replace(DRIFTED, workload=replace(SET, drifted=True, replicas=0), pod=None)
    decision = decide_on(JOB, stopped)
    assert decision == Start(first=False) and is_repair(decision, stopped.workload)
    assert decide_on(JOB, replace(stopped, drift_repair_due=False)) == Keep(repair=False)
    restarting = replace(stopped, workload=replace(SET, drifted=True, replicas=0, restarting=True), drift_repair_due=False)
    decision = decide_on(JOB, restarting)
    assert decision == Start(first=False) and not is_repair(decision, restarting.workload), "the operator itself has stopped it"


def test_the_event_names_who_changes_the_workload() -> None:
    fields = [
        {"manager": "dedup-operator", "time": "2026-01-01T00:00:09Z"},
        {"manager": "kyverno", "time": "2026-01-01T00:00:05Z"},
        {"manager": "kubectl-edit", "time": "2026-01-01T00:00:01Z"},
        {"manager": "kube-controller-manager", "time": "2026-01-01T00:00:08Z", "subresource": "status"},
    ]
    workload = observe_workload({**RAW, "metadata": {**RAW["metadata"], "managedFields": fields}})
    assert workload.changed_by == "kyverno"
    assert DriftRepairs(TOLERATED, NOW).build_note(workload) is None, "a person may have edited it"
    note = DriftRepairs(TOLERATED + 1, NOW).build_note(workload)
    assert note is not None and note.warning and "kyverno" in note.message and "StatefulSet demo-driver" in note.message


def test_kubectl_rollout_restart_restarts_the_driver_instead_of_being_undone() -> None:
    template = {**RAW["spec"]["template"], "metadata": {"annotations": {RESTARTED_AT: "2026-01-01T00:00:00Z"}}}
    workload = observe_workload({**RAW, "spec": {**RAW["spec"], "template": template}})
    assert workload.restart_requested == "2026-01-01T00:00:00Z" and not SET.restart_requested
    asked = replace(SET, drifted=True, restart_requested=workload.restart_requested)
    decision = decide_on(JOB, replace(DRIFTED, workload=asked))
    assert isinstance(decision, ScaleDownForRestart) and "kubectl rollout restart" in decision.message
    assert build_restart_note(decision) is None
    started = build_started_workload(workload, CHILDREN.workload)
    assert RESTARTED_AT not in (started["spec"]["template"]["metadata"].get("annotations") or {})
    again = {**started, "spec": {**started["spec"], "template": template}}  # a tool writes the same value again
    assert observe_workload(again).restart_requested == ""


@pytest.mark.parametrize(
    "decision", [Suspended(), Suspend(), Refuse(Reason.CHANGE_BLOCKED, "no"), GiveUp(GivenUp(1, "DriverFailed", "no"))]
)
def test_a_rollout_restart_without_effect_causes_an_event(decision: Decision) -> None:
    note = build_restart_note(decision)
    assert note is not None and note.reason == Reason.RESTART_IGNORED and "spec.restartNonce" in note.message
