"""What the operator does about a DedupJob: one decision from the desired state and the observed state.

Each rule is a small function that returns a decision or None. The rules are ordered by priority, and the first rule
that returns a decision wins. Two laws hold for all of them: the operator starts no driver and changes no pod template
while an old pod may still run, and an edit that the operator cannot act on does not disturb a running driver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dedup_api.changes import list_state_changes
from dedup_api.driver_status import DriverStatus, Phase
from dedup_api.reasons import Reason
from dedup_operator.domain.annotations import APPLIED_SPEC, CHECKPOINT_CONFIG, GivenUp
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
from dedup_operator.domain.observe.workload import Workload, list_start_needs
from dedup_operator.domain.validate import Invalid, ValidJob


def decide(job: ValidJob | Invalid, observed: ObservedState, desired: DriverSettings | None, children: Children | None) -> Decision:
    """`desired` and `children` are None only when the spec is invalid."""
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
    """A refused edit never stops a healthy driver.

    If it came during a restart, the driver resumes with its old settings.
    """
    workload = observed.workload
    restarting = workload is not None and workload.restarting and workload.replicas == 0 and not workload.ended and observed.pod is None
    is_about_edit = refusal.reason in {Reason.INVALID_SPEC, Reason.CHANGE_BLOCKED}
    return replace(refusal, resume=restarting and is_about_edit and not refusal.stop)


def refuse_conflicting_objects(given: DecisionInput) -> Decision | None:
    if not given.observed.conflicting_objects:
        return None
    objects = " and ".join(given.observed.conflicting_objects)
    return Refuse(Reason.NAME_CONFLICT, _explain_conflict(objects), stop=given.job.spec.suspend)


def _explain_conflict(objects: str) -> str:
    return (
        f"Another object has a name that the operator needs for this DedupJob: {objects}. "
        "Delete that object if nobody needs it, or create the DedupJob under another name."
    )


def wait_for_deletion(given: DecisionInput) -> Decision | None:
    workload, observed, suspend = given.observed.workload, given.observed, given.job.spec.suspend
    if workload is not None and workload.replicas > 0:
        return None  # a running driver does not depend on what is being deleted beside it
    if observed.orphaned_pods:
        return Refuse(Reason.NAME_CONFLICT, _explain_orphaned(" and ".join(observed.orphaned_pods)), stop=suspend)
    if observed.terminating:
        reason = Reason.SUSPENDING if suspend else Reason.STARTING
        return Wait(reason, f"The operator waits for the deletion of {' and '.join(observed.terminating)} from an earlier start.")
    return None


def _explain_orphaned(pods: str) -> str:
    return (
        f"The operator found {pods} with this DedupJob's label and without an owner. It may be a driver that nothing stops. "
        "Delete it. The operator starts the driver when it is gone."
    )


def remove_surplus_workload(given: DecisionInput) -> Decision | None:
    """An interrupted start left it, or a person restored it. Two workloads would run two drivers."""
    surplus = given.observed.surplus_workload
    return RemoveWorkload(surplus) if surplus is not None else None


def refuse_taken_checkpoint(given: DecisionInput) -> Decision | None:
    existing, owner = given.job.spec.checkpoint.existing, given.observed.checkpoint_owner
    if existing is None or owner is None:
        return None
    return Refuse(Reason.CHECKPOINT_TAKEN, _explain_taken(owner), stop=given.job.spec.suspend)


def _explain_taken(owner: str) -> str:
    return (
        f"The folder in spec.checkpoint.existing belongs to {owner}. Create a new DedupJob with another spec.checkpoint.existing.subPath."
    )


def refuse_lost_checkpoint(given: DecisionInput) -> Decision | None:
    """The operator never replaces a lost checkpoint with an empty
    one, because the driver would emit all old records again."""
    claim, checkpoint = given.observed.claim, given.job.spec.checkpoint
    name, stop = find_claim_name(given.job.name, checkpoint), given.job.spec.suspend
    was_used = given.observed.moved_from is None and (given.observed.workload is not None or given.observed.claim_was_recorded)
    if claim is None and checkpoint.existing is not None and not was_used:
        if stop:
            return None  # a suspended DedupJob needs no claim
        return Refuse(Reason.CHECKPOINT_PENDING, f"Claim {name} does not exist. Create it, or correct spec.checkpoint.existing.claimName.")
    if claim is None and was_used:
        return Refuse(Reason.CHECKPOINT_LOST, f"Claim {name} is gone, and the checkpoint with it. {_START_EMPTY}", stop)
    if claim is not None and claim.phase == "Lost":
        return Refuse(Reason.CHECKPOINT_LOST, f"The volume of claim {name} is lost, and the checkpoint with it. {_START_EMPTY}", stop)
    if claim is not None and claim.recreated and claim.may_hold_keys:
        record = claim.record["metadata"]["name"] if claim.record else ""
        cause = f"Claim {name} was deleted and recreated, and the stored keys were lost with the old claim."
        return Refuse(Reason.CHECKPOINT_LOST, f"{cause} {_START_EMPTY.replace('the claim', f'ConfigMap {record}')}", stop)
    if claim is not None and claim.deleting:
        return Refuse(Reason.CHECKPOINT_LOST, f"Claim {name} is being deleted and will be gone when the driver stops. {_START_EMPTY}", stop)
    return None


def block_moved_checkpoint(given: DecisionInput) -> Decision | None:
    """The CRD refuses the edit when the status says that keys are stored. The driver may have stored them since then."""
    old, workload = given.observed.moved_from, given.observed.workload
    if old is None or not given.observed.keys_left_behind:
        return None
    if workload is not None and workload.replicas == 0 and given.observed.pod is not None:
        return None  # the driver is stopping, and will say whether keys are stored
    message = (
        f"Keys may be stored in claim {old}, and the driver would not find them in the claim or folder that spec.checkpoint asks for now. "
        "Revert the edit, or create a new DedupJob under another name. If you are sure that no keys are stored, revert the edit, "
        "let the driver run, and edit spec.checkpoint again while it runs."
    )
    return Refuse(Reason.CHANGE_BLOCKED, message, stop=given.job.spec.suspend)


_CONFIG_UNKNOWN = (
    f"The operator cannot read the annotation {CHECKPOINT_CONFIG} of the checkpoint, so it cannot tell whether the settings "
    "fit the stored keys. Restore the annotation, or create a new DedupJob under another name."
)
_START_EMPTY = (
    "To start with an empty checkpoint, and accept duplicates of records that were processed before, "
    "delete the claim and the DedupJob, then apply the DedupJob again."
)


def block_incompatible_change(given: DecisionInput) -> Decision | None:
    claim = given.observed.claim
    if claim is None or not claim.may_hold_keys:
        return None
    if claim.config is None:
        return Refuse(Reason.CHANGE_BLOCKED, _CONFIG_UNKNOWN, given.job.spec.suspend)
    fields = list_state_changes(claim.config, given.desired.config)
    if not fields:
        return None
    return Refuse(
        Reason.CHANGE_BLOCKED,
        f"The keys in claim {claim.name} were stored with another value of {', '.join(fields)} and do not fit the new one. "
        "Revert the edit, or create a new DedupJob under another name.",
        stop=given.job.spec.suspend,
    )


def suspend_driver(given: DecisionInput) -> Decision | None:
    if not given.job.spec.suspend:
        return None
    observed = given.observed
    workload = observed.workload
    is_suspended = (
        observed.pod is None and (workload is None or workload.replicas == 0 or workload.ended) and not (workload and workload.runs)
    )
    return Suspended() if is_suspended else Suspend()


def start_first_driver(given: DecisionInput) -> Decision | None:
    if given.observed.workload is not None:
        return None
    if given.observed.pod is not None:
        return Wait(Reason.STARTING, f"The operator waits until pod {given.observed.pod.name} of an earlier start is gone.")
    return Start(first=True)


def update_schedule(given: DecisionInput) -> Decision | None:
    """A CronJob gets new settings at once, because they apply to its next run."""
    workload, observed = given.observed.workload, given.observed
    if workload is None or workload.replicas == 0 or {workload.kind, choose_kind(given.job.spec)} != {Kind.CRON_JOB}:
        return None
    if observed.moved_from is not None:
        # The run must have ended, and said whether it has stored keys, before the template names another place.
        return ScaleDownForRestart("The present run stops after the current batch, because spec.checkpoint has changed.")
    changes, new_image = _list_changes(given), workload.image != given.image
    if not changes and not new_image:
        must_stop = any(
            not run.deleting and ((run.outdated and _run_cannot_succeed(observed)) or (run.other_needs and _waits_for_brokers(observed)))
            for run in workload.runs
        )
        message = "The operator stops the present run, because it cannot succeed with its old settings."
        return UpdateSchedule(message, stop_run=True, settings=False) if must_stop else None
    nonce = workload.applied is not None and workload.applied.restart_nonce != given.job.spec.restart_nonce
    stuck = _run_cannot_start(given) if changes else observed.pod is not None and observed.pod.image_problem
    return UpdateSchedule(f"The next run applies {', '.join(changes) or 'a new job image'}.", stop_run=nonce or stuck)


def _run_cannot_succeed(observed: ObservedState) -> bool:
    """Whether the run fails for a reason that does not pass without a person. A stopped run is not repeated before the
    next one is due."""
    pod = observed.pod
    if pod is None or pod.started_at is not None:
        return False
    return pod.image_problem or (pod.last_exit is not None and is_permanent(pod.last_exit))


def _run_cannot_start(given: DecisionInput) -> bool:
    """Whether the run makes no progress with its settings, and the changed ones may help.

    A run that is only starting continues, because it is not repeated.
    """
    pod, workload = given.observed.pod, given.observed.workload
    if pod is None or pod.started_at is not None:
        applied = workload.applied if workload is not None else None
        other_needs = applied is None or list_start_needs(applied) != list_start_needs(given.job.spec)
        return other_needs and _waits_for_brokers(given.observed)
    return pod.image_problem or pod.unschedulable is not None or bool(pod.exits)


def _waits_for_brokers(observed: ObservedState) -> bool:
    """Whether the driver has not begun its work, because it waits for a broker, a topic or the consumer group."""
    status = observed.driver_status
    if not isinstance(status, DriverStatus) or observed.pod is None or status.phase is not Phase.WAITING:
        return False
    return status.blocked_by is not None and status.blocked_by.reason != Reason.CHECKPOINT_LOCKED


def restart_for_new_settings(given: DecisionInput) -> Decision | None:
    """The running driver has settings that differ from the spec, or an image that kubelet cannot pull."""
    workload = given.observed.workload
    if workload is None or workload.replicas == 0 or workload.ended:
        return None
    changes = _list_changes(given)
    if changes:
        return ScaleDownForRestart(f"The driver restarts after the current batch to apply {', '.join(changes)}.")
    if workload.restart_requested:
        return ScaleDownForRestart("The driver restarts after the current batch, because somebody used kubectl rollout restart.")
    pod = given.observed.pod
    if pod is not None and pod.image_problem and workload.image != given.image:
        return ScaleDownForRestart(f"kubelet cannot pull the driver's image. The operator starts the driver with image {given.image}.")
    return None


def repair_drift(given: DecisionInput) -> Decision | None:
    workload = given.observed.workload
    if workload is None or not workload.drifted or workload.kind is Kind.JOB:
        return None  # nothing can change the template of a Kubernetes Job
    if workload.replicas == 0 and (workload.restarting or workload.given_up is not None):
        return None  # the operator itself has stopped the driver
    if not given.observed.drift_repair_due:
        return Keep(repair=False)
    return RepairDrift() if workload.replicas > 0 else None


def _list_changes(given: DecisionInput) -> list[str]:
    workload = given.observed.workload
    if workload is None:
        return []
    if workload.applied is None:
        return [f"the spec, because the annotation {APPLIED_SPEC} of the {workload.kind} is missing or unreadable"]
    job = given.job
    applied = build_driver_settings(job.namespace, job.name, workload.applied, given.observed.pinned_config)
    changes = list_settings_changes(applied, given.desired) or (["spec.checkpoint"] if given.observed.moved_from is not None else [])
    lost = not workload.ended and workload.config_map not in (*given.observed.config_maps, given.config_map)
    return changes or (["the spec, because the ConfigMap of the driver is gone"] if lost else [])


def give_up_permanent_failure(given: DecisionInput) -> Decision | None:
    workload, pod, job = given.observed.workload, given.observed.pod, given.job
    if workload is None or workload.ended or any(run.outdated for run in workload.runs):
        return None
    if workload.given_up is not None and workload.given_up.generation == job.generation:
        return GiveUp(workload.given_up)
    # kubelet restarts a driver at once after its first exit. A person may have removed the cause, so a driver that runs
    # again is not stopped for an earlier exit, whatever it answers.
    last = pod.last_exit if pod is not None else None
    if workload.replicas == 0 or last is None or not is_permanent(last):
        return None
    return GiveUp(GivenUp(job.generation, last.reason, last.message, last))


def start_next_driver(given: DecisionInput) -> Decision | None:
    """After a restart, a suspension or a corrected spec, the driver starts only when the old pod is gone."""
    workload, pod = given.observed.workload, given.observed.pod
    if workload is None or (workload.replicas > 0 and not _run_must_be_recreated(given, workload)):
        return None
    if any(not run.deleting for run in workload.runs):
        return ScaleDownForRestart("The present run stops after the current batch.")
    if pod is not None or workload.runs:
        old = f"Pod {pod.name}" if pod is not None else f"Kubernetes Job {workload.runs[0].name}"
        return Wait(Reason.RESTARTING, f"{old} finishes the current batch. The operator starts the driver when it is gone.")
    if not workload.observed_by_controller:
        return Wait(Reason.RESTARTING, "The operator waits until the StatefulSet controller has seen that the StatefulSet has 0 replicas.")
    if workload.kind is Kind.JOB or workload.kind is not choose_kind(given.job.spec):
        return RemoveWorkload(workload)
    return Start(first=False)


def _run_must_be_recreated(given: DecisionInput, workload: Workload) -> bool:
    """A run that failed and is not retried, or a completed run whose settings have changed."""
    return workload.ended and (not workload.completed or bool(_list_changes(given)))


RULES: tuple[Callable[[DecisionInput], Decision | None], ...] = (
    refuse_conflicting_objects,
    wait_for_deletion,
    remove_surplus_workload,
    block_moved_checkpoint,
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


def explain_refusal(error: ApiRefused | NameTaken | CheckpointTaken, decision: Decision, observed: ObservedState) -> Refuse | Keep:
    """The decision after the API server has refused a write of `decision`. Every reconciliation tries the write again."""
    exists = observed.workload is not None and observed.workload.replicas > 0 and observed.pod is not None
    if exists and isinstance(decision, Keep | RepairDrift) and isinstance(error, ApiRefused):
        what = error.kind or "write"
        return Keep(refused=f"For the next start, the API server refuses the {what}. The operator retries. The answer was: {error}")
    if isinstance(error, CheckpointTaken):
        return Refuse(Reason.CHECKPOINT_TAKEN, _explain_taken(str(error)))
    if isinstance(error, NameTaken):
        return Refuse(Reason.NAME_CONFLICT, _explain_conflict(str(error)))
    is_claim = error.kind == "PersistentVolumeClaim"
    reason = Reason.CHECKPOINT_PENDING if is_claim else Reason.POD_REJECTED
    return Refuse(reason, f"The API server refuses the driver's {error.kind or 'objects'}. The operator retries. The answer was: {error}")
