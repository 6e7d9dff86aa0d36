"""The conditions of a DedupJob, built from one verdict and the observed state."""

from __future__ import annotations

from collections.abc import Iterable

from dedup_api.driver_status import DriverStatus
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_api.status import Condition, ConditionStatus, ConditionType
from dedup_operator.domain.decision import Suspend
from dedup_operator.domain.diagnose import find_no_commit_since, find_progress_timeout
from dedup_operator.domain.times import render_time
from dedup_operator.domain.verdict import DiagnosisInput, Verdict, build_false, build_true, build_unknown

_CHECKPOINT_REASONS = {Reason.CHECKPOINT_LOST, Reason.CHECKPOINT_PENDING, Reason.CHECKPOINT_TAKEN}
_NO_DRIVER_EXPECTED = {Reason.SUSPENDED, Reason.COMPLETED, Reason.SCHEDULED}
SHARED = "Several pods can mount the claim at the same time. The driver's own locks keep a second driver out."


def build_conditions(given: DiagnosisInput, verdict: Verdict, generation: int, note: str = "") -> list[Condition]:
    """All conditions, in the order of ConditionType.

    `note`: what the API server refused to change in the claim, such as its size.
    """
    found: list[tuple[ConditionType, Verdict]] = [(ConditionType.READY, verdict)]
    if verdict.stalled:
        found.append((ConditionType.STALLED, build_true(verdict.reason, verdict.message)))
    elif verdict.reconciling:
        found.append((ConditionType.RECONCILING, build_true(verdict.reason, verdict.message)))
    found.append((ConditionType.CHECKPOINT_READY, judge_checkpoint(given, verdict, note)))
    found.append((ConditionType.DRIVER_RUNNING, judge_driver(given, verdict)))
    found.append((ConditionType.PROGRESS_RECENT, judge_progress(given, verdict)))
    now = render_time(given.now)
    return merge_conditions(given.before.conditions, [_build(kind, part, generation, now) for kind, part in found])


def _build(kind: ConditionType, verdict: Verdict, generation: int, now: str) -> Condition:
    return Condition(
        type=kind.value,
        status=verdict.status,
        reason=verdict.reason.value,
        message=verdict.message,
        last_transition_time=now,
        observed_generation=generation,
    )


def merge_conditions(before: Iterable[Condition], after: Iterable[Condition]) -> list[Condition]:
    """`after`, but with the transition time from `before` when a condition has the same status there."""
    known = {condition.type: condition for condition in before}
    merged = []
    for condition in after:
        old = known.get(condition.type)
        if old is not None and old.status == condition.status:
            condition = condition.model_copy(update={"last_transition_time": old.last_transition_time})
        merged.append(condition)
    return merged


def judge_checkpoint(given: DiagnosisInput, verdict: Verdict, note: str = "") -> Verdict:
    claim = given.observed.claim
    if verdict.reason in _CHECKPOINT_REASONS:
        return build_false(verdict.reason, verdict.message)
    if claim is None:
        return build_unknown(Reason.NOT_STARTED, "The claim does not exist yet.")
    if claim.phase == "Bound":
        shared = f" {SHARED}" if claim.shared else ""
        return build_true(Reason.CHECKPOINT_BOUND, f"Claim {claim.name} is bound to a volume.{shared}{note and ' ' + note}")
    return build_unknown(Reason.CHECKPOINT_PENDING, f"Claim {claim.name} waits for its volume.")


def judge_driver(given: DiagnosisInput, verdict: Verdict) -> Verdict:
    pod = given.observed.pod
    if pod is None:
        stopped = (
            verdict.reason if verdict.status is not ConditionStatus.TRUE or verdict.reason in _NO_DRIVER_EXPECTED else Reason.NOT_STARTED
        )
        return build_false(stopped, "No driver runs. The condition Ready says why.")
    if pod.deleting:
        reason = Reason.SUSPENDING if isinstance(given.decision, Suspend) else Reason.RESTARTING
        return build_unknown(reason, f"Kubernetes stops pod {pod.name}.")
    if pod.started_at is not None:
        return build_true(Reason.RUNNING, f"The driver runs in pod {pod.name}.")
    if verdict.status is ConditionStatus.FALSE:
        return build_false(verdict.reason, verdict.message)
    return build_unknown(Reason.STARTING, f"Pod {pod.name} is starting.")


def judge_progress(given: DiagnosisInput, verdict: Verdict) -> Verdict:
    driver_status, pod = given.observed.driver_status, given.observed.pod
    if not isinstance(driver_status, DriverStatus) or pod is None or pod.started_at is None or given.running_spec is None:
        return build_unknown(Reason.NOT_STARTED, "No driver answers, so its progress is unknown.")
    if driver_status.blocked_by is not None:
        return build_false(driver_status.blocked_by.reason, driver_status.blocked_by.message)
    no_commit_since = find_no_commit_since(driver_status, pod.started_at)
    if no_commit_since is not None and given.now - no_commit_since > find_progress_timeout(given.running_spec):
        return build_false(
            Reason.NO_PROGRESS, verdict.message if verdict.reason is Reason.NO_PROGRESS else EXPLANATIONS[Reason.NO_PROGRESS].meaning
        )
    if not driver_status.committed_in_this_run and no_commit_since is not None:
        return build_unknown(Reason.STARTING, "The driver processes its first batch.")
    return build_true(Reason.PROGRESS_RECENT, EXPLANATIONS[Reason.PROGRESS_RECENT].meaning)
