"""The verdict on a DedupJob: status, reason and message of a condition, and what `diagnose` judges from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dedup_api.reasons import find_explanation
from dedup_api.spec import DedupJobSpec
from dedup_api.status import Condition, ConditionStatus, ConditionType, DedupJobStatus
from dedup_operator.domain.decision import Decision
from dedup_operator.domain.observe.pod import DriverPod
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.times import parse_time
from dedup_operator.domain.types import MAX_MESSAGE_LENGTH


@dataclass(frozen=True)
class Verdict:
    status: ConditionStatus
    reason: str
    message: str
    stalled: bool = False
    """Nothing will change until a person changes something."""

    @property
    def reconciling(self) -> bool:
        return self.status is ConditionStatus.UNKNOWN and not self.stalled


def build_true(reason: str, message: str) -> Verdict:
    return Verdict(ConditionStatus.TRUE, reason, message[:MAX_MESSAGE_LENGTH])


def build_false(reason: str, message: str, *, stalled: bool = False) -> Verdict:
    return Verdict(ConditionStatus.FALSE, reason, message[:MAX_MESSAGE_LENGTH], stalled)


def build_unknown(reason: str, message: str) -> Verdict:
    return Verdict(ConditionStatus.UNKNOWN, reason, message[:MAX_MESSAGE_LENGTH])


def build_problem(reason: str, detail: str, *, stalled: bool = False) -> Verdict:
    """False, with `detail` and the remedy of the reason as the message."""
    return build_false(reason, with_remedy(reason, detail), stalled=stalled)


def with_remedy(reason: str, detail: str) -> str:
    """`detail`, then the remedy. A long detail is cut, the remedy never."""
    remedy = find_explanation(reason).remedy
    detail = detail.strip()[: MAX_MESSAGE_LENGTH - len(remedy) - 2]
    return f"{end_sentence(detail)} {remedy}".strip()


def end_sentence(text: str) -> str:
    """`text` with a full stop at its end, so that another sentence can follow."""
    return f"{text}." if text and text[-1] not in ".!?" else text


@dataclass(frozen=True)
class ClaimRefusal:
    """A change of the checkpoint's claim that the API server refused. The driver does not need it."""

    message: str
    of_owner: bool = False
    """The refused change is the one that spec.checkpoint.reclaimPolicy asks for."""


@dataclass(frozen=True)
class DiagnosisInput:
    """Everything that a rule of `diagnose` may use."""

    spec: DedupJobSpec | None
    """None when the spec is invalid."""
    decision: Decision
    observed: ObservedState
    before: DedupJobStatus
    """The status as the operator wrote it last."""
    now: datetime
    claim_refusal: ClaimRefusal | None = None

    @property
    def ready_before(self) -> Condition | None:
        return self.find_before(ConditionType.READY)

    def find_before(self, kind: ConditionType) -> Condition | None:
        """The condition as the operator wrote it last."""
        return next((condition for condition in self.before.conditions if condition.type == kind), None)

    def is_of_this_run(self, condition: Condition) -> bool:
        """Whether the condition got its status since the container of the driver started."""
        pod = self.observed.pod
        return pod is not None and pod.started_at is not None and parse_time(condition.last_transition_time) >= pod.started_at

    @property
    def refused_retention(self) -> ClaimRefusal | None:
        """Set while the claim would be deleted together with the DedupJob, although the spec says Retain."""
        refusal, claim = self.claim_refusal, self.observed.claim
        return refusal if refusal is not None and refusal.of_owner and claim is not None and claim.owned else None

    @property
    def running_spec(self) -> DedupJobSpec | None:
        """The spec with which the driver runs. It differs from the present spec when an edit is refused."""
        workload = self.observed.workload
        return workload.applied if workload is not None and workload.applied is not None else self.spec

    def age_of(self, pod: DriverPod) -> timedelta:
        return self.now - pod.created_at
