"""How a driver ended: from the container's status to the decision and the condition, for every exit code and reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dedup_api.driver_status import Blocked, DriverStatus, Phase, TerminationMessage
from dedup_api.exits import EXITS, ExitCode
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import ConditionStatus, DedupJobStatus, DriverExit, DriverState, Progress
from dedup_operator.domain import decide as rules
from dedup_operator.domain.annotations import GivenUp
from dedup_operator.domain.decision import Decision, GiveUp, Keep
from dedup_operator.domain.diagnose import diagnose
from dedup_operator.domain.driver_settings import build_driver_settings
from dedup_operator.domain.event_notes import list_event_notes
from dedup_operator.domain.manifests import JobImage, build_children
from dedup_operator.domain.observe.pod import DriverUnreachable, is_permanent, merge_deleted_pod, observe_pod
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.status import build_status
from dedup_operator.domain.validate import ValidJob
from dedup_operator.domain.verdict import DiagnosisInput, Verdict
from unit.operator.samples import SPEC
from unit.operator.samples import observe as observe_snapshot

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB = ValidJob(namespace="ns", name="demo", uid="u1", generation=3, spec=DedupJobSpec.model_validate(SPEC))
SETTINGS = build_driver_settings("ns", "demo", JOB.spec, None)
CHILDREN = build_children(JOB, SETTINGS, JobImage("job:1"))
OWNED = {"uid": "u1", "kind": "DedupJob", "name": "demo", "controller": True}
CASES = [(code, meaning.reason, meaning.permanent) for code, meanings in EXITS.items() for meaning in meanings]
IDS = [f"{code.value}-{reason.value}" for code, reason, _ in CASES]
PERMANENT = {
    (64, "ConfigurationRefused"),
    (65, "InvalidRecord"),
    (66, "SourceTopicReplaced"),
    (66, "SourceClusterChanged"),
    (67, "SourceDataLost"),
    (71, "SinkProgressLost"),
    (74, "CheckpointDamaged"),
}


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def end(code: int, seconds: float, said: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": said, "finishedAt": at(seconds)}}


def say(reason: str) -> str:
    return json.dumps({"reason": reason, "message": "what the driver said"})


def make_pod(container: dict[str, Any], *, uid: str = "p1", set_uid: str = "s1", **metadata: Any) -> dict[str, Any]:
    owner = {"uid": set_uid, "kind": "StatefulSet", "name": "demo-driver", "controller": True}
    base = {"name": "demo-driver-0", "uid": uid, "creationTimestamp": at(-600), "ownerReferences": [owner], "managedFields": [{}]}
    scheduled = {"type": "PodScheduled", "status": "True"}
    status = {"conditions": [scheduled], "containerStatuses": [{"name": "driver", **container}]}
    return {"kind": "Pod", "metadata": {**base, **metadata}, "status": status}


def store(body: dict[str, Any] | None, uid: str) -> dict[str, Any]:
    assert body is not None
    return {**body, "metadata": {**body["metadata"], "uid": uid, "creationTimestamp": at(-600)}}


def observe(
    pod: dict[str, Any] | None,
    driver_status: DriverStatus | DriverUnreachable | None = None,
    last_deleted_pod: dict[str, Any] | None = None,
) -> ObservedState:
    job = {"metadata": {"namespace": "ns", "name": "demo", "uid": "u1", "generation": 3}, "spec": SPEC}
    claim = {**store(CHILDREN.claim, "c1"), "status": {"phase": "Bound"}}
    maps = (store(CHILDREN.config_map, "m1"),)
    workload = store(CHILDREN.workload, "s1")
    pods = (pod,) if pod else ()
    service = store(CHILDREN.service, "v1")
    found = Snapshot(
        job,
        workload,
        pods=pods,
        claim=claim,
        service=service,
        config_maps=maps,
        driver_status=driver_status,
        last_deleted_pod=last_deleted_pod,
    )
    return observe_snapshot(found)


def decide(observed: ObservedState) -> Decision:
    return rules.decide(JOB, observed, SETTINGS, CHILDREN)


def judge(observed: ObservedState, decision: Decision | None = None, before: DedupJobStatus | None = None) -> Verdict:
    status = before or DedupJobStatus(observed_generation=3)
    return diagnose(DiagnosisInput(spec=JOB.spec, decision=decision or decide(observed), observed=observed, before=status, now=NOW))


def test_the_permanent_exits_are_exactly_these() -> None:
    assert {(code.value, reason.value) for code, reason, permanent in CASES if permanent} == PERMANENT, (
        "After a permanent exit the operator starts no driver until a person changes the spec. If that is intended, change PERMANENT "
        "in this file and say so in CHANGELOG.md."
    )
    without_meaning = set(ExitCode) - {ExitCode.DONE} - {code for code, _, _ in CASES}
    assert not without_meaning, f"give {sorted(without_meaning)} a reason in EXITS of crds/dedup_api/exits.py"


@pytest.mark.parametrize(("code", "reason", "permanent"), CASES, ids=IDS)
def test_after_an_exit_the_operator_gives_up_or_kubelet_restarts_the_driver(code: ExitCode, reason: Reason, permanent: bool) -> None:
    observed = observe(
        make_pod({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": end(code, -5, say(reason))})
    )
    assert observed.pod is not None
    (seen,) = observed.pod.exits
    assert (seen.exit_code, seen.reason, is_permanent(seen)) == (code, reason, permanent)
    expected = GiveUp(GivenUp(3, reason, "what the driver said", seen)) if permanent else Keep()
    assert decide(observed) == expected
    verdict = judge(observed)
    if permanent:
        assert (verdict.status, verdict.reason, verdict.stalled) == (ConditionStatus.FALSE, reason, True)
        assert "what the driver said" in verdict.message and EXPLANATIONS[reason].remedy in verdict.message
    else:
        assert (verdict.status, verdict.reason, verdict.stalled) == (ConditionStatus.UNKNOWN, Reason.RESTARTING, False)


@pytest.mark.parametrize(("code", "reason", "permanent"), CASES, ids=IDS)
def test_a_crash_loop_is_reported_with_the_reason_and_remedy_of_its_exits(code: ExitCode, reason: Reason, permanent: bool) -> None:
    observed = observe(make_pod({"restartCount": 2, "state": end(code, -5, say(reason)), "lastState": end(code, -60, say(reason))}))
    verdict = judge(observed)
    assert (verdict.status, verdict.reason, verdict.stalled) == (ConditionStatus.FALSE, reason, permanent)
    assert "what the driver said" in verdict.message and EXPLANATIONS[reason].remedy in verdict.message


@pytest.mark.parametrize("code", sorted(set(EXITS)))
def test_an_exit_without_a_message_has_the_first_reason_of_its_code(code: ExitCode) -> None:
    (seen,) = observe_pod(make_pod({"state": end(code, -5)})).exits
    assert (seen.reason, is_permanent(seen)) == (EXITS[code][0].reason, EXITS[code][0].permanent)


DAMAGED = end(74, -65, say("CheckpointDamaged"))
WORKING = DriverStatus(phase=Phase.RUNNING, committed_in_this_run=True, checkpoint_has_state=True, progress=Progress(batch=7))
IDLE = DriverStatus(phase=Phase.RUNNING, checkpoint_has_state=True, progress=Progress(batch=7, lag_records=0))


@pytest.mark.parametrize(
    "answer", [WORKING, IDLE, DriverUnreachable(NOW, "timeout"), None], ids=["works", "idle", "slow answer", "not asked"]
)
def test_a_driver_that_runs_is_never_stopped_for_an_earlier_exit(answer: DriverStatus | DriverUnreachable | None) -> None:
    container = {"state": {"running": {"startedAt": at(-60)}}, "lastState": DAMAGED, "ready": True}
    assert decide(observe(make_pod(container), answer)) == Keep()


@pytest.mark.parametrize(
    ("container", "gives_up"),
    [
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": DAMAGED}, True),
        ({"state": DAMAGED}, True),
        ({"state": DAMAGED, "lastState": end(70, -300)}, True),
        ({"state": end(70, -5), "lastState": DAMAGED}, False),
        (
            {"state": end(0, -5, TerminationMessage(reason="Completed", message="", status=IDLE).model_dump_json()), "lastState": DAMAGED},
            False,
        ),
    ],
    ids=["waits", "ended", "ended again", "ended otherwise", "completed its run"],
)
def test_only_the_last_exit_of_a_driver_that_does_not_run_counts(container: dict[str, Any], gives_up: bool) -> None:
    assert isinstance(decide(observe(make_pod(container))), GiveUp) is gives_up


def test_a_driver_that_waits_for_the_lock_is_reported_and_blocks_incompatible_edits() -> None:
    running = {"state": {"running": {"startedAt": at(-60)}}, "ready": False}
    message = "another process holds the lock of the checkpoint"
    driver_status = DriverStatus(phase=Phase.WAITING, blocked_by=Blocked(reason=Reason.CHECKPOINT_LOCKED, message=message))
    observed = observe(make_pod(running), driver_status)
    verdict = judge(observed)
    assert (verdict.status, verdict.reason, verdict.stalled) == (ConditionStatus.FALSE, Reason.CHECKPOINT_LOCKED, False)
    assert message in verdict.message and EXPLANATIONS[Reason.CHECKPOINT_LOCKED].remedy in verdict.message
    assert observed.claim is not None and observed.claim.may_hold_keys, "the process that holds the lock may have stored keys"
    after_a_crash_loop = observe(make_pod({**running, "lastState": end(75, -70, say("CheckpointLocked"))}), driver_status)
    assert judge(after_a_crash_loop).reason == Reason.CHECKPOINT_LOCKED


GRACE = 120
ASKED: dict[str, Any] = {"deletionTimestamp": at(0), "deletionGracePeriodSeconds": GRACE}
REMOVED: dict[str, Any] = {"deletionTimestamp": at(40), "deletionGracePeriodSeconds": 0}
"""The metadata after kubelet's last write."""


@pytest.mark.parametrize(
    ("container", "metadata", "reasons"),
    [
        ({"state": end(137, 0)}, ASKED, ["GracePeriodExceeded"]),
        ({"state": end(137, 30)}, ASKED, ["GracePeriodExceeded"]),
        ({"state": end(137, -3)}, ASKED, ["GracePeriodExceeded"]),
        ({"state": end(137, 0)}, REMOVED, ["GracePeriodExceeded"]),
        ({"state": end(137, -60)}, ASKED, ["DriverFailed"]),
        ({"state": end(137, 0, reason="OOMKilled")}, ASKED, ["OutOfMemory"]),
        ({"state": end(137, 0, reason="ContainerStatusUnknown")}, ASKED, ["DriverFailed"]),
        ({"state": end(137, 0)}, {}, ["DriverFailed"]),
        ({"state": end(0, 0)}, ASKED, []),
        ({"state": end(143, 0)}, ASKED, []),
        ({"state": end(71, -9, say("SinkProgressLost"))}, ASKED, ["SinkProgressLost"]),
        ({"state": end(0, 0), "lastState": end(70, -90)}, ASKED, ["DriverFailed"]),
        ({"state": end(137, 0), "lastState": end(137, -300)}, ASKED, ["GracePeriodExceeded", "DriverFailed"]),
        ({"state": {"running": {"startedAt": at(-60)}}}, {**ASKED, "deletionGracePeriodSeconds": 0}, []),
    ],
    ids=[
        "at the end of its grace period",
        "the node was slow",
        "the node's clock is behind",
        "only kubelet's last write was seen",
        "killed by something else while it stopped",
        "out of memory while it stopped",
        "kubelet lost track of the container",
        "killed without a request to stop",
        "stopped in time",
        "stopped by the signal",
        "failed while it stopped",
        "failed before it was asked to stop",
        "killed once before, and now after its grace period",
        "deleted by force",
    ],
)
def test_an_exit_after_the_grace_period_has_its_own_reason(container: dict[str, Any], metadata: dict[str, Any], reasons: list[str]) -> None:
    exits = observe_pod(make_pod(container, **metadata)).exits
    assert [seen.reason for seen in exits] == reasons
    assert not any(is_permanent(seen) for seen in exits if seen.reason == "GracePeriodExceeded")


def test_the_first_deletion_timestamp_is_the_end_of_the_grace_period() -> None:
    first = merge_deleted_pod(None, make_pod({"state": {"running": {"startedAt": at(-60)}}}, **ASKED))
    assert "managedFields" not in first["metadata"]
    last = merge_deleted_pod(first, make_pod({"state": end(137, -60)}, **REMOVED))
    assert [seen.reason for seen in observe_pod(last).exits] == ["DriverFailed"], "killed a minute before the end of the grace period"
    late = merge_deleted_pod(first, make_pod({"state": end(137, 1)}, **REMOVED))
    assert [seen.reason for seen in observe_pod(late).exits] == ["GracePeriodExceeded"]
    another = merge_deleted_pod(first, make_pod({"state": end(137, -60)}, uid="p2", **REMOVED))
    assert another["metadata"]["deletionTimestamp"] == REMOVED["deletionTimestamp"]


@pytest.mark.parametrize("successor", [None, make_pod({"state": {"running": {"startedAt": at(2)}}}, uid="p2")], ids=["none", "a new pod"])
def test_the_exit_of_a_deleted_pod_is_reported_once(successor: dict[str, Any] | None) -> None:
    deleted = merge_deleted_pod(None, make_pod({"state": end(137, 0)}, **ASKED))
    before = DedupJobStatus(observed_generation=3, driver=DriverState(pod="demo-driver-0"))
    observed = observe(successor, last_deleted_pod=deleted)
    after = build_status(before, observed, 3, [], NOW)
    assert after.driver is not None
    assert [(seen.exit_code, seen.reason, seen.finished_at) for seen in after.driver.last_exits] == [(137, "GracePeriodExceeded", at(0))]
    (note,) = list_event_notes(before, after)
    assert (note.reason, note.warning) == ("GracePeriodExceeded", True) and "spec.source.maxOffsetsPerTrigger" in note.message
    again = build_status(after, observed, 3, [], NOW)
    assert again == after and list_event_notes(after, again) == []


def test_a_deleted_pod_of_an_earlier_stateful_set_is_ignored() -> None:
    assert observe(None, last_deleted_pod=make_pod({"state": end(137, 0)}, set_uid="s0", **ASKED)).last_pod_exits == ()


def test_an_exit_after_the_grace_period_is_not_part_of_a_crash_loop() -> None:
    after_grace_period = DriverExit(exit_code=137, reason=Reason.GRACE_PERIOD_EXCEEDED, message="slow", finished_at=at(-100))
    before = DedupJobStatus(observed_generation=3, driver=DriverState(last_exits=[after_grace_period]))
    observed = observe(make_pod({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": end(70, -5)}))
    assert judge(observed, before=before).reason == Reason.RESTARTING
    crashed = after_grace_period.model_copy(update={"reason": Reason.DRIVER_FAILED})
    twice = before.model_copy(update={"driver": DriverState(last_exits=[crashed])})
    assert judge(observed, before=twice).reason == Reason.DRIVER_FAILED
