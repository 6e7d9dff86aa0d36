"""The conditions of a DedupJob, built from one verdict and the observed state."""

from __future__ import annotations

from collections.abc import Iterable

from dedup_api.driver_status import DriverStatus
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_api.status import Condition, ConditionStatus, ConditionType
from dedup_operator.domain.decision import Keep, Suspend
from dedup_operator.domain.diagnose import POD_RULES, find_no_commit_since, find_progress_timeout, judge_unreachable_driver
from dedup_operator.domain.observe.pod import DriverUnreachable
from dedup_operator.domain.times import render_time
from dedup_operator.domain.verdict import DiagnosisInput, Verdict, build_false, build_problem, build_true, build_unknown

_CHECKPOINT_REASONS = {Reason.CHECKPOINT_LOST, Reason.CHECKPOINT_PENDING, Reason.CHECKPOINT_TAKEN}
_NO_DRIVER_EXPECTED = {Reason.SUSPENDED, Reason.COMPLETED, Reason.SCHEDULED}
SHARED = "Several pods can mount the claim at the same time. The driver's own locks keep a second driver out."


def build_conditions(given: DiagnosisInput, verdict: Verdict, generation: int) -> list[Condition]:
    """All conditions, in the order of ConditionType."""
    found: list[tuple[ConditionType, Verdict]] = [(ConditionType.READY, verdict)]
    if verdict.stalled:
        found.append((ConditionType.STALLED, build_true(verdict.reason, verdict.message)))
    elif verdict.reconciling:
        found.append((ConditionType.RECONCILING, build_true(verdict.reason, verdict.message)))
    warning = judge_warnings(given)
    if warning is not None:
        found.append((ConditionType.WARNING, warning))
    found.append((ConditionType.CHECKPOINT_READY, judge_checkpoint(given, verdict)))
    found.append((ConditionType.DRIVER_RUNNING, judge_driver(given, verdict)))
    found.append((ConditionType.PROGRESS_RECENT, judge_progress(given, verdict)))
    now = render_time(given.now)
    return merge_conditions(given.before.conditions, [_build(kind, part, generation, now) for kind, part in found])


def _build(kind: ConditionType, verdict: Verdict, generation: int, now: str) -> Condition:
    return Condition(
        type=kind.value,
        status=verdict.status,
        reason=str(verdict.reason),
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


def judge_warnings(given: DiagnosisInput) -> Verdict | None:
    """What the driver warns about; None without a warning. Until the driver answers and has committed a batch in this run,
    its last warning stays."""
    driver_status = given.observed.driver_status
    if isinstance(driver_status, DriverStatus) and (driver_status.warnings or driver_status.committed_in_this_run):
        warnings = driver_status.warnings
        return build_true(warnings[0].reason, " ".join(warning.message for warning in warnings)) if warnings else None
    known = given.find_before(ConditionType.WARNING)
    if known is None or given.observed.pod is None:
        return None
    return Verdict(known.status, known.reason, known.message)


def judge_checkpoint(given: DiagnosisInput, verdict: Verdict) -> Verdict:
    claim, refusal = given.observed.claim, given.claim_refusal
    old = given.observed.moved_from
    if old is not None and given.observed.keys_left_behind:
        return build_unknown(Reason.CHANGE_BLOCKED, f"The driver uses claim {old} until spec.checkpoint names that place again.")
    if verdict.reason in _CHECKPOINT_REASONS:
        return build_false(verdict.reason, verdict.message)
    if claim is None:
        return build_unknown(Reason.NOT_STARTED, "The claim does not exist yet.")
    if given.refused_retention is not None:
        return build_problem(Reason.RECLAIM_POLICY_REFUSED, given.refused_retention.message)
    if claim.phase == "Bound":
        shared = f" {SHARED}" if claim.shared else ""
        refused = f" {refusal.message}" if refusal is not None else ""
        return build_true(Reason.CHECKPOINT_BOUND, f"Claim {claim.name} is bound to a volume.{shared}{refused}")
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
        refused = f" {given.decision.refused}" if isinstance(given.decision, Keep) and given.decision.refused else ""
        return build_true(Reason.RUNNING, f"The driver runs in pod {pod.name}.{refused}")
    # The cause is in the pod itself: Ready may say something about the spec instead.
    cause = next((found for rule in POD_RULES if (found := rule(given)) is not None), None)
    if cause is not None and cause.status is ConditionStatus.FALSE:
        return cause
    return build_unknown(Reason.STARTING, f"Pod {pod.name} is starting.")


def judge_progress(given: DiagnosisInput, verdict: Verdict) -> Verdict:
    driver_status, pod = given.observed.driver_status, given.observed.pod
    if pod is None or pod.started_at is None or given.running_spec is None:
        return build_unknown(Reason.NOT_STARTED, "No driver runs, so there is no progress.")
    if not isinstance(driver_status, DriverStatus):
        return _judge_progress_without_answer(given)
    if driver_status.blocked_by is not None:
        return build_false(driver_status.blocked_by.reason, driver_status.blocked_by.message)
    no_commit_since = find_no_commit_since(driver_status, pod.started_at)
    if no_commit_since is not None and given.now - no_commit_since > find_progress_timeout(given.running_spec):
        return build_false(
            Reason.NO_PROGRESS, verdict.message if verdict.reason == Reason.NO_PROGRESS else EXPLANATIONS[Reason.NO_PROGRESS].meaning
        )
    if not driver_status.committed_in_this_run and no_commit_since is not None:
        return build_unknown(Reason.STARTING, "The driver processes its first batch.")
    return build_true(Reason.PROGRESS_RECENT, EXPLANATIONS[Reason.PROGRESS_RECENT].meaning)


def _judge_progress_without_answer(given: DiagnosisInput) -> Verdict:
    unreachable = judge_unreachable_driver(given)
    if unreachable is not None:
        return build_unknown(unreachable.reason, "The driver does not answer the operator, so its progress is unknown.")
    known = given.find_before(ConditionType.PROGRESS_RECENT)
    if known is not None and given.is_of_this_run(known) and isinstance(given.observed.driver_status, DriverUnreachable):
        return Verdict(known.status, known.reason, known.message)  # one slow answer says nothing about the progress
    return build_unknown(Reason.STARTING, "The driver has started and does not answer yet.")
