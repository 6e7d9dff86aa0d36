"""The invariants: what must be true after every step of the simulated cluster, and for every write of the operator.

The checks use only the stored objects, never the operator's own decisions. A write is judged by what the operator
process had read before it issued the write: the operator cannot know an edit that comes between its read and its write.
"""

from __future__ import annotations

import marshal
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from dedup_api import names
from dedup_api.changes import list_state_changes
from dedup_api.job_config import JobConfig
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.annotations import CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CLAIM_UID, GIVEN_UP
from dedup_operator.domain.driver_settings import build_driver_settings
from dedup_operator.domain.observe.pod import has_ended
from simulation.api_server import Address, Change, Event, Json, Kind, find_controller
from simulation.checkpoint_location import (
    SHARED_CLAIM,
    build_checkpoint_object_address,
    build_volume_key,
    find_checkpoint_object_address,
    find_claim_name,
    find_mounted_location,
    is_folder_record,
)
from simulation.condition_law import find_contradiction
from simulation.driver import DriverProcess, parse_job_json
from simulation.faults import Fault
from simulation.garbage_collector import GC_ACTOR
from simulation.nodes import find_config_name
from simulation.users import USER_ACTOR, is_invalid_spec
from simulation.writes import Write

if TYPE_CHECKING:
    from simulation.run import Simulation


REPAIR_WINDOW_SECONDS = 60.0
MAX_REPAIRS = 12
"""Starts and repairs of one workload within `REPAIR_WINDOW_SECONDS`. Two operators, and an operator that has died and
forgotten its pauses, repair it more often than one."""
WORKLOADS = (Kind.STATEFUL_SETS, Kind.JOBS, Kind.CRON_JOBS)


class Invariant(StrEnum):
    """By name: the sentence that must always be true."""

    ONE_LIVE_DRIVER = "Only the driver that holds the checkpoint's lock works on the checkpoint."
    ONE_DRIVER_CONTAINER = "At most one driver container runs on a checkpoint, even without the checkpoint's lock."
    ONE_RUNNING_TEMPLATE = "Two driver containers with different settings never run on one checkpoint at the same time."
    TEMPLATE_KEPT_WHILE_POD_RUNS = "The operator changes no pod template while a pod made from it may still run."
    CLAIM_KEPT = "A claim is deleted only by a user, or with its DedupJob if reclaimPolicy is Delete."
    UNUSABLE_SPEC_KEEPS_DRIVER = "A spec that is invalid or blocked never stops or changes a running driver."
    OBSERVED_GENERATION_NOT_AHEAD = "status.observedGeneration is never higher than the generation that the operator has read."
    FOLDER_HAS_ONE_OWNER = "A folder of a shared claim belongs to one DedupJob, and its record keeps owner and settings."
    LOST_KEYS_ARE_REPORTED = "When stored keys are known to be lost, the operator reports it and starts no driver."
    KEYS_NOT_LEFT_BEHIND = "A driver never stores keys in one place while the DedupJob has keys in another place."
    SETTINGS_FIT_KEYS = "A driver is never started with settings that do not fit the stored keys."
    STARTS_USE_CURRENT_IMAGE = "Every start uses the job image of the operator that starts it."
    UPGRADE_STOPS_NO_DRIVER = "An upgrade of the operator stops no driver."
    ONLY_STATUS_IS_WRITTEN = "The operator writes nothing but the status of a DedupJob."
    WRITES_NAME_READ_VERSION = "The operator replaces an object only in a version that it has read."
    OTHER_OBJECTS_UNCHANGED = "The operator never changes an object that it does not own."
    DEPENDENCIES_FIRST = "The operator creates a workload only after claim, ConfigMap and Service exist."
    RUNNING_DRIVER_KEPT = "A driver that runs is never stopped for an earlier exit, whatever it answers."
    CONDITIONS_AGREE = "The conditions of one status do not contradict each other."
    NO_WRITE_LOOP = "The operator does not repair a workload again and again while something else changes it each time."
    DESIRED_STATE_REACHED = "After the faults end, the cluster reaches the desired state."
    DESIRED_STATE_STABLE = "The desired state stays, and the operator stops writing."


class Violation(AssertionError):
    """An invariant is violated. The message names the invariant and says what happened."""

    def __init__(self, invariant: Invariant, detail: str) -> None:
        super().__init__(f"{invariant.name}: {invariant} But: {detail}")
        self.invariant = invariant


def check_processes(simulation: Simulation) -> None:
    """Checks the running driver processes, after every step."""
    if len(simulation.processes) < 2:
        return
    for process in simulation.processes:
        volume = process.volume
        if process.attempt is not None and volume.lock_owner is not process:
            raise Violation(Invariant.ONE_LIVE_DRIVER, f"the driver in pod {process.pod_uid} works without the lock")
        on_same_volume = [other for other in simulation.processes if other.volume is volume]
        if len(on_same_volume) < 2:
            continue
        if _started_by_two_kinds(simulation, on_same_volume):
            continue
        with_pod = [other for other in on_same_volume if simulation.has_pod(other.pod_uid)]
        described = f"drivers run in the pods {' and '.join(other.pod_uid for other in on_same_volume)}"
        if len({other.text for other in with_pod}) > 1:
            raise Violation(Invariant.ONE_RUNNING_TEMPLATE, described)
        if len(with_pod) > 1 or volume not in simulation.force_deleted_volumes:
            raise Violation(Invariant.ONE_DRIVER_CONTAINER, described)


def _started_by_two_kinds(simulation: Simulation, processes: list[DriverProcess]) -> bool:
    """Whether a StatefulSet and a Kubernetes Job of one DedupJob both run a driver, which two faults make possible.

    The API server lets only one object of a kind have a name, but a StatefulSet and a Job may have the same name. If a
    read returns old objects, or if a write arrives long after the operator gave it up, both can exist, and only the
    checkpoint's lock keeps the drivers apart. A real API server does not return old objects to the operator's reads.
    """
    if not {Fault.STALE_READ, Fault.LATE_WRITE} & simulation.faults.kinds:
        return False
    of_one_job = len({process.config.name for process in processes}) == 1
    return of_one_job and len({simulation.nodes.runs[process.pod_uid].restart for process in processes}) > 1


def check_change(simulation: Simulation, change: Change) -> None:
    """Checks a change of an object. The change may come from an operator, a controller or a user."""
    if change.address.kind is not Kind.CLAIMS or change.actor == USER_ACTOR or change.old is None:
        return
    metadata = change.old["metadata"]
    is_deletion = change.event is Event.DELETED or (change.new is not None and "deletionTimestamp" in change.new["metadata"])
    if not is_deletion or "deletionTimestamp" in metadata:
        return
    if change.actor != GC_ACTOR:
        raise Violation(Invariant.CLAIM_KEPT, f"{change.actor} deletes {change.address}")
    for user in simulation.users:
        if change.address.name != names.claim_name(user.name) or metadata["uid"] in user.deleted_claims:
            continue
        volume = simulation.volumes.get(build_volume_key(metadata["uid"], ""))
        if simulation.moves.active and (volume is None or volume.state_config is None):
            continue  # the job has left it without keys, and the earlier reclaim policy still counts
        owners = metadata.get("ownerReferences", [])
        user.claim_deleted_with_job = True
        if not any(_was_deletion_requested(simulation, user.policy_history.get(owner["uid"], []), owner["uid"]) for owner in owners):
            raise Violation(Invariant.CLAIM_KEPT, f"{change.address} is deleted with its DedupJob, whose reclaimPolicy is Retain")


def _was_deletion_requested(simulation: Simulation, policy_history: list[tuple[int, str, bool]], uid: str) -> bool:
    """Whether the last valid spec that the operator has observed says Delete, or any spec that it has not observed
    yet."""
    observed = simulation.observed_generations.get(uid, -1)
    applied = [policy for generation, policy, is_valid in policy_history if generation <= observed and is_valid][-1:]
    return "Delete" in [*applied, *(policy for generation, policy, _ in policy_history if generation > observed)]


def check_write(simulation: Simulation, write: Write, old: Json | None, new: Json | None, image: str) -> None:
    """Checks a write of the operator that the API server has applied. `new` is None if the object no longer exists."""
    address = write.address
    if address is None:
        return
    if old is not None and _requires_version(write) and not write.has_read(old):
        version = old["metadata"]["resourceVersion"]
        raise Violation(Invariant.WRITES_NAME_READ_VERSION, f"it never read version {version} before this write: {write}")
    if address.kind is Kind.CLAIMS and address.name == SHARED_CLAIM:
        raise Violation(Invariant.OTHER_OBJECTS_UNCHANGED, f"it changes the users' shared claim: {write}")
    if address.kind is Kind.CONFIG_MAPS and old is not None and is_folder_record(old):
        _check_record(write, old, new)
    if address.kind in WORKLOADS and new is not None and write.verb != "delete":
        _check_start(simulation, write, old, new, image)
        _check_given_up(simulation, write, old, new)
    if old is not None and any(old["metadata"]["uid"] in user.conflicting_objects for user in simulation.users):
        raise Violation(Invariant.OTHER_OBJECTS_UNCHANGED, f"it changes an object that a user created under a child's name: {write}")
    if address.kind is Kind.DEDUP_JOBS:
        _check_job_write(simulation, write, old, new)
    elif address.kind is Kind.STATEFUL_SETS and write.verb == "replace" and old is not None and new is not None:
        _check_set_write(simulation, write, address, old, new)
    elif address.kind in WORKLOADS and write.verb == "create" and new is not None:
        _check_dependencies(simulation, write, new)
    elif write.verb == "delete" and address.kind in WORKLOADS and old is not None:
        _check_removal(simulation, write, old)
    elif address.kind in {Kind.JOBS, Kind.CRON_JOBS} and write.verb == "replace" and old is not None and new is not None:
        stops = bool(new["spec"].get("suspend")) and not old["spec"].get("suspend")
        if stops and must_keep_driver(write, address.namespace, find_job_name(old)):
            raise Violation(Invariant.UNUSABLE_SPEC_KEEPS_DRIVER, f"this write suspends the workload: {write}")


def _check_given_up(simulation: Simulation, write: Write, old: Json | None, new: Json) -> None:
    before, after = ((body or new)["metadata"].get("annotations", {}).get(GIVEN_UP) for body in (old, new))
    if old is None or after is None or after == before:
        return
    job = find_job_name(new)
    for address, pod in write.last_reads.items():
        if address.kind is not Kind.PODS or pod is None or find_job_name(pod) != job or not is_running(pod):
            continue
        # The last read may be older than another one of the same reconciliation, and a list does not say which pods are
        # gone. So the container must run now, too.
        present = simulation.server.peek(*address)
        if present is not None and present["metadata"]["uid"] == pod["metadata"]["uid"] and is_running(present):
            raise Violation(Invariant.RUNNING_DRIVER_KEPT, f"the container of {address.name} runs: {write}")


def is_running(pod: Json) -> bool:
    return any("running" in container["state"] for container in pod.get("status", {}).get("containerStatuses", ()))


def _requires_version(write: Write) -> bool:
    """A deletion without a resourceVersion deletes the object in any version, which is allowed."""
    return write.verb in {"replace", "status"} or (write.verb == "delete" and "resourceVersion" in write.body)


def _check_record(write: Write, old: Json, new: Json | None) -> None:
    """Checks a write to the record of a folder. Its label names the owner, its annotations describe the owner's keys.
    After the folder has keys, these annotations must not change."""
    if new is None or find_job_name(new) != find_job_name(old):
        raise Violation(Invariant.FOLDER_HAS_ONE_OWNER, f"this write deletes the folder's record or changes its owner: {write}")
    recorded = parse_job_json(new["metadata"]["annotations"][CHECKPOINT_CONFIG])
    if recorded.name != find_job_name(new):
        raise Violation(
            Invariant.FOLDER_HAS_ONE_OWNER, f"this write records the settings of {recorded.name}, which is not the owner: {write}"
        )
    before, after = (body["metadata"].get("annotations", {}) for body in (old, new))
    changed = [key for key in (CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CLAIM_UID) if before.get(key) != after.get(key)]
    if CHECKPOINT_BEGUN in before and changed:
        raise Violation(Invariant.FOLDER_HAS_ONE_OWNER, f"the folder has keys, and this write changes {' and '.join(changed)}: {write}")


def _check_start(simulation: Simulation, write: Write, old: Json | None, new: Json, image: str) -> None:
    """Checks a pod template that the operator has written."""
    template, namespace, job = find_template(new), new["metadata"]["namespace"], find_job_name(new)
    if old is not None and find_template(old) == template:
        return
    written_image = template["spec"]["containers"][0]["image"]
    if written_image != image:
        raise Violation(Invariant.STARTS_USE_CURRENT_IMAGE, f"the operator has {image}, and this write says {written_image}: {write}")
    claim, folder = find_mounted_location(template)
    checkpoint_object = build_checkpoint_object_address(namespace, claim, folder)
    record = simulation.server.peek(*checkpoint_object)
    if folder and (record is None or find_job_name(record) != job):
        owner = find_job_name(record) if record is not None else "nobody"
        raise Violation(Invariant.FOLDER_HAS_ONE_OWNER, f"the folder {folder} belongs to {owner}, and this write starts {job}: {write}")
    last_read = write.last_reads.get(checkpoint_object)
    annotations = last_read["metadata"].get("annotations", {}) if last_read is not None else {}
    claim_read = write.last_reads.get(Address(Kind.CLAIMS, namespace, claim))
    if (
        folder
        and CHECKPOINT_BEGUN in annotations
        and claim_read is not None
        and annotations.get(CLAIM_UID) != claim_read["metadata"]["uid"]
    ):
        raise Violation(Invariant.LOST_KEYS_ARE_REPORTED, f"claim {claim} was recreated, and this write starts a driver: {write}")
    config = simulation.server.peek(Kind.CONFIG_MAPS, namespace, find_config_name(template))
    if CHECKPOINT_BEGUN not in annotations or CHECKPOINT_CONFIG not in annotations or config is None:
        return
    changes = list_state_changes(parse_job_json(annotations[CHECKPOINT_CONFIG]), parse_job_json(config["data"]["job.json"]))
    if changes:
        raise Violation(Invariant.SETTINGS_FIT_KEYS, f"the keys were stored with another {', '.join(changes)}: {write}")


def _check_job_write(simulation: Simulation, write: Write, old: Json | None, new: Json | None) -> None:
    if write.verb != "status" or old is None or new is None:
        raise Violation(Invariant.ONLY_STATUS_IS_WRITTEN, f"it sent this write: {write}")
    assert write.address is not None
    versions = (write.last_reads.get(write.address), write.previous_reads.get(write.address))
    read_generation = max((version["metadata"]["generation"] for version in versions if version is not None), default=-1)
    contradiction = find_contradiction(new["status"])
    if contradiction:
        raise Violation(Invariant.CONDITIONS_AGREE, f"{contradiction}: {new['status']['conditions']}")
    observed = new["status"]["observedGeneration"]
    if observed > min(read_generation, new["metadata"]["generation"]):
        raise Violation(Invariant.OBSERVED_GENERATION_NOT_AHEAD, f"it writes {observed} and has read {read_generation}: {write}")
    simulation.observed_generations[new["metadata"]["uid"]] = observed


def _check_set_write(simulation: Simulation, write: Write, address: Address, old: Json, new: Json) -> None:
    changed = old["spec"]["template"] != new["spec"]["template"]
    if old["spec"] != new["spec"] and simulation.fighting_controller.has_written(old):
        _check_repairs(simulation, write, old)
    if changed:
        pod = simulation.server.peek(Kind.PODS, address.namespace, f"{address.name}-0")
        owner = find_controller(pod) if pod is not None and not has_ended(pod) else None
        repairs = any(old["metadata"]["uid"] in user.changed_workloads for user in simulation.users)  # allowed: the pod keeps running
        if owner is not None and owner["uid"] == old["metadata"]["uid"] and not repairs:
            raise Violation(Invariant.TEMPLATE_KEPT_WHILE_POD_RUNS, f"pod {address.name}-0 has not ended: {write}")
    stops = new["spec"]["replicas"] < old["spec"]["replicas"]
    if (stops or changed) and must_keep_driver(write, address.namespace, find_job_name(old)):
        effect = "stops the driver" if stops else "changes the template"
        raise Violation(Invariant.UNUSABLE_SPEC_KEEPS_DRIVER, f"this write {effect}: {write}")


def _check_repairs(simulation: Simulation, write: Write, old: Json) -> None:
    now, uid = simulation.loop.now, old["metadata"]["uid"]
    recent = [moment for moment in simulation.repairs.get(uid, []) if now - moment < REPAIR_WINDOW_SECONDS]
    simulation.repairs[uid] = [*recent, now]
    if len(recent) >= MAX_REPAIRS:
        raise Violation(Invariant.NO_WRITE_LOOP, f"this is repair {len(recent) + 1} within {REPAIR_WINDOW_SECONDS:.0f} s: {write}")


def _check_removal(simulation: Simulation, write: Write, old: Json) -> None:
    assert write.address is not None
    namespace, job = write.address.namespace, find_job_name(old)
    if write.address.name != names.driver_name(job):
        return  # a Kubernetes Job that a CronJob created
    other_kinds = [kind for kind in WORKLOADS if kind is not write.address.kind]
    other_workloads = [kind for kind in other_kinds if simulation.server.peek(kind, namespace, write.address.name)]
    if not other_workloads and must_keep_driver(write, namespace, job):
        raise Violation(Invariant.UNUSABLE_SPEC_KEEPS_DRIVER, f"this write deletes the only workload: {write}")


def _check_dependencies(simulation: Simulation, write: Write, new: Json) -> None:
    """Checks that everything a new workload's pods need exists, or existed when the operator read it."""
    namespace, job = new["metadata"]["namespace"], find_job_name(new)
    template = find_template(new)
    needed = [
        Address(Kind.CLAIMS, namespace, find_claim_name(template)),
        Address(Kind.CONFIG_MAPS, namespace, find_config_name(template)),
        Address(Kind.SERVICES, namespace, names.driver_name(job)),
    ]
    missing = [str(address) for address in needed if not (write.last_reads.get(address) or simulation.server.peek(*address))]
    if missing:
        raise Violation(Invariant.DEPENDENCIES_FIRST, f"missing are {', '.join(missing)}: {write}")


def find_template(workload: Json) -> Json:
    """The pod template of a StatefulSet, Job or CronJob."""
    spec: Json = workload["spec"]
    template: Json = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    return template


def find_job_name(child: Json) -> str:
    return str(child["metadata"].get("labels", {}).get(names.LABEL_JOB, ""))


def must_keep_driver(write: Write, namespace: str, job: str) -> bool:
    """Whether the spec that the operator had read forbids it to stop or change a driver: the spec is invalid, or its
    change is blocked.

    The operator reads a DedupJob twice in a reconciliation, and may act on either of the two; both must forbid it.
    """
    address = Address(Kind.DEDUP_JOBS, namespace, job)
    versions = (write.last_reads.get(address), write.previous_reads.get(address))
    return all(version is not None and _must_keep_driver(write, namespace, job, version["spec"]) for version in versions)


def _must_keep_driver(write: Write, namespace: str, job: str, spec: Json) -> bool:
    if spec.get("suspend") is True:
        return False
    if is_invalid_spec(spec):
        return True
    checkpoint_object = write.last_reads.get(find_checkpoint_object_address(spec, namespace, job))
    if checkpoint_object is None or "deletionTimestamp" in checkpoint_object["metadata"]:
        return False
    annotations = checkpoint_object["metadata"].get("annotations", {})
    if CHECKPOINT_BEGUN not in annotations or CHECKPOINT_CONFIG not in annotations:
        return False
    recorded = parse_job_json(annotations[CHECKPOINT_CONFIG])
    return bool(list_state_changes(recorded, build_desired_config(namespace, job, spec, recorded)))


def build_desired_config(namespace: str, job: str, spec: Json, pinned: JobConfig | None) -> JobConfig:
    return build_driver_settings(namespace, job, parse_spec(spec), pinned).config


def parse_spec(spec: Json) -> DedupJobSpec:
    return _parse(marshal.dumps(spec))


@lru_cache(maxsize=4096)
def _parse(document: bytes) -> DedupJobSpec:
    return DedupJobSpec.model_validate(marshal.loads(document))
