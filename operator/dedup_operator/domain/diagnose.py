"""Why a job is ready or not: rules in order of weight, the first that applies speaks.

False beats Unknown, and a cause beats its consequence: a claim that waits for its first consumer is no trouble while the pod
itself cannot be scheduled. Messages hold no counters, so that a job at rest causes no writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dedup_api.driver_status import DriverStatus, Phase
from dedup_api.durations import parse_duration
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import Condition, ConditionStatus, ConditionType, DedupJobStatus
from dedup_operator.domain import decide
from dedup_operator.domain.manifests.pod import STARTUP_SECONDS
from dedup_operator.domain.observe.pod import CONTAINER_PROBLEMS, MESSAGE_LENGTH, DriverPod, Silence
from dedup_operator.domain.observe.state import World
from dedup_operator.domain.observe.workload import Kind
from dedup_operator.domain.status import merge_exits
from dedup_operator.domain.times import parse_time

SCHEDULING_GRACE = timedelta(seconds=15)
"""A fresh pod is unschedulable for a moment while its volume is being made."""
PROVISIONING_GRACE = timedelta(seconds=90)
"""Cloud disks take up to a minute."""
MOUNT_GRACE = timedelta(seconds=90)
"""Attaching a volume to another node takes about a minute; kubelet reports the failures that heal by themselves too."""
SILENCE_GRACE = timedelta(seconds=60)
"""A long garbage collection or a busy node; kubelet's own probe restarts a driver that stays silent."""
STARTUP_GRACE = timedelta(seconds=STARTUP_SECONDS)
STILLNESS_MINIMUM = timedelta(minutes=10)
STILLNESS_TRIGGERS = 20
"""A batch may be long, the more so the longer the trigger is."""
SETTLED_AFTER = timedelta(seconds=60)
"""A restarted driver that has run this long on a quiet topic has recovered."""
CRASH_LOOP = 2
"""Exits within `CRASH_WINDOW`; a single one is reported as a restart."""
CRASH_WINDOW = timedelta(minutes=15)
"""kubelet's longest pause is five minutes, so a loop shows at least two exits in this time."""


STALLING = {Reason.INVALID_SPEC, Reason.CHANGE_BLOCKED, Reason.CHECKPOINT_TAKEN, Reason.CHECKPOINT_LOST}
"""A person must change the spec, or what became of the checkpoint."""


@dataclass(frozen=True)
class Verdict:
    status: ConditionStatus
    reason: Reason
    message: str
    stalled: bool = False
    """Nothing will happen until a person changes something."""

    @property
    def reconciling(self) -> bool:
        return self.status is ConditionStatus.UNKNOWN and not self.stalled


@dataclass(frozen=True)
class Case:
    """All that a rule may look at."""

    spec: DedupJobSpec | None
    name: str
    decision: decide.Decision
    world: World
    before: DedupJobStatus
    now: datetime

    @property
    def ready_before(self) -> Condition | None:
        return next((condition for condition in self.before.conditions if condition.type == ConditionType.READY), None)

    @property
    def running_spec(self) -> DedupJobSpec | None:
        """What the driver was given; an edit that is refused is none of its concern."""
        workload = self.world.workload
        return workload.applied if workload is not None and workload.applied is not None else self.spec

    def age_of(self, pod: DriverPod) -> timedelta:
        return self.now - pod.created_at


def no(reason: Reason, message: str, *, stalled: bool = False) -> Verdict:
    return Verdict(ConditionStatus.FALSE, reason, message[:MESSAGE_LENGTH], stalled)


def yes(reason: Reason, message: str) -> Verdict:
    return Verdict(ConditionStatus.TRUE, reason, message[:MESSAGE_LENGTH])


def pending(reason: Reason, message: str) -> Verdict:
    return Verdict(ConditionStatus.UNKNOWN, reason, message[:MESSAGE_LENGTH])


def with_remedy(reason: Reason, detail: str) -> str:
    """The detail as it was said, then what to do. The remedy is never cut off."""
    remedy = EXPLANATIONS[reason].remedy
    detail = detail.strip()[: MESSAGE_LENGTH - len(remedy) - 2]
    if detail and detail[-1] not in ".!?":
        detail += "."
    return f"{detail} {remedy}".strip()


def trouble(reason: Reason, detail: str, *, stalled: bool = False) -> Verdict:
    return no(reason, with_remedy(reason, detail), stalled=stalled)


def diagnose(case: Case) -> Verdict:
    for rule in RULES:
        verdict = rule(case)
        if verdict is not None:
            return verdict
    return yes(Reason.RUNNING, "Batches commit, or the topic is quiet and the driver is healthy.")


def diagnose_decision(case: Case) -> Verdict | None:
    """What was decided, where that says it all."""
    match case.decision:
        case decide.Refuse(reason, message):
            return no(reason, message, stalled=reason in STALLING)
        case decide.GiveUp(why):
            return trouble(why.reason, why.message, stalled=True)
        case decide.Rest():
            return yes(Reason.SUSPENDED, "spec.suspend is true and the driver has stopped; set it to false to go on.")
        case decide.Stop():
            return pending(Reason.SUSPENDING, "spec.suspend is true and the driver is finishing the batch it is in.")
        case decide.Roll(message):
            return pending(Reason.RESTARTING, message)
        case decide.Wait(reason, message):
            return pending(reason, message)
        case decide.Remove():
            return pending(Reason.RESTARTING, "What ran the driver before is being removed.")
        case decide.Start(first):
            reason = Reason.STARTING if first else Reason.RESTARTING
            return pending(reason, "The driver is being started.")
    return None


def diagnose_rest(case: Case) -> Verdict | None:
    """Between the runs of a driver that does not run all the time."""
    workload = case.world.workload
    if case.world.pod is not None or workload is None:
        return None
    if workload.completed:
        return yes(Reason.COMPLETED, "The driver took what the topic held when it started, and ended.")
    if workload.kind is Kind.CRON_JOB and not workload.runs:
        return yes(Reason.SCHEDULED, "The next run begins when spec.trigger.availableNow.schedule says, in UTC.")
    return None


def diagnose_absence(case: Case) -> Verdict | None:
    if case.world.pod is not None:
        return None
    if case.world.rejection is not None:
        return trouble(Reason.POD_REJECTED, case.world.rejection)
    return pending(_on_the_way(case), "The driver's pod is being made.")


def _on_the_way(case: Case) -> Reason:
    """Starting for the first run, Restarting for all later ones."""
    answer = case.world.answer
    counts = [case.before.progress, answer.progress if isinstance(answer, DriverStatus) else None]
    ran = any(progress is not None and progress.batch is not None for progress in counts)
    restarted = case.world.pod is not None and case.world.pod.restarts > 0
    return Reason.RESTARTING if ran or restarted else Reason.STARTING


def diagnose_deletion(case: Case) -> Verdict | None:
    pod = case.world.pod
    if pod is None or not pod.deleting:
        return None
    return pending(Reason.RESTARTING, f"Pod {pod.name} is being stopped; the driver starts again when it is gone.")


_ABOUT_VOLUMES = ("persistentvolumeclaim", "storageclass", "volume")
_SCHEDULING_ELSEWHERE = ("Insufficient", "taint", "didn't match", "no nodes available", "affinity")


def diagnose_claim(case: Case) -> Verdict | None:
    """Trouble with the volume, where that is what the pod waits for."""
    pod, claim = case.world.pod, case.world.claim
    if pod is None or pod.scheduled or claim is None or claim.phase == "Bound" or case.age_of(pod) < SCHEDULING_GRACE:
        return None
    scheduler = pod.unschedulable or ""
    if any(word in scheduler for word in _SCHEDULING_ELSEWHERE):
        return None
    blamed = any(word in scheduler.lower() for word in _ABOUT_VOLUMES)
    slow = case.age_of(pod) > PROVISIONING_GRACE
    if case.world.claim_trouble is None and not (blamed and slow):
        return None
    detail = case.world.claim_trouble or scheduler
    return trouble(Reason.CHECKPOINT_PENDING, f"Claim {claim.name} is not bound: {detail}")


def diagnose_scheduling(case: Case) -> Verdict | None:
    pod = case.world.pod
    if pod is None or pod.scheduled:
        return None
    claim = case.world.claim
    volume = claim is not None and claim.phase != "Bound"
    elsewhere = any(word in (pod.unschedulable or "") for word in _SCHEDULING_ELSEWHERE)
    if pod.unschedulable is not None and case.age_of(pod) >= SCHEDULING_GRACE and (elsewhere or not volume):
        return trouble(Reason.UNSCHEDULABLE, pod.unschedulable)
    return pending(_on_the_way(case), "The driver's pod waits for a node and its volume.")


def diagnose_image(case: Case) -> Verdict | None:
    pod, workload = case.world.pod, case.world.workload
    if pod is None or not pod.image_problem:
        return None
    image = workload.image if workload else ""
    return trouble(Reason.IMAGE_UNAVAILABLE, f"{image}: {pod.waiting_message or pod.waiting}")


def diagnose_container(case: Case) -> Verdict | None:
    """The container has not come to life, for another reason than its image."""
    pod = case.world.pod
    if pod is None or pod.started_at is not None:
        return None
    if pod.waiting in CONTAINER_PROBLEMS:
        return trouble(Reason.POD_REJECTED, f"kubelet cannot start the container: {pod.waiting_message or pod.waiting}")
    if pod.exits:
        return None
    if case.world.mount_trouble is not None and case.age_of(pod) > MOUNT_GRACE:
        return trouble(Reason.CHECKPOINT_PENDING, case.world.mount_trouble)
    return pending(_on_the_way(case), "The node prepares the driver's container.")


def diagnose_crashes(case: Case) -> Verdict | None:
    pod = case.world.pod
    if pod is None or not pod.exits or _has_recovered(case):
        return None
    if _count_recent_exits(case) < CRASH_LOOP:
        return pending(Reason.RESTARTING, "The driver ended and is started again.")
    return trouble(Reason(pod.exits[0].reason), pod.exits[0].message)


def _count_recent_exits(case: Case) -> int:
    known = case.before.driver.last_exits if case.before.driver else []
    exits = merge_exits(known, case.world.pod.exits if case.world.pod else ())
    crashes = (exit for exit in exits if exit.reason != Reason.GRACE_PERIOD_EXCEEDED)  # that one was asked to stop
    return sum(case.now - parse_time(exit.finished_at) < CRASH_WINDOW for exit in crashes)


def _has_recovered(case: Case) -> bool:
    """This run does better than the last: it is at work. After several exits it must also have been up for a while."""
    pod, answer = case.world.pod, case.world.answer
    if pod is None or pod.started_at is None or not isinstance(answer, DriverStatus):
        return False
    if answer.blocked_by is not None:
        return True
    settled = case.now - pod.started_at > SETTLED_AFTER
    if _count_recent_exits(case) >= CRASH_LOOP or not answer.committed_in_this_run:
        return settled and (answer.committed_in_this_run or answer.phase is Phase.RUNNING)
    return True


def diagnose_silence(case: Case) -> Verdict | None:
    pod, answer = case.world.pod, case.world.answer
    if pod is None or isinstance(answer, DriverStatus):
        return None
    if isinstance(answer, Silence) and case.now - answer.since > SILENCE_GRACE and _should_answer(case, pod):
        return trouble(Reason.NO_PROGRESS, f"The driver does not answer the operator: {answer.message}")
    return _stay_ready(case) or pending(_on_the_way(case), "The driver starts.")


def _should_answer(case: Case, pod: DriverPod) -> bool:
    """kubelet has seen it answer, or it has had the time that its startup probe gives it."""
    return pod.ready or (pod.started_at is not None and case.now - pod.started_at > STARTUP_GRACE)


def diagnose_block(case: Case) -> Verdict | None:
    answer = case.world.answer
    if not isinstance(answer, DriverStatus) or answer.blocked_by is None:
        return None
    return no(answer.blocked_by.reason, with_remedy(answer.blocked_by.reason, answer.blocked_by.message))


def diagnose_stillness(case: Case) -> Verdict | None:
    answer, pod = case.world.answer, case.world.pod
    if not isinstance(answer, DriverStatus) or pod is None or pod.started_at is None or case.running_spec is None:
        return None
    still_since = find_still_since(answer, pod.started_at)
    if still_since is None or case.now - still_since <= allowed_stillness(case.running_spec):
        return None
    return trouble(Reason.NO_PROGRESS, f"No batch has committed since {still_since:%Y-%m-%d %H:%M} UTC.")


def allowed_stillness(spec: DedupJobSpec) -> timedelta:
    return max(STILLNESS_MINIMUM, STILLNESS_TRIGGERS * parse_duration(spec.trigger.processing_time or "0s"))


def find_still_since(answer: DriverStatus, started_at: datetime) -> datetime | None:
    """Since when a driver with work to do has committed nothing; None while it has nothing to do."""
    if answer.batch_running_since is not None:
        return parse_time(answer.batch_running_since)
    return max(parse_time(answer.pending_since), started_at) if answer.pending_since is not None else None


def diagnose_first_batch(case: Case) -> Verdict | None:
    """Between the start of the process and its first commit, unless there is nothing to commit."""
    answer, pod = case.world.answer, case.world.pod
    if not isinstance(answer, DriverStatus) or pod is None or answer.committed_in_this_run:
        return None
    idle = answer.phase is Phase.RUNNING and pod.ready and answer.batch_running_since is None and not answer.progress.lag_records
    if idle or (answer.phase is Phase.RUNNING and _stay_ready(case)):
        return None
    return pending(_on_the_way(case), "The driver is on its way to its first batch.")


def _stay_ready(case: Case) -> Verdict | None:
    """A job that was ready in this run of the driver stays so until something is wrong."""
    ready, pod = case.ready_before, case.world.pod
    if ready is None or pod is None or pod.started_at is None or ready.reason != Reason.RUNNING:
        return None
    in_this_run = parse_time(ready.last_transition_time) >= pod.started_at
    return yes(Reason.RUNNING, ready.message) if in_this_run and ready.status is ConditionStatus.TRUE else None


RULES: tuple[Callable[[Case], Verdict | None], ...] = (
    diagnose_decision,
    diagnose_rest,
    diagnose_absence,
    diagnose_deletion,
    diagnose_claim,
    diagnose_scheduling,
    diagnose_image,
    diagnose_container,
    diagnose_crashes,
    diagnose_silence,
    diagnose_block,
    diagnose_stillness,
    diagnose_first_batch,
)
