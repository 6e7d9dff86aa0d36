"""What a DedupJob reports: for each situation, the one reason that explains it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dedup_api.driver_status import Blocked, DriverStatus, Phase
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import Condition, ConditionStatus, DedupJobStatus, DriverExit, Progress
from dedup_operator.domain.annotations import GivenUp
from dedup_operator.domain.decision import Decision, GiveUp, Keep, Refuse, ScaleDownForRestart, Start, Suspend, Suspended
from dedup_operator.domain.diagnose import diagnose
from dedup_operator.domain.driver_objects import Kind
from dedup_operator.domain.observe.checkpoint import CheckpointClaim
from dedup_operator.domain.observe.pod import DriverUnreachable
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Workload
from dedup_operator.domain.times import render_time
from dedup_operator.domain.verdict import DiagnosisInput
from unit.operator import samples

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
POD = replace(samples.POD, created_at=AGO, started_at=AGO)
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


def make_input(observed: ObservedState, decision: Decision | None = None, before: DedupJobStatus = FRESH) -> DiagnosisInput:
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
        "all unread records wait behind an open transaction since the start",
        answered(committed_in_this_run=False, progress=Progress(lag_records=100, open_transaction_records=100)),
        None,
        ConditionStatus.TRUE,
        Reason.RUNNING,
    ),
    (
        "one unread record does not wait behind an open transaction",
        answered(committed_in_this_run=False, progress=Progress(lag_records=101, open_transaction_records=100)),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    (
        "the first batch is running",
        answered(committed_in_this_run=False, batch_running_since=render_time(LATER), progress=Progress()),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    (
        "the first batch after a restart is running",
        answered(committed_in_this_run=False, batch_running_since=render_time(LATER)),
        None,
        ConditionStatus.UNKNOWN,
        Reason.RESTARTING,
    ),
    (
        "the process is starting",
        answered(committed_in_this_run=False, phase=Phase.STARTING, progress=Progress()),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    ("the operator starts the driver", ObservedState(), Start(first=True), ConditionStatus.UNKNOWN, Reason.STARTING),
    ("the operator starts the driver again", ObservedState(workload=SET), Start(first=False), ConditionStatus.UNKNOWN, Reason.RESTARTING),
    ("a restart for new settings", RUNNING, ScaleDownForRestart("to apply spec.watermark"), ConditionStatus.UNKNOWN, Reason.RESTARTING),
    ("stopping", RUNNING, Suspend(), ConditionStatus.UNKNOWN, Reason.SUSPENDING),
    ("suspended", ObservedState(workload=SET, claim=CLAIM), Suspended(), ConditionStatus.TRUE, Reason.SUSPENDED),
    ("an incompatible edit", RUNNING, Refuse(Reason.CHANGE_BLOCKED, "spec.key"), ConditionStatus.FALSE, Reason.CHANGE_BLOCKED),
    ("an invalid edit", RUNNING, Refuse(Reason.INVALID_SPEC, "spec.watermark"), ConditionStatus.FALSE, Reason.INVALID_SPEC),
    (
        "the operator has given up",
        ObservedState(workload=SET),
        GiveUp(GivenUp(1, Reason.CONFIGURATION_REFUSED, "no")),
        ConditionStatus.FALSE,
        Reason.CONFIGURATION_REFUSED,
    ),
    ("no pod yet", ObservedState(workload=SET, claim=CLAIM), None, ConditionStatus.UNKNOWN, Reason.STARTING),
    ("a quota", ObservedState(workload=SET, claim=CLAIM, pod_rejection="exceeded quota"), None, ConditionStatus.FALSE, Reason.POD_REJECTED),
    ("evicted", make_pod(deleting=True), None, ConditionStatus.UNKNOWN, Reason.RESTARTING),
    (
        "the pod was created a moment ago",
        replace(WAITING, pod=replace(PENDING, created_at=LATER, unschedulable=NO_CPU)),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    ("no node", replace(WAITING, pod=replace(PENDING, unschedulable=NO_CPU)), None, ConditionStatus.FALSE, Reason.UNSCHEDULABLE),
    (
        "no node, and the claim waits for its first pod",
        replace(WAITING, pod=replace(PENDING, unschedulable=NO_CPU), claim=UNBOUND),
        None,
        ConditionStatus.FALSE,
        Reason.UNSCHEDULABLE,
    ),
    (
        "no node, and an old event about the claim",
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
    ("the provisioner creates the volume", replace(WAITING, pod=PENDING, claim=UNBOUND), None, ConditionStatus.UNKNOWN, Reason.STARTING),
    (
        "kubelet cannot pull the image",
        make_pod(started_at=None, waiting="ImagePullBackOff"),
        None,
        ConditionStatus.FALSE,
        Reason.IMAGE_UNAVAILABLE,
    ),
    (
        "the image may not be pulled",
        make_pod(started_at=None, waiting="ErrImageNeverPull"),
        None,
        ConditionStatus.FALSE,
        Reason.IMAGE_UNAVAILABLE,
    ),
    (
        "kubelet cannot create the container",
        make_pod(started_at=None, waiting="CreateContainerConfigError"),
        None,
        ConditionStatus.FALSE,
        Reason.POD_REJECTED,
    ),
    (
        "kubelet creates the container",
        make_pod(started_at=None, waiting="ContainerCreating"),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    (
        "kubelet cannot mount the volume",
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
        "out of memory repeatedly",
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
        "a driver that commits between crashes",
        replace(RUNNING, pod=replace(POD, started_at=LATER, restarts=3, exits=(make_exit(0.1), make_exit(1)))),
        None,
        ConditionStatus.FALSE,
        Reason.DRIVER_FAILED,
    ),
    (
        "a new driver does not answer yet",
        replace(RUNNING, driver_status=DriverUnreachable(LATER, "refused"), pod=replace(POD, ready=False)),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    (
        "the driver does not answer",
        replace(RUNNING, driver_status=DriverUnreachable(AGO, "refused")),
        None,
        ConditionStatus.UNKNOWN,
        Reason.DRIVER_UNREACHABLE,
    ),
    (
        "a driver that ended last week does not answer",
        replace(RUNNING, driver_status=DriverUnreachable(AGO, "timeout"), pod=replace(POD, restarts=1, exits=(make_exit(10000),))),
        None,
        ConditionStatus.UNKNOWN,
        Reason.DRIVER_UNREACHABLE,
    ),
    (
        "a driver on a lost node does not answer",
        replace(
            RUNNING, driver_status=DriverUnreachable(AGO, "timeout"), pod=replace(POD, ready=False, started_at=NOW - timedelta(hours=1))
        ),
        None,
        ConditionStatus.UNKNOWN,
        Reason.DRIVER_UNREACHABLE,
    ),
    (
        "the start does not end",
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
        "the source is unavailable",
        answered(blocked_by=Blocked(reason=Reason.SOURCE_UNAVAILABLE, message="no broker")),
        None,
        ConditionStatus.FALSE,
        Reason.SOURCE_UNAVAILABLE,
    ),
    (
        "a batch does not end",
        answered(batch_running_since=render_time(NOW - timedelta(minutes=11))),
        None,
        ConditionStatus.FALSE,
        Reason.NO_PROGRESS,
    ),
    ("a long batch", answered(batch_running_since=render_time(NOW - timedelta(minutes=9))), None, ConditionStatus.TRUE, Reason.RUNNING),
    (
        "starting after a long wait",
        replace(
            answered(committed_in_this_run=False, phase=Phase.STARTING, pending_since=render_time(NOW), progress=Progress()),
            pod=replace(POD, started_at=NOW - timedelta(hours=1)),
        ),
        None,
        ConditionStatus.UNKNOWN,
        Reason.STARTING,
    ),
    (
        "new records after a quiet day",
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
        "records are waiting and no batch starts",
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
def test_each_situation_has_its_reason(observed: ObservedState, decision: Decision | None, status: ConditionStatus, reason: Reason) -> None:
    verdict = diagnose(make_input(observed, decision))
    assert (verdict.status, verdict.reason) == (status, reason)
    assert verdict.message and len(verdict.message) <= 1024


@pytest.mark.parametrize(
    ("reason", "stalled"), [(Reason.CHECKPOINT_LOST, True), (Reason.CHANGE_BLOCKED, True), (Reason.POD_REJECTED, False)]
)
def test_a_job_is_stalled_when_only_a_person_can_help(reason: Reason, stalled: bool) -> None:
    assert diagnose(make_input(RUNNING, Refuse(reason, "gone"))).stalled is stalled


def test_a_job_that_was_ready_in_this_run_remains_ready() -> None:
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
    assert diagnose(make_input(first_records, before=before)).status is ConditionStatus.TRUE
    hiccup = replace(RUNNING, driver_status=DriverUnreachable(LATER, "timeout"))
    assert diagnose(make_input(hiccup, before=before)).status is ConditionStatus.TRUE
    restarted = replace(first_records, pod=replace(POD, started_at=LATER))
    assert diagnose(make_input(restarted, before=before)).status is ConditionStatus.UNKNOWN
