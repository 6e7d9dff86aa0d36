"""The observed state of one DedupJob: what exists in the cluster, and what its driver says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dedup_api.driver_status import DriverStatus
from dedup_api.job_config import JobConfig
from dedup_api.status import DriverExit
from dedup_operator.domain.driver_objects import (
    CheckpointPlace,
    Kind,
    find_config_map,
    find_mounted_place,
    find_wanted_kind,
    find_wanted_place,
)
from dedup_operator.domain.observe.checkpoint import (
    CheckpointClaim,
    find_applied_config,
    find_checkpoint_owner,
    may_have_keys,
    observe_checkpoint,
)
from dedup_operator.domain.observe.owned import OwnedObjects, list_controlled_runs
from dedup_operator.domain.observe.ownership import Ownership, observe_pod_ownership
from dedup_operator.domain.observe.pod import DriverPod, DriverUnreachable, observe_pod
from dedup_operator.domain.observe.snapshot import Snapshot
from dedup_operator.domain.observe.warnings import find_warning
from dedup_operator.domain.observe.workload import Workload, job_has_ended, observe_workload
from dedup_operator.domain.types import Json


@dataclass(frozen=True)
class ObservedState:
    """Only objects of this DedupJob, except in `conflicting_objects`,
    `terminating` and `orphaned_pods`, which hold "kind name"."""

    workload: Workload | None = None
    surplus_workload: Workload | None = None
    """A second workload. There must be one at most, so the operator removes this one."""
    pod: DriverPod | None = None
    """The live pod. Of several live pods it is the oldest, because the others wait for its locks."""
    claim: CheckpointClaim | None = None
    checkpoint_owner: str | None = None
    """What else owns the checkpoint that this DedupJob names."""
    moved_from: str | None = None
    """Name of the claim that the workload mounts, or that the status names, when the spec asks for another claim or for
    another folder."""
    keys_left_behind: bool = False
    """With `moved_from`: nothing proves that no keys are stored there."""
    has_service: bool = False
    config_map_uids: tuple[tuple[str, str], ...] = ()
    """(name, UID), sorted."""
    used_config_maps: frozenset[str] = frozenset()
    """Names of the ConfigMaps that a workload, a pod or a run mounts and that are still needed."""
    conflicting_objects: tuple[str, ...] = ()
    terminating: tuple[str, ...] = ()
    orphaned_pods: tuple[str, ...] = ()
    driver_status: DriverStatus | DriverUnreachable | None = None
    """The answer of the live driver. Without a live driver, the report of the last driver that completed its run."""
    pod_rejection: str | None = None
    """Why the API server rejects the driver's pod."""
    claim_problem: str | None = None
    """Why the claim gets no volume."""
    mount_problem: str | None = None
    """Why the node cannot mount the pod's volumes."""
    claim_was_recorded: bool = False
    """The status says that this DedupJob has had the claim that the spec asks for."""
    drift_repair_due: bool = True
    """False while the operator pauses between two repairs of a workload that something changes again and again."""
    last_pod_exits: tuple[DriverExit, ...] = ()
    """How the driver ended in the pods that have ended or are deleted. Newest first."""

    @property
    def pinned_config(self) -> JobConfig | None:
        """The configuration to which the stored keys belong. None while no keys are stored."""
        return self.claim.config if self.claim and self.claim.may_hold_keys else None

    @property
    def config_maps(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.config_map_uids)

    @property
    def cleanup_complete(self) -> bool:
        """No object of an earlier DedupJob or of something else is left that could still write to the checkpoint."""
        return not (self.terminating or self.conflicting_objects or self.orphaned_pods)


def observe_state(snapshot: Snapshot, owned: OwnedObjects) -> ObservedState:
    """`owned`: the result of `find_owned_objects(snapshot)`."""
    uid, name = snapshot.job["metadata"]["uid"], snapshot.job["metadata"]["name"]
    workload, surplus_workload = _choose_workload(snapshot, owned)
    status = snapshot.job.get("status") or {}
    driver_status = snapshot.driver_status if owned.live_pods else _find_report(owned.ended_pods, status)
    claim, shared = owned.claim, owned.uses_shared_claim
    checkpoint_owner = find_checkpoint_owner(claim, snapshot.record, name) if shared else None
    # The record of another owner describes the keys of that owner, and only that owner may change it.
    record = snapshot.record if checkpoint_owner is None else None
    batch_recorded = (status.get("progress") or {}).get("batch") is not None
    running = [owned.driver_pod] if owned.driver_pod is not None else []
    users = [*running, *reversed(owned.ended_pods), *([workload.raw] if workload else [])]
    applied = find_applied_config(users, owned.config_maps)
    live_runs = [run for run in snapshot.runs if not job_has_ended(run)]
    known = status.get("checkpoint") or {}
    wanted = find_wanted_place(name, snapshot.job.get("spec") or {})
    moved_from = _find_previous_claim(wanted, workload, known)
    # What a driver at the previous place says does not concern the claim that the spec asks for.
    answer, has_batch = (driver_status, batch_recorded) if moved_from is None else (None, False)
    checkpoint = observe_checkpoint(claim, record, uid, applied, answer, has_batch, folder=wanted.folder) if claim else None
    # The report of a driver that has ended may be the first to say that keys are stored, and its ConfigMap says with which
    # settings. So it stays until the claim says both.
    unrecorded = owned.ended_pods if checkpoint is not None and not checkpoint.state_recorded else ()
    return ObservedState(
        workload=workload,
        surplus_workload=surplus_workload,
        pod=owned.driver,
        claim=checkpoint,
        checkpoint_owner=checkpoint_owner,
        moved_from=moved_from,
        keys_left_behind=batch_recorded or _may_leave_keys(status, driver_status, owned.driver, _find_last_stopped(snapshot, owned, name)),
        has_service=owned.has_service,
        config_map_uids=tuple(sorted((item["metadata"]["name"], item["metadata"]["uid"]) for item in owned.config_maps)),
        used_config_maps=frozenset(find_config_map(raw) for raw in [*owned.workloads, *owned.live_pods, *live_runs, *unrecorded]) - {""},
        conflicting_objects=owned.conflicting_objects,
        terminating=owned.terminating,
        orphaned_pods=owned.orphaned_pods,
        driver_status=driver_status,
        pod_rejection=find_warning(snapshot.warnings, set(Kind), {"FailedCreate"}),
        claim_problem=find_warning(snapshot.warnings, {"PersistentVolumeClaim"}, {"ProvisioningFailed", "FailedBinding", "FailedMount"}),
        mount_problem=find_warning(snapshot.warnings, {"Pod"}, {"FailedMount", "FailedAttachVolume"}),
        claim_was_recorded=known.get("claim") == wanted.claim,
        last_pod_exits=(*_list_last_exits(snapshot.last_deleted_pod, owned, name), *_recall_exit(workload)),
    )


def _find_previous_claim(wanted: CheckpointPlace, workload: Workload | None, known: Json) -> str | None:
    """See `ObservedState.moved_from`. `known`: status.checkpoint; version 0.1.0 wrote no folder there."""
    claim: str | None = known.get("claim")
    is_known_here = claim == wanted.claim and known.get("folder", wanted.folder) == wanted.folder
    if workload is None:
        return None if is_known_here else claim
    mounted = find_mounted_place(workload.raw)
    if mounted is None or mounted == wanted:
        return None if claim is None or is_known_here or not workload.drifted else claim
    return None if workload.drifted and is_known_here else mounted.claim  # something else may have changed the volumes


def _may_leave_keys(
    status: Json, driver_status: DriverStatus | DriverUnreachable | None, live: DriverPod | None, stopped: DriverPod | None
) -> bool:
    """Whether keys may be stored where the driver was. An answer is old as soon as it is given, so before the driver starts
    elsewhere, the last one must have said at its end that no keys are stored. `stopped`: the newest pod that has ended."""
    checkpoint = status.get("checkpoint") or {}
    if checkpoint.get("keysStored"):
        return True
    if live is not None and isinstance(driver_status, DriverStatus):
        return may_have_keys(driver_status) or not driver_status.reports_keys_at_end
    attempt = checkpoint.get("attempt")
    if live is not None and live.has_run:
        return live.started_at is not None or not _proves_no_keys(live, attempt)
    if stopped is not None and stopped.has_run:
        return not _proves_no_keys(stopped, attempt)
    return attempt is not None or bool((status.get("driver") or {}).get("lastExits"))


def _proves_no_keys(pod: DriverPod, attempt: int | None) -> bool:
    """Whether the driver in the pod has ended without keys, and no later driver is known."""
    return pod.ended_without_keys is not None and pod.ended_without_keys >= (attempt or 0)


def _find_last_stopped(snapshot: Snapshot, owned: OwnedObjects, name: str) -> DriverPod | None:
    deleted = _find_own_deleted_pod(snapshot.last_deleted_pod, owned, name)
    if deleted is not None:
        return observe_pod(deleted)
    return observe_pod(owned.ended_pods[-1]) if owned.ended_pods else None


def _find_own_deleted_pod(deleted: Json | None, owned: OwnedObjects, name: str) -> Json | None:
    """The pod that was deleted last, if it belonged to this DedupJob."""
    is_own = deleted is not None and observe_pod_ownership(deleted, owned.controllers, name) is Ownership.OURS
    return deleted if is_own else None


def _choose_workload(snapshot: Snapshot, owned: OwnedObjects) -> tuple[Workload | None, Workload | None]:
    """The workload that stays, and the surplus one.

    A workload with replicas stays before one without, then the wanted kind.
    """
    wanted = find_wanted_kind(snapshot.job.get("spec") or {})
    workloads = sorted(
        (observe_workload(raw, list_controlled_runs(snapshot.runs, raw)) for raw in owned.workloads),
        key=lambda workload: (-workload.replicas, workload.kind is not wanted),
    )
    return next(iter(workloads), None), next(iter(workloads[1:]), None)


def _find_report(ended: Iterable[Json], status: Json) -> DriverStatus | None:
    """The report that the newest driver left when it completed its run.

    None when a later driver, which was stopped, has started since.
    """
    reports = (observe_pod(pod).report for pod in reversed(list(ended)))
    known = (status.get("checkpoint") or {}).get("attempt") or 0
    return next((report for report in reports if report is not None and (report.attempt or 0) >= known), None)


def _list_last_exits(deleted: Json | None, owned: OwnedObjects, name: str) -> tuple[DriverExit, ...]:
    exits = [exit for pod in reversed(owned.ended_pods) for exit in observe_pod(pod).exits]
    own = _find_own_deleted_pod(deleted, owned, name)
    return (*(observe_pod(own).exits if own is not None else ()), *exits)


def _recall_exit(workload: Workload | None) -> tuple[DriverExit, ...]:
    exit = workload.given_up.exit if workload and workload.given_up else None
    return (exit,) if exit else ()
