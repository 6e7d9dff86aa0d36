"""What to do about a job: one decision from what is wanted and what is there.

The rules stand in order of weight; the first that applies decides. Each is a small function that returns a decision or None.
Two laws hold over all of them: nothing starts or changes its template beside a pod that may still live, and an edit that
cannot be acted on leaves a running driver alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dedup_api.changes import list_state_changes
from dedup_api.driver_status import DriverStatus
from dedup_api.reasons import Reason
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG, GivenUp
from dedup_operator.domain.decision import (
    Decision,
    DecisionInput,
    GiveUp,
    Keep,
    Refuse,
    RemoveWorkload,
    RepairDrift,
    ScaleDownForRestart,
    Start,
    Suspend,
    Suspended,
    UpdateSchedule,
    Wait,
)
from dedup_operator.domain.driver_objects import Kind, choose_kind, find_claim_name, find_image
from dedup_operator.domain.driver_settings import DriverSettings, build_driver_settings, list_settings_changes
from dedup_operator.domain.errors import ApiRefused, CheckpointTaken, NameTaken
from dedup_operator.domain.manifests import Children
from dedup_operator.domain.observe.pod import is_permanent
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Workload
from dedup_operator.domain.validate import Invalid, ValidJob


def decide(job: ValidJob | Invalid, observed: ObservedState, desired: DriverSettings | None, children: Children | None) -> Decision:
    """`desired` and `children` are absent only where the job is invalid."""
    if isinstance(job, Invalid) or desired is None or children is None:
        message = job.message if isinstance(job, Invalid) else ""
        return resume_interrupted_restart(observed, Refuse(Reason.INVALID_SPEC, message, stop=isinstance(job, Invalid) and job.suspend))
    given = DecisionInput(
        job=job,
        observed=observed,
        desired=desired,
        image=find_image(children.workload),
        config_map=children.config_map["metadata"]["name"],
    )
    for rule in RULES:
        decision = rule(given)
        if decision is not None:
            return resume_interrupted_restart(observed, decision) if isinstance(decision, Refuse) else decision
    return Keep()


def resume_interrupted_restart(observed: ObservedState, refusal: Refuse) -> Refuse:
    """An edit that cannot be acted on never stops a healthy driver, also not when it comes while the driver restarts."""
    workload = observed.workload
    restarting = workload is not None and workload.restarting and workload.replicas == 0 and not workload.ended and observed.pod is None
    of_the_edit = refusal.reason in {Reason.INVALID_SPEC, Reason.CHANGE_BLOCKED}
    return replace(refusal, resume=restarting and of_the_edit and not refusal.stop)


def refuse_conflicting_objects(given: DecisionInput) -> Decision | None:
    if not given.observed.conflicting_objects:
        return None
    things = " and ".join(given.observed.conflicting_objects)
    return Refuse(
        Reason.NAME_CONFLICT,
        f"{things} exists and does not belong to this DedupJob. Rename the DedupJob, or remove it if nobody needs it.",
        stop=given.job.spec.suspend,
    )


def wait_for_deletion(given: DecisionInput) -> Decision | None:
    workload, observed, suspend = given.observed.workload, given.observed, given.job.spec.suspend
    if workload is not None and workload.replicas > 0:
        return None  # what goes while a driver of ours runs is no concern of it
    if observed.orphaned_pods:
        return Refuse(Reason.NAME_CONFLICT, f"{' and '.join(observed.orphaned_pods)} {_STRAY}", stop=suspend)
    reason = Reason.SUSPENDING if suspend else Reason.STARTING
    return Wait(reason, f"{' and '.join(observed.terminating)} of an earlier start is being removed.") if observed.terminating else None


_STRAY = "bears this job's label and has no owner, so it may be a driver that nobody ends. Delete it; the driver starts when it is gone."


def remove_surplus_workload(given: DecisionInput) -> Decision | None:
    """Left by a start that was cut off, or put back by somebody: two of them would make two drivers."""
    spare = given.observed.surplus_workload
    return RemoveWorkload(spare) if spare is not None else None


def refuse_taken_checkpoint(given: DecisionInput) -> Decision | None:
    existing, holder = given.job.spec.checkpoint.existing, given.observed.checkpoint_owner
    if existing is None or holder is None:
        return None
    return Refuse(Reason.CHECKPOINT_TAKEN, _explain_taken(holder), stop=given.job.spec.suspend)


def _explain_taken(holder: str) -> str:
    return f"The folder of spec.checkpoint.existing is the checkpoint of {holder}. Make a new DedupJob with another subPath."


def refuse_lost_checkpoint(given: DecisionInput) -> Decision | None:
    """A checkpoint that is gone is never begun anew in silence: all its events would come out a second time."""
    claim, checkpoint = given.observed.claim, given.job.spec.checkpoint
    name, stop = find_claim_name(given.job.name, checkpoint), given.job.spec.suspend
    if claim is None and checkpoint.existing is not None and given.observed.workload is None and not given.observed.claim_was_recorded:
        if stop:
            return None  # nothing is to start
        return Refuse(Reason.CHECKPOINT_PENDING, f"Claim {name} does not exist. Create it, or correct spec.checkpoint.existing.claimName.")
    if claim is None and (given.observed.workload is not None or given.observed.claim_was_recorded):
        return Refuse(Reason.CHECKPOINT_LOST, f"Claim {name} is gone. {_ANEW}", stop)
    if claim is not None and claim.phase == "Lost":
        return Refuse(Reason.CHECKPOINT_LOST, f"The volume of claim {name} is gone. {_ANEW}", stop)
    if claim is not None and claim.recreated and claim.may_hold_keys:
        record = claim.record["metadata"]["name"] if claim.record else ""
        gone = f"Claim {name} was deleted and made again, and the keys went with the old one."
        return Refuse(Reason.CHECKPOINT_LOST, f"{gone} {_ANEW.replace('the claim', f'ConfigMap {record}')}", stop)
    if claim is not None and claim.deleting:
        return Refuse(Reason.CHECKPOINT_LOST, f"Claim {name} is being deleted and goes when the driver stops. {_ANEW}", stop)
    return None


_UNKNOWN = "Restore it, or make a new DedupJob under another name: a checkpoint is never continued with settings that may not fit."
_ANEW = "To begin anew, and accept duplicates of what was processed before, delete the claim and the DedupJob and apply it again."


def block_incompatible_change(given: DecisionInput) -> Decision | None:
    claim = given.observed.claim
    if claim is None or not claim.may_hold_keys:
        return None
    if claim.config is None:
        return Refuse(
            Reason.CHANGE_BLOCKED, f"Annotation {CHECKPOINT_CONFIG} of the checkpoint cannot be read. {_UNKNOWN}", given.job.spec.suspend
        )
    fields = list_state_changes(claim.config, given.desired.config)
    if not fields:
        return None
    runs = given.observed.pod is not None and given.observed.pod.started_at is not None
    driver = "The driver goes on with the settings it had. " if runs else ""
    return Refuse(
        Reason.CHANGE_BLOCKED,
        f"The checkpoint in claim {claim.name} was made with another {', '.join(fields)}, and its keys do not "
        f"fit. {driver}Take the edit back, or make a new DedupJob under another name.",
        stop=given.job.spec.suspend,
    )


def suspend_driver(given: DecisionInput) -> Decision | None:
    if not given.job.spec.suspend:
        return None
    observed = given.observed
    workload = observed.workload
    at_rest = observed.pod is None and (workload is None or workload.replicas == 0 or workload.ended) and not (workload and workload.runs)
    return Suspended() if at_rest else Suspend()


def start_first_driver(given: DecisionInput) -> Decision | None:
    if given.observed.workload is not None:
        return None
    if given.observed.pod is not None:
        return Wait(Reason.STARTING, f"Pod {given.observed.pod.name} must go first.")
    return Start(first=True)


def update_schedule(given: DecisionInput) -> Decision | None:
    """A schedule takes other settings at once: they are for the next run."""
    workload, observed = given.observed.workload, given.observed
    if workload is None or workload.replicas == 0 or {workload.kind, choose_kind(given.job.spec)} != {Kind.CRON_JOB}:
        return None
    changes, new_image = _list_changes(given), workload.image != given.image
    if not changes and not new_image:
        hopeless = any(run.outdated and not run.deleting for run in workload.runs) and _run_cannot_succeed(observed)
        message = "The run cannot succeed with settings of before, and makes room for the next."
        return UpdateSchedule(message, stop_run=True, settings=False) if hopeless else None
    nonce = workload.applied is not None and workload.applied.restart_nonce != given.job.spec.restart_nonce
    stuck = _run_cannot_start(observed) if changes else observed.pod is not None and observed.pod.image_problem
    return UpdateSchedule(f"The next run has other settings, for {', '.join(changes) or 'a new job image'}.", stop_run=nonce or stuck)


def _run_cannot_succeed(observed: ObservedState) -> bool:
    """A run that cannot succeed as it is. What passes by itself is waited for: a run that is stopped is made up for only by the next."""
    pod = observed.pod
    if pod is None or pod.started_at is not None:
        return False
    return pod.image_problem or (bool(pod.exits) and is_permanent(pod.exits[0]))


def _run_cannot_start(observed: ObservedState) -> bool:
    """A run that gets nowhere with the settings it has. One that only starts is none: it would not be made up for."""
    pod = observed.pod
    if pod is None or pod.started_at is not None:
        return False
    return pod.image_problem or pod.unschedulable is not None or bool(pod.exits)


def restart_for_new_settings(given: DecisionInput) -> Decision | None:
    """Settings of a running driver that are no longer those of the spec."""
    workload = given.observed.workload
    if workload is None or workload.replicas == 0 or workload.ended:
        return None
    changes = _list_changes(given)
    if changes:
        return ScaleDownForRestart(f"The driver restarts after the batch it is in, for {', '.join(changes)}.")
    pod = given.observed.pod
    if pod is not None and pod.image_problem and workload.image != given.image:
        return ScaleDownForRestart(f"The driver's image cannot be had; it is started with {given.image}.")
    return None


def repair_drift(given: DecisionInput) -> Decision | None:
    workload = given.observed.workload
    if workload is None or not workload.drifted or workload.replicas == 0 or workload.kind is Kind.JOB:
        return None  # a Job's template cannot be changed
    return RepairDrift()


def _list_changes(given: DecisionInput) -> list[str]:
    workload = given.observed.workload
    if workload is None:
        return []
    if workload.applied is None:
        return ["settings that are no longer recorded"]
    job = given.job
    applied = build_driver_settings(job.namespace, job.name, workload.applied, given.observed.pinned_config)
    changes = list_settings_changes(applied, given.desired)
    lost = not workload.ended and workload.config_map not in (*given.observed.config_maps, given.config_map)
    return changes or (["a ConfigMap that is gone"] if lost else [])


def give_up_permanent_failure(given: DecisionInput) -> Decision | None:
    workload, pod, job = given.observed.workload, given.observed.pod, given.job
    if workload is None or workload.ended or any(run.outdated for run in workload.runs):
        return None
    if workload.given_up is not None and workload.given_up.generation == job.generation:
        return GiveUp(workload.given_up)
    if workload.replicas == 0 or pod is None or not pod.exits or not is_permanent(pod.exits[0]) or _driver_makes_progress(given.observed):
        return None
    last = pod.exits[0]
    return GiveUp(GivenUp(job.generation, Reason(last.reason), last.message, last))


def _driver_makes_progress(observed: ObservedState) -> bool:
    """What made the last run end has been put right, before the operator saw it: a driver at work is never stopped for the past."""
    return isinstance(observed.driver_status, DriverStatus) and observed.driver_status.committed_in_this_run


def start_next_driver(given: DecisionInput) -> Decision | None:
    """After a roll, a suspension or a correction: only when the pod is really gone."""
    workload, pod = given.observed.workload, given.observed.pod
    if workload is None or (workload.replicas > 0 and not _run_must_be_recreated(given, workload)):
        return None
    if any(not run.deleting for run in workload.runs):
        return ScaleDownForRestart("The run that goes on stops after the batch it is in.")
    if pod is not None or workload.runs:
        who = f"Pod {pod.name}" if pod is not None else f"Job {workload.runs[0].name}"
        return Wait(Reason.RESTARTING, f"{who} finishes the batch it is in; the driver starts again when it is gone.")
    if not workload.observed_by_controller:
        return Wait(Reason.RESTARTING, "The StatefulSet controller has not seen yet that there is to be no pod.")
    if workload.kind is Kind.JOB or workload.kind is not choose_kind(given.job.spec):
        return RemoveWorkload(workload)
    return Start(first=False)


def _run_must_be_recreated(given: DecisionInput, workload: Workload) -> bool:
    """A run that has failed for good, or one that is to be run again with other settings."""
    return workload.ended and (not workload.completed or bool(_list_changes(given)))


RULES: tuple[Callable[[DecisionInput], Decision | None], ...] = (
    refuse_conflicting_objects,
    wait_for_deletion,
    remove_surplus_workload,
    refuse_taken_checkpoint,
    refuse_lost_checkpoint,
    block_incompatible_change,
    suspend_driver,
    start_first_driver,
    update_schedule,
    restart_for_new_settings,
    give_up_permanent_failure,
    repair_drift,
    start_next_driver,
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
