"""The conditions of a job, made from one verdict and the facts, in the order in which they are listed."""

from __future__ import annotations

from collections.abc import Iterable

from dedup_api.driver_status import DriverStatus
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_api.status import Condition, ConditionStatus, ConditionType
from dedup_operator.domain import decide
from dedup_operator.domain.diagnose import Case, Verdict, allowed_stillness, find_still_since, no, pending, yes
from dedup_operator.domain.times import render_time

_CHECKPOINT_REASONS = {Reason.CHECKPOINT_LOST, Reason.CHECKPOINT_PENDING, Reason.CHECKPOINT_TAKEN}
_AT_REST = {Reason.SUSPENDED, Reason.COMPLETED, Reason.SCHEDULED}
SHARED = "It is shared, so Kubernetes does not refuse a second pod on it; the driver's own locks do."


def build_conditions(case: Case, verdict: Verdict, generation: int, note: str = "") -> list[Condition]:
    """All conditions. `note`: what went wrong with the claim beside the matter, such as a growth that was refused."""
    found: list[tuple[ConditionType, Verdict]] = [(ConditionType.READY, verdict)]
    if verdict.stalled:
        found.append((ConditionType.STALLED, yes(verdict.reason, verdict.message)))
    elif verdict.reconciling:
        found.append((ConditionType.RECONCILING, yes(verdict.reason, verdict.message)))
    found.append((ConditionType.CHECKPOINT_READY, judge_checkpoint(case, verdict, note)))
    found.append((ConditionType.DRIVER_RUNNING, judge_driver(case, verdict)))
    found.append((ConditionType.PROGRESS_RECENT, judge_progress(case, verdict)))
    now = render_time(case.now)
    return merge_conditions(case.before.conditions, [_build(kind, part, generation, now) for kind, part in found])


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
    """`after`, with the transition time of `before` wherever the status did not change."""
    known = {condition.type: condition for condition in before}
    merged = []
    for condition in after:
        old = known.get(condition.type)
        if old is not None and old.status == condition.status:
            condition = condition.model_copy(update={"last_transition_time": old.last_transition_time})
        merged.append(condition)
    return merged


def judge_checkpoint(case: Case, verdict: Verdict, note: str = "") -> Verdict:
    claim = case.world.claim
    if verdict.reason in _CHECKPOINT_REASONS:
        return no(verdict.reason, verdict.message)
    if claim is None:
        return pending(Reason.NOT_STARTED, "There is no claim yet.")
    if claim.phase == "Bound":
        shared = f" {SHARED}" if claim.shared else ""
        return yes(Reason.CHECKPOINT_BOUND, f"Claim {claim.name} is bound to a volume.{shared}{note and ' ' + note}")
    return pending(Reason.CHECKPOINT_PENDING, f"Claim {claim.name} waits for its volume.")


def judge_driver(case: Case, verdict: Verdict) -> Verdict:
    pod = case.world.pod
    if pod is None:
        stopped = verdict.reason if verdict.status is not ConditionStatus.TRUE or verdict.reason in _AT_REST else Reason.NOT_STARTED
        return no(stopped, "There is no driver at the moment; the condition Ready says why.")
    if pod.deleting:
        return pending(
            Reason.SUSPENDING if isinstance(case.decision, decide.Stop) else Reason.RESTARTING, f"Pod {pod.name} is being stopped."
        )
    if pod.started_at is not None:
        return yes(Reason.RUNNING, f"The driver runs in pod {pod.name}.")
    if verdict.status is ConditionStatus.FALSE:
        return no(verdict.reason, verdict.message)
    return pending(Reason.STARTING, f"Pod {pod.name} is on its way.")


def judge_progress(case: Case, verdict: Verdict) -> Verdict:
    answer, pod = case.world.answer, case.world.pod
    if not isinstance(answer, DriverStatus) or pod is None or pod.started_at is None or case.running_spec is None:
        return pending(Reason.NOT_STARTED, "There is no running driver that could be asked.")
    if answer.blocked_by is not None:
        return no(answer.blocked_by.reason, answer.blocked_by.message)
    still_since = find_still_since(answer, pod.started_at)
    if still_since is not None and case.now - still_since > allowed_stillness(case.running_spec):
        return no(Reason.NO_PROGRESS, verdict.message if verdict.reason is Reason.NO_PROGRESS else EXPLANATIONS[Reason.NO_PROGRESS].meaning)
    if not answer.committed_in_this_run and still_since is not None:
        return pending(Reason.STARTING, "The driver works on its first batch.")
    return yes(Reason.PROGRESS_RECENT, EXPLANATIONS[Reason.PROGRESS_RECENT].meaning)
