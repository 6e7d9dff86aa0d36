"""What to do about a job: one decision from what is wanted and what is there.

The rules stand in order of weight; the first that applies decides. Each is a small function that returns a decision or None.
Two laws hold over all of them: nothing starts or changes its template beside a pod that may still live, and an edit that
cannot be acted on leaves a running driver alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dedup_api.changes import list_state_changes
from dedup_api.driver_status import DriverStatus
from dedup_api.reasons import Reason
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG, GivenUp
from dedup_operator.domain.driver_settings import DriverInputs, build_inputs, list_input_changes
from dedup_operator.domain.errors import ApiRefused, CheckpointTaken, NameTaken
from dedup_operator.domain.manifests import Children
from dedup_operator.domain.manifests.claim import find_claim_name
from dedup_operator.domain.observe.pod import is_permanent
from dedup_operator.domain.observe.state import World
from dedup_operator.domain.observe.workload import Kind, Workload, choose_kind, find_image
from dedup_operator.domain.validate import Invalid, ValidJob


@dataclass(frozen=True)
class Start:
    """Make what is missing and run one driver on the template of today."""

    first: bool


@dataclass(frozen=True)
class Keep:
    """The driver is as it should be, or the StatefulSet controller and kubelet are at it."""


@dataclass(frozen=True)
class Roll:
    """Scale to 0; the start follows when the pod is gone."""

    message: str


@dataclass(frozen=True)
class Update:
    """Give a schedule other settings for its next run. A run that does no work is stopped for it, one at work is left to end."""

    message: str
    stop_run: bool
    settings: bool = True
    """False where it has them, and only a run of before is in their way."""


@dataclass(frozen=True)
class Mend:
    """Somebody has changed what makes the pods. It is set right for the next start; the driver that runs is left alone."""


@dataclass(frozen=True)
class Remove:
    """No driver is left, and what ran it cannot run the next: it goes, with all that it made, before anything else is made."""

    workload: Workload


@dataclass(frozen=True)
class Stop:
    """Scale to 0 because of spec.suspend."""


@dataclass(frozen=True)
class Rest:
    """Suspended, and no driver is left."""


@dataclass(frozen=True)
class Wait:
    """Something must go first; there is nothing to write."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Refuse:
    """The spec or the cluster does not allow what is wanted. A running driver goes on, unless `stop`."""

    reason: Reason
    message: str
    stop: bool = False
    resume: bool = False
    """The driver was on its way from valid settings to valid settings: it comes back with those that it had."""


@dataclass(frozen=True)
class GiveUp:
    """Starting again cannot help: no driver until the spec changes."""

    why: GivenUp


Decision = Start | Keep | Roll | Update | Mend | Remove | Stop | Rest | Wait | Refuse | GiveUp


@dataclass(frozen=True)
class Question:
    job: ValidJob
    world: World
    desired: DriverInputs
    image: str
    """The job image that the next start takes."""
    config_map: str
    """The ConfigMap that the next start takes."""


def decide(job: ValidJob | Invalid, world: World, desired: DriverInputs | None, children: Children | None) -> Decision:
    """`desired` and `children` are absent only where the job is invalid."""
    if isinstance(job, Invalid) or desired is None or children is None:
        message = job.message if isinstance(job, Invalid) else ""
        return decide_resume(world, Refuse(Reason.INVALID_SPEC, message, stop=isinstance(job, Invalid) and job.suspend))
    question = Question(job, world, desired, find_image(children.workload), children.config_map["metadata"]["name"])
    for rule in RULES:
        decision = rule(question)
        if decision is not None:
            return decide_resume(world, decision) if isinstance(decision, Refuse) else decision
    return Keep()


def decide_resume(world: World, refusal: Refuse) -> Refuse:
    """An edit that cannot be acted on never stops a healthy driver, also not when it comes while the driver restarts."""
    workload = world.workload
    restarting = workload is not None and workload.rolling and workload.replicas == 0 and not workload.ended and world.pod is None
    of_the_edit = refusal.reason in {Reason.INVALID_SPEC, Reason.CHANGE_BLOCKED}
    return replace(refusal, resume=restarting and of_the_edit and not refusal.stop)


def decide_foreign(question: Question) -> Decision | None:
    if not question.world.foreign:
        return None
    things = " and ".join(question.world.foreign)
    return Refuse(
        Reason.NAME_CONFLICT,
        f"{things} exists and does not belong to this DedupJob. Rename the DedupJob, or remove it if nobody needs it.",
        stop=question.job.spec.suspend,
    )


def decide_leaving(question: Question) -> Decision | None:
    workload, world, suspend = question.world.workload, question.world, question.job.spec.suspend
    if workload is not None and workload.replicas > 0:
        return None  # what goes while a driver of ours runs is no concern of it
    if world.strays:
        return Refuse(Reason.NAME_CONFLICT, f"{' and '.join(world.strays)} {_STRAY}", stop=suspend)
    reason = Reason.SUSPENDING if suspend else Reason.STARTING
    return Wait(reason, f"{' and '.join(world.leaving)} of an earlier start is being removed.") if world.leaving else None


_STRAY = "bears this job's label and has no owner, so it may be a driver that nobody ends. Delete it; the driver starts when it is gone."


def decide_spare(question: Question) -> Decision | None:
    """Left by a start that was cut off, or put back by somebody: two of them would make two drivers."""
    spare = question.world.spare
    return Remove(spare) if spare is not None else None


def decide_holder(question: Question) -> Decision | None:
    existing, holder = question.job.spec.checkpoint.existing, question.world.holder
    if existing is None or holder is None:
        return None
    return Refuse(Reason.CHECKPOINT_TAKEN, _explain_taken(holder), stop=question.job.spec.suspend)


def _explain_taken(holder: str) -> str:
    return f"The folder of spec.checkpoint.existing is the checkpoint of {holder}. Make a new DedupJob with another subPath."


def decide_checkpoint(question: Question) -> Decision | None:
    """A checkpoint that is gone is never begun anew in silence: all its events would come out a second time."""
    claim, checkpoint = question.world.claim, question.job.spec.checkpoint
    name, stop = find_claim_name(question.job.name, checkpoint), question.job.spec.suspend
    if claim is None and checkpoint.existing is not None and question.world.workload is None and not question.world.claim_known:
        if stop:
            return None  # nothing is to start
        return Refuse(Reason.CHECKPOINT_PENDING, f"Claim {name} does not exist. Create it, or correct spec.checkpoint.existing.claimName.")
    if claim is None and (question.world.workload is not None or question.world.claim_known):
        return Refuse(Reason.CHECKPOINT_LOST, f"Claim {name} is gone. {_ANEW}", stop)
    if claim is not None and claim.phase == "Lost":
        return Refuse(Reason.CHECKPOINT_LOST, f"The volume of claim {name} is gone. {_ANEW}", stop)
    if claim is not None and claim.exchanged and claim.may_hold_keys:
        record = claim.record["metadata"]["name"] if claim.record else ""
        gone = f"Claim {name} was deleted and made again, and the keys went with the old one."
        return Refuse(Reason.CHECKPOINT_LOST, f"{gone} {_ANEW.replace('the claim', f'ConfigMap {record}')}", stop)
    if claim is not None and claim.deleting:
        return Refuse(Reason.CHECKPOINT_LOST, f"Claim {name} is being deleted and goes when the driver stops. {_ANEW}", stop)
    return None


_UNKNOWN = "Restore it, or make a new DedupJob under another name: a checkpoint is never continued with settings that may not fit."
_ANEW = "To begin anew, and accept duplicates of what was processed before, delete the claim and the DedupJob and apply it again."


def decide_change(question: Question) -> Decision | None:
    claim = question.world.claim
    if claim is None or not claim.may_hold_keys:
        return None
    if claim.config is None:
        return Refuse(
            Reason.CHANGE_BLOCKED, f"Annotation {CHECKPOINT_CONFIG} of the checkpoint cannot be read. {_UNKNOWN}", question.job.spec.suspend
        )
    fields = list_state_changes(claim.config, question.desired.config)
    if not fields:
        return None
    runs = question.world.pod is not None and question.world.pod.started_at is not None
    driver = "The driver goes on with the settings it had. " if runs else ""
    return Refuse(
        Reason.CHANGE_BLOCKED,
        f"The checkpoint in claim {claim.name} was made with another {', '.join(fields)}, and its keys do not "
        f"fit. {driver}Take the edit back, or make a new DedupJob under another name.",
        stop=question.job.spec.suspend,
    )


def decide_suspend(question: Question) -> Decision | None:
    if not question.job.spec.suspend:
        return None
    world = question.world
    workload = world.workload
    at_rest = world.pod is None and (workload is None or workload.replicas == 0 or workload.ended) and not (workload and workload.runs)
    return Rest() if at_rest else Stop()


def decide_first_start(question: Question) -> Decision | None:
    if question.world.workload is not None:
        return None
    if question.world.pod is not None:
        return Wait(Reason.STARTING, f"Pod {question.world.pod.name} must go first.")
    return Start(first=True)


def decide_update(question: Question) -> Decision | None:
    """A schedule takes other settings at once: they are for the next run."""
    workload, world = question.world.workload, question.world
    if workload is None or workload.replicas == 0 or {workload.kind, choose_kind(question.job.spec)} != {Kind.CRON_JOB}:
        return None
    changes, new_image = _list_changes(question), workload.image != question.image
    if not changes and not new_image:
        hopeless = any(run.outdated and not run.deleting for run in workload.runs) and _is_hopeless(world)
        message = "The run cannot succeed with settings of before, and makes room for the next."
        return Update(message, stop_run=True, settings=False) if hopeless else None
    nonce = workload.applied is not None and workload.applied.restart_nonce != question.job.spec.restart_nonce
    stuck = _is_stuck(world) if changes else world.pod is not None and world.pod.image_problem
    return Update(f"The next run has other settings, for {', '.join(changes) or 'a new job image'}.", stop_run=nonce or stuck)


def _is_hopeless(world: World) -> bool:
    """A run that cannot succeed as it is. What passes by itself is waited for: a run that is stopped is made up for only by the next."""
    pod = world.pod
    if pod is None or pod.started_at is not None:
        return False
    return pod.image_problem or (bool(pod.exits) and is_permanent(pod.exits[0]))


def _is_stuck(world: World) -> bool:
    """A run that gets nowhere with the settings it has. One that only starts is none: it would not be made up for."""
    pod = world.pod
    if pod is None or pod.started_at is not None:
        return False
    return pod.image_problem or pod.unschedulable is not None or bool(pod.exits)


def decide_roll(question: Question) -> Decision | None:
    """Settings of a running driver that are no longer those of the spec."""
    workload = question.world.workload
    if workload is None or workload.replicas == 0 or workload.ended:
        return None
    changes = _list_changes(question)
    if changes:
        return Roll(f"The driver restarts after the batch it is in, for {', '.join(changes)}.")
    pod = question.world.pod
    if pod is not None and pod.image_problem and workload.image != question.image:
        return Roll(f"The driver's image cannot be had; it is started with {question.image}.")
    return None


def decide_drift(question: Question) -> Decision | None:
    workload = question.world.workload
    if workload is None or not workload.drifted or workload.replicas == 0 or workload.kind is Kind.JOB:
        return None  # a Job's template cannot be changed
    return Mend()


def _list_changes(question: Question) -> list[str]:
    workload = question.world.workload
    if workload is None:
        return []
    if workload.applied is None:
        return ["settings that are no longer recorded"]
    job = question.job
    applied = build_inputs(job.namespace, job.name, workload.applied, question.world.pinned)
    changes = list_input_changes(applied, question.desired)
    lost = not workload.ended and workload.config_map not in (*question.world.config_maps, question.config_map)
    return changes or (["a ConfigMap that is gone"] if lost else [])


def decide_giving_up(question: Question) -> Decision | None:
    workload, pod, job = question.world.workload, question.world.pod, question.job
    if workload is None or workload.ended or any(run.outdated for run in workload.runs):
        return None
    if workload.given_up is not None and workload.given_up.generation == job.generation:
        return GiveUp(workload.given_up)
    if workload.replicas == 0 or pod is None or not pod.exits or not is_permanent(pod.exits[0]) or _is_at_work(question.world):
        return None
    last = pod.exits[0]
    return GiveUp(GivenUp(job.generation, Reason(last.reason), last.message, last))


def _is_at_work(world: World) -> bool:
    """What made the last run end has been put right, before the operator saw it: a driver at work is never stopped for the past."""
    return isinstance(world.answer, DriverStatus) and world.answer.committed_in_this_run


def decide_next_start(question: Question) -> Decision | None:
    """After a roll, a suspension or a correction: only when the pod is really gone."""
    workload, pod = question.world.workload, question.world.pod
    if workload is None or (workload.replicas > 0 and not _is_over(question, workload)):
        return None
    if any(not run.deleting for run in workload.runs):
        return Roll("The run that goes on stops after the batch it is in.")
    if pod is not None or workload.runs:
        who = f"Pod {pod.name}" if pod is not None else f"Job {workload.runs[0].name}"
        return Wait(Reason.RESTARTING, f"{who} finishes the batch it is in; the driver starts again when it is gone.")
    if not workload.settled:
        return Wait(Reason.RESTARTING, "The StatefulSet controller has not seen yet that there is to be no pod.")
    if workload.kind is Kind.JOB or workload.kind is not choose_kind(question.job.spec):
        return Remove(workload)
    return Start(first=False)


def _is_over(question: Question, workload: Workload) -> bool:
    """A run that has failed for good, or one that is to be run again with other settings."""
    return workload.ended and (not workload.completed or bool(_list_changes(question)))


RULES: tuple[Callable[[Question], Decision | None], ...] = (
    decide_foreign,
    decide_leaving,
    decide_spare,
    decide_holder,
    decide_checkpoint,
    decide_change,
    decide_suspend,
    decide_first_start,
    decide_update,
    decide_roll,
    decide_giving_up,
    decide_drift,
    decide_next_start,
)


def explain_refusal(error: ApiRefused | NameTaken | CheckpointTaken) -> Refuse:
    """The decision that a refused write leaves: it is tried again in every round."""
    if isinstance(error, CheckpointTaken):
        return Refuse(Reason.CHECKPOINT_TAKEN, _explain_taken(str(error)))
    if isinstance(error, NameTaken):
        return Refuse(Reason.NAME_CONFLICT, f"{error} exists and does not belong to this DedupJob. Rename the DedupJob, or remove it.")
    of_claim = error.kind == "PersistentVolumeClaim"
    reason = Reason.CHECKPOINT_PENDING if of_claim else Reason.POD_REJECTED
    return Refuse(reason, f"The API server refuses the driver's {error.kind or 'objects'}: {error}")
