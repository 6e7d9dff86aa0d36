"""What to do about a job: one decision from what is wanted and what is there.

The rules stand in order of weight; the first that applies decides. Each is a small function that returns a decision or None.
Two laws hold over all of them: nothing starts or changes its template beside a pod that may still live, and an edit that
cannot be acted on leaves a running driver alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dedup_api import names
from dedup_api.changes import list_state_changes
from dedup_api.driver_status import DriverStatus
from dedup_api.reasons import Reason
from dedup_operator.domain.build import Children
from dedup_operator.domain.errors import ApiRefused, NameTaken
from dedup_operator.domain.inputs import DriverInputs, build_inputs, list_input_changes
from dedup_operator.domain.marks import CHECKPOINT_CONFIG, GivenUp
from dedup_operator.domain.observe import World
from dedup_operator.domain.observe_pod import is_permanent
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


Decision = Start | Keep | Roll | Stop | Rest | Wait | Refuse | GiveUp


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
    image = children.stateful_set["spec"]["template"]["spec"]["containers"][0]["image"]
    question = Question(job, world, desired, image, children.config_map["metadata"]["name"])
    for rule in RULES:
        decision = rule(question)
        if decision is not None:
            return decide_resume(world, decision) if isinstance(decision, Refuse) else decision
    return Keep()


def decide_resume(world: World, refusal: Refuse) -> Refuse:
    """An edit that cannot be acted on never stops a healthy driver, also not when it comes while the driver restarts."""
    restarting = world.set is not None and world.set.rolling and world.set.replicas == 0 and world.pod is None
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
    if not question.world.leaving:
        return None
    return Wait(Reason.STARTING, f"{' and '.join(question.world.leaving)} of an earlier DedupJob of this name is being removed.")


def decide_checkpoint(question: Question) -> Decision | None:
    """A checkpoint that is gone is never begun anew in silence: all its events would come out a second time."""
    claim, name = question.world.claim, names.claim_name(question.job.name)
    stop = question.job.spec.suspend
    if claim is None and (question.world.set is not None or question.world.claim_known):
        return Refuse(Reason.CHECKPOINT_LOST, f"Claim {name} is gone. {_ANEW}", stop)
    if claim is not None and claim.phase == "Lost":
        return Refuse(Reason.CHECKPOINT_LOST, f"The volume of claim {name} is gone. {_ANEW}", stop)
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
            Reason.CHANGE_BLOCKED, f"Annotation {CHECKPOINT_CONFIG} of the claim cannot be read. {_UNKNOWN}", question.job.spec.suspend
        )
    fields = list_state_changes(claim.config, question.desired.config)
    if not fields:
        return None
    runs = question.world.pod is not None and question.world.pod.started_at is not None
    driver = "The driver goes on with the settings it had. " if runs else ""
    return Refuse(
        Reason.CHANGE_BLOCKED,
        f"The checkpoint in claim {names.claim_name(question.job.name)} was made with another {', '.join(fields)}, and its keys do not "
        f"fit. {driver}Take the edit back, or make a new DedupJob under another name.",
        stop=question.job.spec.suspend,
    )


def decide_suspend(question: Question) -> Decision | None:
    if not question.job.spec.suspend:
        return None
    world = question.world
    at_rest = world.pod is None and (world.set is None or world.set.replicas == 0)
    return Rest() if at_rest else Stop()


def decide_first_start(question: Question) -> Decision | None:
    if question.world.set is not None:
        return None
    if question.world.pod is not None:
        return Wait(Reason.STARTING, f"Pod {question.world.pod.name} must go first.")
    return Start(first=True)


def decide_roll(question: Question) -> Decision | None:
    """Settings of a running driver that are no longer those of the spec."""
    driver_set = question.world.set
    if driver_set is None or driver_set.replicas == 0:
        return None
    changes = _list_changes(question)
    if changes:
        return Roll(f"The driver restarts after the batch it is in, for {', '.join(changes)}.")
    pod = question.world.pod
    if pod is not None and pod.image_problem and driver_set.image != question.image:
        return Roll(f"The driver's image cannot be had; it is started with {question.image}.")
    return None


def _list_changes(question: Question) -> list[str]:
    driver_set = question.world.set
    if driver_set is None:
        return []
    if driver_set.applied is None:
        return ["settings that are no longer recorded"]
    job = question.job
    applied = build_inputs(job.namespace, job.name, driver_set.applied, question.world.pinned)
    changes = list_input_changes(applied, question.desired)
    lost = driver_set.config_map not in (*question.world.config_maps, question.config_map)
    return changes or (["a ConfigMap that is gone"] if lost else [])


def decide_giving_up(question: Question) -> Decision | None:
    driver_set, pod, job = question.world.set, question.world.pod, question.job
    if driver_set is None:
        return None
    if driver_set.given_up is not None and driver_set.given_up.generation == job.generation:
        return GiveUp(driver_set.given_up)
    if driver_set.replicas == 0 or pod is None or not pod.exits or not is_permanent(pod.exits[0]) or _is_at_work(question.world):
        return None
    last = pod.exits[0]
    return GiveUp(GivenUp(job.generation, Reason(last.reason), last.message))


def _is_at_work(world: World) -> bool:
    """What made the last run end has been put right, before the operator saw it: a driver at work is never stopped for the past."""
    return isinstance(world.answer, DriverStatus) and world.answer.committed_in_this_run


def decide_next_start(question: Question) -> Decision | None:
    """After a roll, a suspension or a correction: only when the pod is really gone."""
    driver_set, pod = question.world.set, question.world.pod
    if driver_set is None or driver_set.replicas > 0:
        return None
    if pod is not None:
        return Wait(Reason.RESTARTING, f"Pod {pod.name} finishes the batch it is in; the driver starts again when it is gone.")
    return Start(first=False)


RULES: tuple[Callable[[Question], Decision | None], ...] = (
    decide_foreign,
    decide_leaving,
    decide_checkpoint,
    decide_change,
    decide_suspend,
    decide_first_start,
    decide_roll,
    decide_giving_up,
    decide_next_start,
)


def explain_refusal(error: ApiRefused | NameTaken) -> Refuse:
    """The decision that a refused write leaves: it is tried again in every round."""
    if isinstance(error, NameTaken):
        return Refuse(Reason.NAME_CONFLICT, f"{error} exists and does not belong to this DedupJob. Rename the DedupJob, or remove it.")
    of_claim = error.kind == "PersistentVolumeClaim"
    reason = Reason.CHECKPOINT_PENDING if of_claim else Reason.POD_REJECTED
    return Refuse(reason, f"The API server refuses the driver's {error.kind or 'objects'}: {error}")
