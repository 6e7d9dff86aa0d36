"""What a job reports: each situation of the real observed with the one reason that explains it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.driver_status import Blocked, DriverStatus, Phase
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import Condition, ConditionStatus, DedupJobStatus, DriverExit, DriverState, Progress
from dedup_operator.domain.annotations import GivenUp
from dedup_operator.domain.conditions import build_conditions, merge_conditions
from dedup_operator.domain.decision import Decision, GiveUp, Keep, Refuse, ScaleDownForRestart, Start, Suspend, Suspended
from dedup_operator.domain.diagnose import diagnose
from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.event_notes import list_event_notes
from dedup_operator.domain.exits import merge_exits
from dedup_operator.domain.observe.checkpoint import CheckpointClaim
from dedup_operator.domain.observe.pod import DriverPod, DriverUnreachable
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Workload
from dedup_operator.domain.status import LastProgressWrite, build_status, choose_status, parse_status
from dedup_operator.domain.times import render_time
from dedup_operator.domain.verdict import DiagnosisInput, Verdict

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AGO = NOW - timedelta(minutes=5)
SPEC = DedupJobSpec.model_validate(
    {
        "source": {"bootstrapServers": "kafka:9092", "topic": "in"},
        "key": {"fields": ["id"]},
        "eventTime": {"field": "ts"},
        "watermark": "10m",
        "sink": {"kafka": {"topic": "out"}},
    }
)
SET = Workload(
    kind=Kind.STATEFUL_SET, uid="set", replicas=1, applied=SPEC, given_up=None, restarting=False, image="job:1", config_map="cm", raw={}
)
CLAIM = CheckpointClaim(
    phase="Bound", deleting=False, config=None, annotated=True, has_state=True, state_unknown=False, owned=False, size="10Gi", raw={}
)
POD = DriverPod(
    name="demo-driver-0",
    uid="pod",
    address="10.0.0.1",
    deleting=False,
    created_at=AGO,
    scheduled=True,
    unschedulable=None,
    waiting=None,
    waiting_message="",
    started_at=AGO,
    ready=True,
    restarts=0,
    exits=(),
)
HEALTHY = DriverStatus(phase=Phase.RUNNING, committed_in_this_run=True, progress=Progress(batch=3, lag_records=0))
RUNNING = ObservedState(workload=SET, pod=POD, claim=CLAIM, driver_status=HEALTHY)
WAITING = replace(RUNNING, driver_status=None)
PENDING = replace(POD, scheduled=False, started_at=None, ready=False)
UNBOUND = replace(CLAIM, phase="Pending")
NO_CPU = "0/1 nodes are available: 1 Insufficient cpu."
NO_VOLUME = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
FRESH = DedupJobStatus(observed_generation=-1)


def make_exit(minutes_ago: float, code: int = 70, reason: Reason = Reason.DRIVER_FAILED) -> DriverExit:
    return DriverExit(exit_code=code, reason=reason, message="oops", finished_at=render_time(NOW - timedelta(minutes=minutes_ago)))


def make_case(observed: ObservedState, decision: Decision | None = None, before: DedupJobStatus = FRESH) -> DiagnosisInput:
    return DiagnosisInput(spec=SPEC, decision=decision or Keep(), observed=observed, before=before, now=NOW)


def make_pod(**changes: Any) -> ObservedState:
    return replace(RUNNING, pod=replace(POD, **changes), driver_status=None)


def answered(**changes: Any) -> ObservedState:
    return replace(RUNNING, driver_status=HEALTHY.model_copy(update=changes))


LATER = NOW - timedelta(seconds=5)
TABLE: list[tuple[str, ObservedState, Decision | None, ConditionStatus, Reason]] = [
    ("batches commit", RUNNING, None, ConditionStatus.TRUE, Reason.RUNNING),
    (
        "idle since the start",
        answered(committed_in_this_run=False, progress=Progress(lag_records=0)),
        None,
        ConditionStatus.TRUE,
        Reason.RUNNING,
    ),
    (
        "first batch on its way",
        answered(committed_in_this_run=False, batch_running_since=render_time(LATER), progress=Progress()),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    (
        "first batch after a restart",
        answered(committed_in_this_run=False, batch_running_since=render_time(LATER)),
        None,
        ConditionStatus.UNKNOWN,
        Reason.RESTARTING,
    ),
    (
        "the process starts",
        answered(committed_in_this_run=False, phase=Phase.STARTING, progress=Progress()),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    ("to be started", ObservedState(), Start(first=True), ConditionStatus.UNKNOWN, Reason.STARTING),
    ("started again", ObservedState(workload=SET), Start(first=False), ConditionStatus.UNKNOWN, Reason.RESTARTING),
    ("rolling", RUNNING, ScaleDownForRestart("for spec.watermark"), ConditionStatus.UNKNOWN, Reason.RESTARTING),
    ("stopping", RUNNING, Suspend(), ConditionStatus.UNKNOWN, Reason.SUSPENDING),
    ("suspended", ObservedState(workload=SET, claim=CLAIM), Suspended(), ConditionStatus.TRUE, Reason.SUSPENDED),
    ("blocked", RUNNING, Refuse(Reason.CHANGE_BLOCKED, "spec.key"), ConditionStatus.FALSE, Reason.CHANGE_BLOCKED),
    ("invalid", RUNNING, Refuse(Reason.INVALID_SPEC, "spec.watermark"), ConditionStatus.FALSE, Reason.INVALID_SPEC),
    (
        "given up",
        ObservedState(workload=SET),
        GiveUp(GivenUp(1, Reason.CONFIGURATION_REFUSED, "no")),
        ConditionStatus.FALSE,
        Reason.CONFIGURATION_REFUSED,
    ),
    ("no pod yet", ObservedState(workload=SET, claim=CLAIM), None, ConditionStatus.UNKNOWN, Reason.STARTING),
    ("a quota", ObservedState(workload=SET, claim=CLAIM, pod_rejection="exceeded quota"), None, ConditionStatus.FALSE, Reason.POD_REJECTED),
    ("evicted", make_pod(deleting=True), None, ConditionStatus.UNKNOWN, Reason.RESTARTING),
    (
        "scheduling has only begun",
        replace(WAITING, pod=replace(PENDING, created_at=LATER, unschedulable=NO_CPU)),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    ("no node", replace(WAITING, pod=replace(PENDING, unschedulable=NO_CPU)), None, ConditionStatus.FALSE, Reason.UNSCHEDULABLE),
    (
        "no node, and the claim waits for its first consumer",
        replace(WAITING, pod=replace(PENDING, unschedulable=NO_CPU), claim=UNBOUND),
        None,
        ConditionStatus.FALSE,
        Reason.UNSCHEDULABLE,
    ),
    (
        "no node, and a stale word about the claim",
        replace(WAITING, pod=replace(PENDING, unschedulable=NO_CPU), claim=UNBOUND, claim_problem="slow"),
        None,
        ConditionStatus.FALSE,
        Reason.UNSCHEDULABLE,
    ),
    (
        "no volume",
        replace(WAITING, pod=replace(PENDING, unschedulable=NO_VOLUME), claim=UNBOUND),
        None,
        ConditionStatus.FALSE,
        Reason.CHECKPOINT_PENDING,
    ),
    (
        "no storage class",
        replace(WAITING, pod=PENDING, claim=UNBOUND, claim_problem='storageclass "x" not found'),
        None,
        ConditionStatus.FALSE,
        Reason.CHECKPOINT_PENDING,
    ),
    ("the volume is being made", replace(WAITING, pod=PENDING, claim=UNBOUND), None, ConditionStatus.UNKNOWN, Reason.STARTING),
    ("image", make_pod(started_at=None, waiting="ImagePullBackOff"), None, ConditionStatus.FALSE, Reason.IMAGE_UNAVAILABLE),
    ("image policy", make_pod(started_at=None, waiting="ErrImageNeverPull"), None, ConditionStatus.FALSE, Reason.IMAGE_UNAVAILABLE),
    ("container", make_pod(started_at=None, waiting="CreateContainerConfigError"), None, ConditionStatus.FALSE, Reason.POD_REJECTED),
    ("creating", make_pod(started_at=None, waiting="ContainerCreating"), None, ConditionStatus.UNKNOWN, Reason.STARTING),
    (
        "mount",
        replace(make_pod(started_at=None, waiting="ContainerCreating"), mount_problem="no disk"),
        None,
        ConditionStatus.FALSE,
        Reason.CHECKPOINT_PENDING,
    ),
    (
        "one crash",
        make_pod(started_at=None, waiting="CrashLoopBackOff", restarts=1, exits=(make_exit(1),)),
        None,
        ConditionStatus.UNKNOWN,
        Reason.RESTARTING,
    ),
    (
        "crash loop",
        make_pod(started_at=None, waiting="CrashLoopBackOff", restarts=2, exits=(make_exit(1), make_exit(2))),
        None,
        ConditionStatus.FALSE,
        Reason.DRIVER_FAILED,
    ),
    (
        "out of memory again and again",
        make_pod(started_at=None, restarts=2, exits=(make_exit(1, 137, Reason.OUT_OF_MEMORY), make_exit(2))),
        None,
        ConditionStatus.FALSE,
        Reason.OUT_OF_MEMORY,
    ),
    (
        "a crash long ago",
        replace(RUNNING, pod=replace(POD, restarts=2, exits=(make_exit(300), make_exit(400)))),
        None,
        ConditionStatus.TRUE,
        Reason.RUNNING,
    ),
    (
        "recovered after one crash",
        replace(RUNNING, pod=replace(POD, restarts=1, exits=(make_exit(6),))),
        None,
        ConditionStatus.TRUE,
        Reason.RUNNING,
    ),
    (
        "commits and crashes and commits",
        replace(RUNNING, pod=replace(POD, started_at=LATER, restarts=3, exits=(make_exit(0.1), make_exit(1)))),
        None,
        ConditionStatus.FALSE,
        Reason.DRIVER_FAILED,
    ),
    (
        "silent at first",
        replace(RUNNING, driver_status=DriverUnreachable(LATER, "refused"), pod=replace(POD, ready=False)),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    ("silent", replace(RUNNING, driver_status=DriverUnreachable(AGO, "refused")), None, ConditionStatus.FALSE, Reason.NO_PROGRESS),
    (
        "silent, on a node that is lost",
        replace(
            RUNNING, driver_status=DriverUnreachable(AGO, "timeout"), pod=replace(POD, ready=False, started_at=NOW - timedelta(hours=1))
        ),
        None,
        ConditionStatus.FALSE,
        Reason.NO_PROGRESS,
    ),
    (
        "starting for ever",
        replace(
            answered(
                committed_in_this_run=False,
                phase=Phase.STARTING,
                pending_since=render_time(NOW - timedelta(hours=1)),
                progress=Progress(),
            ),
            pod=replace(POD, started_at=NOW - timedelta(hours=1)),
        ),
        None,
        ConditionStatus.FALSE,
        Reason.NO_PROGRESS,
    ),
    (
        "source",
        answered(blocked_by=Blocked(reason=Reason.SOURCE_UNAVAILABLE, message="no broker")),
        None,
        ConditionStatus.FALSE,
        Reason.SOURCE_UNAVAILABLE,
    ),
    (
        "stuck in a batch",
        answered(batch_running_since=render_time(NOW - timedelta(minutes=11))),
        None,
        ConditionStatus.FALSE,
        Reason.NO_PROGRESS,
    ),
    ("a long batch", answered(batch_running_since=render_time(NOW - timedelta(minutes=9))), None, ConditionStatus.TRUE, Reason.RUNNING),
    (
        "starting since a moment ago, after a long wait",
        replace(
            answered(committed_in_this_run=False, phase=Phase.STARTING, pending_since=render_time(NOW), progress=Progress()),
            pod=replace(POD, started_at=NOW - timedelta(hours=1)),
        ),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    (
        "records after a quiet day",
        replace(
            answered(
                pending_since=render_time(NOW),
                progress=Progress(batch=1, lag_records=9, last_progress_time=render_time(NOW - timedelta(days=1))),
            ),
            pod=replace(POD, started_at=NOW - timedelta(days=2)),
        ),
        None,
        ConditionStatus.TRUE,
        Reason.RUNNING,
    ),
    (
        "lag and no batch",
        replace(
            answered(pending_since=render_time(NOW - timedelta(hours=1)), progress=Progress(batch=1, lag_records=9)),
            pod=replace(POD, started_at=NOW - timedelta(hours=2)),
        ),
        None,
        ConditionStatus.FALSE,
        Reason.NO_PROGRESS,
    ),
    (
        "no lag for an hour",
        answered(progress=Progress(batch=1, lag_records=0, last_progress_time=render_time(NOW - timedelta(hours=1)))),
        None,
        ConditionStatus.TRUE,
        Reason.RUNNING,
    ),
]


@pytest.mark.parametrize(("observed", "decision", "status", "reason"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_reason(observed: ObservedState, decision: Decision | None, status: ConditionStatus, reason: Reason) -> None:
    verdict = diagnose(make_case(observed, decision))
    assert (verdict.status, verdict.reason) == (status, reason)
    assert verdict.message and len(verdict.message) <= 1024


@pytest.mark.parametrize(("observed", "decision"), [row[1:3] for row in TABLE], ids=[row[0] for row in TABLE])
def test_conditions_hold_together_and_are_idempotent(observed: ObservedState, decision: Decision | None) -> None:
    case = make_case(observed, decision)
    verdict = diagnose(case)
    conditions = build_conditions(case, verdict, 7)
    kinds = [condition.type for condition in conditions]
    assert kinds[0] == "Ready" and not {"Reconciling", "Stalled"} <= set(kinds)
    assert ("Reconciling" in kinds) == (verdict.status is ConditionStatus.UNKNOWN)
    assert {condition.observed_generation for condition in conditions} == {7}
    before = build_status(FRESH, observed, 7, conditions)
    later = replace(case, before=before, now=NOW + timedelta(seconds=1))
    again = build_status(before, observed, 7, build_conditions(later, diagnose(later), 7))
    assert choose_status(before, again, LastProgressWrite(), later.now) is None
    assert parse_status({"status": before.to_json_dict()}) == before


@pytest.mark.parametrize(
    ("reason", "stalled"), [(Reason.CHECKPOINT_LOST, True), (Reason.CHANGE_BLOCKED, True), (Reason.POD_REJECTED, False)]
)
def test_a_job_is_stalled_where_only_a_person_can_help(reason: Reason, stalled: bool) -> None:
    assert diagnose(make_case(RUNNING, Refuse(reason, "gone"))).stalled is stalled


def test_a_job_that_was_ready_in_this_run_does_not_flicker() -> None:
    ready = Condition(
        type="Ready",
        status=ConditionStatus.TRUE,
        reason="Running",
        message="fine",
        last_transition_time=render_time(NOW - timedelta(minutes=1)),
        observed_generation=1,
    )
    before = DedupJobStatus(observed_generation=1, conditions=[ready])
    first_records = answered(committed_in_this_run=False, batch_running_since=render_time(LATER))
    assert diagnose(make_case(first_records, before=before)).status is ConditionStatus.TRUE
    hiccup = replace(RUNNING, driver_status=DriverUnreachable(LATER, "timeout"))
    assert diagnose(make_case(hiccup, before=before)).status is ConditionStatus.TRUE
    restarted = replace(first_records, pod=replace(POD, started_at=LATER))
    assert diagnose(make_case(restarted, before=before)).status is ConditionStatus.UNKNOWN


conditions = st.builds(
    Condition,
    type=st.sampled_from(["Ready", "Stalled", "CheckpointReady"]),
    status=st.sampled_from(list(ConditionStatus)),
    reason=st.sampled_from(["A", "B"]),
    message=st.sampled_from(["x", "y"]),
    last_transition_time=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]),
    observed_generation=st.integers(1, 3),
)
lists = st.lists(conditions, max_size=3, unique_by=lambda condition: condition.type)


@given(lists, lists)
def test_merging_twice_is_merging_once(before: list[Condition], after: list[Condition]) -> None:
    merged = merge_conditions(before, after)
    assert merge_conditions(merged, after) == merged
    assert [(c.type, c.status, c.reason, c.message) for c in merged] == [(c.type, c.status, c.reason, c.message) for c in after]
    known = {condition.type: condition for condition in before}
    for condition, fresh in zip(merged, after, strict=True):
        old = known.get(condition.type)
        unchanged = old is not None and old.status == condition.status
        assert condition.last_transition_time == (old if unchanged and old else fresh).last_transition_time


exits = st.lists(st.builds(make_exit, st.integers(0, 9)), max_size=6)


@given(exits, exits)
def test_exits_are_kept_newest_first_each_once_at_most_five(known: list[DriverExit], seen: list[DriverExit]) -> None:
    merged = merge_exits(known, seen)
    moments = [exit.finished_at for exit in merged]
    assert moments == sorted(set(moments), reverse=True) and len(moments) <= 5
    assert merge_exits(merged, seen) == merged


def make_status(**progress: Any) -> DedupJobStatus:
    return DedupJobStatus(observed_generation=1, driver=DriverState(), progress=Progress(**progress))


def test_numbers_wait_for_their_turn() -> None:
    before, after = make_status(batch=1, rows_in=1), make_status(batch=2, rows_in=2)
    assert choose_status(before, after, LastProgressWrite(NOW - timedelta(seconds=59)), NOW) is None
    assert choose_status(before, after, LastProgressWrite(NOW - timedelta(seconds=60)), NOW) == after
    assert choose_status(before, after, LastProgressWrite(), NOW) == after
    moved = after.model_copy(update={"observed_generation": 2})
    assert choose_status(before, moved, LastProgressWrite(NOW), NOW) == moved
    assert choose_status(make_status(), before, LastProgressWrite(NOW), NOW) == before, "the first batch is told at once"


def test_a_driver_that_is_still_reading_its_checkpoint_takes_nothing_back() -> None:
    before = make_status(batch=9, rows_in=100)
    observed = answered(progress=Progress(), committed_in_this_run=False)
    assert build_status(before, observed, 1, []).progress == before.progress


def test_events_tell_transitions_and_exits_once() -> None:
    def status(verdict: Verdict, ends: list[DriverExit]) -> DedupJobStatus:
        found = build_conditions(make_case(RUNNING), verdict, 1)
        return DedupJobStatus(observed_generation=1, conditions=found, driver=DriverState(last_exits=ends))

    running = status(Verdict(ConditionStatus.TRUE, Reason.RUNNING, "fine"), [])
    failed = status(Verdict(ConditionStatus.FALSE, Reason.DRIVER_FAILED, "oops"), [make_exit(1), make_exit(2)])
    assert [(note.reason, note.warning) for note in list_event_notes(FRESH, running)] == [("Running", False)]
    assert list_event_notes(running, running) == []
    assert [note.reason for note in list_event_notes(running, failed)] == ["DriverFailed"] * 3
    assert list_event_notes(failed, failed) == []
