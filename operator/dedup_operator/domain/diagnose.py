"""Why a DedupJob is ready or not: the verdict for the condition Ready.

Each rule is a small function that returns a verdict or None. The rules are ordered by priority, and the first verdict
wins. False has priority over Unknown, and a cause over its consequence: a claim that waits for its first pod is no
problem while the pod itself cannot be scheduled. Messages contain no counters, so that the status is not written again
when nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from dedup_api import names
from dedup_api.driver_status import DriverStatus, Phase
from dedup_api.durations import parse_duration
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import ConditionStatus, ConditionType, Progress
from dedup_operator.domain.decision import (
    GiveUp,
    Keep,
    Refuse,
    RemoveWorkload,
    ScaleDownForRestart,
    Start,
    Suspend,
    Suspended,
    Wait,
)
from dedup_operator.domain.driver_objects import STARTUP_SECONDS, Kind
from dedup_operator.domain.exits import merge_exits
from dedup_operator.domain.observe.pod import CONTAINER_PROBLEMS, DriverPod, DriverUnreachable
from dedup_operator.domain.times import parse_time
from dedup_operator.domain.verdict import (
    DiagnosisInput,
    Verdict,
    build_false,
    build_problem,
    build_true,
    build_unknown,
    end_sentence,
    with_remedy,
)

SCHEDULING_GRACE = timedelta(seconds=15)
"""A new pod is unschedulable for a moment while the storage provisioner creates its volume."""
PROVISIONING_GRACE = timedelta(seconds=90)
"""A cloud disk is created within a minute."""
MOUNT_GRACE = timedelta(seconds=90)
"""Attaching a volume to another node takes about a minute.
Until then kubelet reports failures that pass without help."""
UNREACHABLE_GRACE = timedelta(seconds=60)
"""A long garbage collection or a busy node delays answers. When no
answers come at all, kubelet's own probe restarts the driver."""
STARTUP_GRACE = timedelta(seconds=STARTUP_SECONDS)
MIN_PROGRESS_TIMEOUT = timedelta(minutes=10)
PROGRESS_TIMEOUT_TRIGGERS = 20
"""A longer trigger interval makes larger batches, which take longer."""
RECOVERED_AFTER = timedelta(seconds=60)
"""A restarted driver has recovered when it has run this long on a topic without new records."""
CRASH_LOOP = 2
"""Exits within `CRASH_WINDOW`. The operator reports a single exit as a restart."""
CRASH_WINDOW = timedelta(minutes=15)
"""kubelet pauses for five minutes at most, so a crash loop has at least two exits in this time."""


STALLING = {Reason.INVALID_SPEC, Reason.CHANGE_BLOCKED, Reason.NAME_CONFLICT, Reason.CHECKPOINT_TAKEN, Reason.CHECKPOINT_LOST}
"""Reasons that stay until a person changes the spec, deletes an object, or restores the checkpoint."""
ABOUT_EDITS = {Reason.INVALID_SPEC, Reason.CHANGE_BLOCKED}


def diagnose(given: DiagnosisInput) -> Verdict:
    verdict = next((found for rule in RULES if (found := rule(given)) is not None), None)
    healthy = build_true(Reason.RUNNING, "The driver commits batches, or it is healthy and the topic has no new records.")
    return diagnose_reclaim_policy(given, verdict or healthy)


def diagnose_decision(given: DiagnosisInput) -> Verdict | None:
    """The verdict that follows from the decision alone."""
    match given.decision:
        case Refuse(reason, message):
            driver = _describe_refused_driver(given, " with its previous settings" if reason in ABOUT_EDITS else "")
            return build_false(reason, f"{end_sentence(message)} {driver}".strip(), stalled=reason in STALLING)
        case GiveUp(why):
            return build_problem(why.reason, why.message, stalled=True)
        case Suspended():
            return build_true(Reason.SUSPENDED, "spec.suspend is true and the driver has stopped. Set spec.suspend to false to resume.")
        case Suspend():
            return build_unknown(Reason.SUSPENDING, "spec.suspend is true. The driver stops after the current batch.")
        case ScaleDownForRestart(message):
            return build_unknown(Reason.RESTARTING, message)
        case Wait(reason, message):
            return build_unknown(reason, message)
        case RemoveWorkload(workload):
            message = f"The operator removes the driver's {workload.kind}, which is no longer needed, before it continues."
            return build_unknown(Reason.RESTARTING, message)
        case Start(first):
            reason = Reason.STARTING if first else Reason.RESTARTING
            return build_unknown(reason, "The operator starts the driver.")
    return None


def _describe_refused_driver(given: DiagnosisInput, settings: str) -> str:
    """What the driver does while the operator refuses to act. Empty when no pod exists. `settings`: with which settings
    it does that, as a part of the sentence."""
    pod, driver_status = given.observed.pod, given.observed.driver_status
    if pod is None or pod.deleting or (isinstance(given.decision, Refuse) and given.decision.stop):
        return ""
    if pod.started_at is None:
        ended = f" It has ended: {pod.last_exit.message}" if pod.last_exit is not None else ""
        return f"The driver does not run now.{ended}"
    if isinstance(driver_status, DriverUnreachable):
        return f"The driver runs{settings}, and does not answer the operator."
    if isinstance(driver_status, DriverStatus) and driver_status.blocked_by is not None:
        return f"The driver runs{settings}, and waits: {driver_status.blocked_by.message}"
    if diagnose_no_progress(given) is not None:
        return f"The driver runs{settings}, but it has not committed a batch for a long time."
    return f"The driver continues{settings}."


def diagnose_reclaim_policy(given: DiagnosisInput, verdict: Verdict) -> Verdict:
    """`verdict`, or a warning in its place: a user who deletes the DedupJob now loses the keys, although the spec says
    Retain. A problem of the driver is more urgent, so it stays. A refused change from Retain to Delete loses nothing, so
    only the message of CheckpointReady reports it."""
    refusal = given.refused_retention
    if refusal is None or verdict.status is ConditionStatus.FALSE:
        return verdict
    return build_problem(Reason.RECLAIM_POLICY_REFUSED, refusal.message, stalled=True)


def diagnose_time_between_runs(given: DiagnosisInput) -> Verdict | None:
    """No driver runs, and none should: the last run has completed, or the next one is not due yet."""
    workload = given.observed.workload
    if given.observed.pod is not None or workload is None:
        return None
    if workload.completed:
        return build_true(
            Reason.COMPLETED, "The driver has processed all records that the topic held when the driver started, and has ended."
        )
    if workload.kind is Kind.CRON_JOB and not workload.runs:
        return build_true(Reason.SCHEDULED, "The next run starts at the next time of spec.trigger.availableNow.schedule, in UTC.")
    return None


def diagnose_missing_pod(given: DiagnosisInput) -> Verdict | None:
    if given.observed.pod is not None:
        return None
    if given.observed.pod_rejection is not None:
        return build_problem(Reason.POD_REJECTED, given.observed.pod_rejection)
    if isinstance(given.decision, Keep) and not given.decision.repair:
        message = "Something has scaled the driver's workload to 0 again and again. The operator starts the driver again after a pause."
        return build_unknown(Reason.RESTARTING, f"{message} The event WorkloadChanged says what to do.")
    return build_unknown(_choose_start_reason(given), "Kubernetes creates the driver's pod.")


def _choose_start_reason(given: DiagnosisInput) -> Reason:
    """Starting before the first batch of the DedupJob, Restarting after that."""
    driver_status = given.observed.driver_status
    counts = [given.before.progress, driver_status.progress if isinstance(driver_status, DriverStatus) else None]
    ran = any(progress is not None and progress.batch is not None for progress in counts)
    restarted = given.observed.pod is not None and given.observed.pod.restarts > 0
    return Reason.RESTARTING if ran or restarted else Reason.STARTING


def diagnose_pod_deletion(given: DiagnosisInput) -> Verdict | None:
    pod = given.observed.pod
    if pod is None or not pod.deleting:
        return None
    return build_unknown(Reason.RESTARTING, f"Kubernetes stops pod {pod.name}. The driver starts again when the pod is gone.")


_ABOUT_VOLUMES = ("persistentvolumeclaim", "storageclass", "volume")
_SCHEDULING_ELSEWHERE = ("Insufficient", "taint", "didn't match", "no nodes available", "affinity")


def diagnose_claim(given: DiagnosisInput) -> Verdict | None:
    """A problem with the claim, when the pod waits for it."""
    pod, claim = given.observed.pod, given.observed.claim
    if pod is None or pod.scheduled or claim is None or claim.phase == "Bound" or given.age_of(pod) < SCHEDULING_GRACE:
        return None
    scheduler = pod.unschedulable or ""
    if any(word in scheduler for word in _SCHEDULING_ELSEWHERE):
        return None
    blamed = any(word in scheduler.lower() for word in _ABOUT_VOLUMES)
    slow = given.age_of(pod) > PROVISIONING_GRACE
    if given.observed.claim_problem is None and not (blamed and slow):
        return None
    detail = given.observed.claim_problem or scheduler
    return build_problem(Reason.CHECKPOINT_PENDING, f"Claim {claim.name} is not bound: {detail}")


def diagnose_scheduling(given: DiagnosisInput) -> Verdict | None:
    pod = given.observed.pod
    if pod is None or pod.scheduled:
        return None
    claim = given.observed.claim
    volume = claim is not None and claim.phase != "Bound"
    elsewhere = any(word in (pod.unschedulable or "") for word in _SCHEDULING_ELSEWHERE)
    if pod.unschedulable is not None and given.age_of(pod) >= SCHEDULING_GRACE and (elsewhere or not volume):
        return build_problem(Reason.UNSCHEDULABLE, pod.unschedulable)
    return build_unknown(_choose_start_reason(given), "The driver's pod waits for a node and its volume.")


def diagnose_image(given: DiagnosisInput) -> Verdict | None:
    pod, workload = given.observed.pod, given.observed.workload
    if pod is None or not pod.image_problem:
        return None
    image = workload.image if workload else ""
    return build_problem(Reason.IMAGE_UNAVAILABLE, f"kubelet cannot pull image {image}: {pod.waiting_message or pod.waiting}")


def diagnose_container(given: DiagnosisInput) -> Verdict | None:
    """The container has not started, for another reason than its image."""
    pod = given.observed.pod
    if pod is None or pod.started_at is not None:
        return None
    if pod.waiting in CONTAINER_PROBLEMS:
        return build_problem(Reason.POD_REJECTED, f"kubelet cannot start the container: {pod.waiting_message or pod.waiting}")
    if pod.exits:
        return None
    if given.observed.mount_problem is not None and given.age_of(pod) > MOUNT_GRACE:
        return build_problem(Reason.CHECKPOINT_PENDING, given.observed.mount_problem)
    return build_unknown(_choose_start_reason(given), "kubelet prepares the driver's container.")


def diagnose_crashes(given: DiagnosisInput) -> Verdict | None:
    pod = given.observed.pod
    if pod is None or not pod.exits or _has_recovered(given) or _runs_silently(given, pod):
        return None
    if _count_recent_exits(given) < CRASH_LOOP:
        now = "kubelet restarts it" if pod.started_at is None else "kubelet has restarted it"
        return build_unknown(Reason.RESTARTING, f"The driver ended, and {now}.")
    return build_problem(pod.exits[0].reason, pod.exits[0].message)


def _runs_silently(given: DiagnosisInput, pod: DriverPod) -> bool:
    """The driver runs and does not answer, so nothing is known of this run. Right after several exits, they count."""
    if pod.started_at is None or not isinstance(given.observed.driver_status, DriverUnreachable):
        return False
    return _count_recent_exits(given) < CRASH_LOOP or given.now - pod.started_at > RECOVERED_AFTER


def _count_recent_exits(given: DiagnosisInput) -> int:
    known = given.before.driver.last_exits if given.before.driver else []
    exits = merge_exits(known, given.observed.pod.exits if given.observed.pod else ())
    crashes = (exit for exit in exits if exit.reason != Reason.GRACE_PERIOD_EXCEEDED)  # that driver was asked to stop
    return sum(given.now - parse_time(exit.finished_at) < CRASH_WINDOW for exit in crashes)


def _has_recovered(given: DiagnosisInput) -> bool:
    """Whether this run of the driver works. After several exits it must also have run for a while."""
    pod, driver_status = given.observed.pod, given.observed.driver_status
    if pod is None or pod.started_at is None or not isinstance(driver_status, DriverStatus):
        return False
    if driver_status.blocked_by is not None:
        return True
    has_run_long_enough = given.now - pod.started_at > RECOVERED_AFTER
    if _count_recent_exits(given) >= CRASH_LOOP or not driver_status.committed_in_this_run:
        return has_run_long_enough and (driver_status.committed_in_this_run or driver_status.phase is Phase.RUNNING)
    return True


def diagnose_unreachable_driver(given: DiagnosisInput) -> Verdict | None:
    pod, driver_status = given.observed.pod, given.observed.driver_status
    if pod is None or isinstance(driver_status, DriverStatus):
        return None
    unreachable = judge_unreachable_driver(given)
    if unreachable is not None:
        return unreachable
    return _remain_ready(given) or _keep_last_answer(given) or build_unknown(_choose_start_reason(given), "The driver is starting.")


def _keep_last_answer(given: DiagnosisInput) -> Verdict | None:
    """The verdict from the driver's last answer in this run, while a later answer is missing. Only a verdict that came
    from an answer has its reason in both conditions."""
    ready, progress = given.ready_before, given.find_before(ConditionType.PROGRESS_RECENT)
    if ready is None or progress is None or ready.reason != progress.reason or not given.is_of_this_run(progress):
        return None
    return Verdict(ready.status, ready.reason, ready.message)


def judge_unreachable_driver(given: DiagnosisInput) -> Verdict | None:
    """None while the driver answers, while it starts, and for the first minute without an answer."""
    pod, driver_status = given.observed.pod, given.observed.driver_status
    if pod is None or not isinstance(driver_status, DriverUnreachable) or given.now - driver_status.since <= UNREACHABLE_GRACE:
        return None
    if not _should_answer(given, pod):
        return None
    kubelet = (
        "kubelet reaches the driver, so the driver is alive."
        if pod.ready
        else "kubelet reports that the driver is not ready; kubelet restarts it if its health check fails."
    )
    what = "cannot read what" if driver_status.answered else "gets no answer from"
    says = " answers" if driver_status.answered else ""
    detail = f"The operator {what} TCP port {names.HTTP_PORT} of pod {pod.name}{says}: {driver_status.message}. {kubelet}"
    return build_unknown(Reason.DRIVER_UNREACHABLE, with_remedy(Reason.DRIVER_UNREACHABLE, detail))


def _should_answer(given: DiagnosisInput, pod: DriverPod) -> bool:
    """Whether the driver has answered kubelet in this run, or has had the full time of its startup probe."""
    return pod.ready or (pod.started_at is not None and given.now - pod.started_at > STARTUP_GRACE)


def diagnose_blocked_driver(given: DiagnosisInput) -> Verdict | None:
    driver_status = given.observed.driver_status
    if not isinstance(driver_status, DriverStatus) or driver_status.blocked_by is None:
        return None
    return build_false(driver_status.blocked_by.reason, with_remedy(driver_status.blocked_by.reason, driver_status.blocked_by.message))


def diagnose_no_progress(given: DiagnosisInput) -> Verdict | None:
    driver_status, pod = given.observed.driver_status, given.observed.pod
    if not isinstance(driver_status, DriverStatus) or pod is None or pod.started_at is None or given.running_spec is None:
        return None
    no_commit_since = find_no_commit_since(driver_status, pod.started_at)
    if no_commit_since is None or given.now - no_commit_since <= find_progress_timeout(given.running_spec):
        return None
    return build_problem(Reason.NO_PROGRESS, f"The driver has committed no batch since {no_commit_since:%Y-%m-%d %H:%M} UTC.")


def find_progress_timeout(spec: DedupJobSpec) -> timedelta:
    return max(MIN_PROGRESS_TIMEOUT, PROGRESS_TIMEOUT_TRIGGERS * parse_duration(spec.trigger.processing_time or "0s"))


def find_no_commit_since(driver_status: DriverStatus, started_at: datetime) -> datetime | None:
    """Since when the driver has had records to process and has committed no batch.

    None when it has nothing to process.
    """
    if driver_status.batch_running_since is not None:
        return parse_time(driver_status.batch_running_since)
    return max(parse_time(driver_status.pending_since), started_at) if driver_status.pending_since is not None else None


def diagnose_first_batch(given: DiagnosisInput) -> Verdict | None:
    """The driver has records to process and has not committed its first batch in this run."""
    driver_status, pod = given.observed.driver_status, given.observed.pod
    if not isinstance(driver_status, DriverStatus) or pod is None or driver_status.committed_in_this_run:
        return None
    idle = (
        driver_status.phase is Phase.RUNNING
        and pod.ready
        and driver_status.batch_running_since is None
        and not _count_readable_lag(driver_status.progress)
    )
    if idle or (driver_status.phase is Phase.RUNNING and _remain_ready(given)):
        return None
    return build_unknown(_choose_start_reason(given), "The driver has not committed its first batch yet.")


def _count_readable_lag(progress: Progress) -> int:
    """Unread records that the driver can read: those behind an open transaction of the source topic start no batch."""
    return max(0, (progress.lag_records or 0) - (progress.open_transaction_records or 0))


def _remain_ready(given: DiagnosisInput) -> Verdict | None:
    """A DedupJob that was ready in this run of the driver remains ready until a rule finds a problem."""
    ready = given.ready_before
    if ready is None or (ready.status, ready.reason) != (ConditionStatus.TRUE, Reason.RUNNING) or not given.is_of_this_run(ready):
        return None
    return build_true(Reason.RUNNING, ready.message)


POD_RULES: tuple[Callable[[DiagnosisInput], Verdict | None], ...] = (
    diagnose_claim,
    diagnose_scheduling,
    diagnose_image,
    diagnose_container,
    diagnose_crashes,
)
"""Why the driver's container does not run."""
RULES: tuple[Callable[[DiagnosisInput], Verdict | None], ...] = (
    diagnose_decision,
    diagnose_time_between_runs,
    diagnose_missing_pod,
    diagnose_pod_deletion,
    *POD_RULES,
    diagnose_unreachable_driver,
    diagnose_blocked_driver,
    diagnose_no_progress,
    diagnose_first_batch,
)
