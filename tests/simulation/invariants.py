"""What must hold after every step, and of every write that the operator makes.

Written against the objects, not against the operator's own decisions. A write is judged by what its writer had read: an edit that comes
between a read and a write is nobody's fault.
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
from dedup_operator.domain.annotations import CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CLAIM_UID
from dedup_operator.domain.driver_settings import build_driver_settings
from dedup_operator.domain.observe.pod import has_ended
from simulation.api_server import Address, Change, Event, Json, Kind, find_controller
from simulation.checkpoint_location import (
    SHARED_CLAIM,
    build_checkpoint_object_address,
    find_checkpoint_object,
    find_claim_name,
    find_mounted_location,
    is_folder_record,
)
from simulation.driver import DriverProcess, parse_job_json
from simulation.faults import Fault
from simulation.nodes import find_config_name
from simulation.users import is_invalid_spec
from simulation.writes import Write

if TYPE_CHECKING:
    from simulation.run import Simulation


WORKLOADS = (Kind.STATEFUL_SETS, Kind.JOBS, Kind.CRON_JOBS)


class Invariant(StrEnum):
    ONE_LIVE_DRIVER = "at most one live driver per checkpoint"
    ONE_DRIVER_CONTAINER = "at most one running driver container per checkpoint, by the control plane alone"
    ONE_RUNNING_TEMPLATE = "never two templates running at once"
    TEMPLATE_KEPT_WHILE_POD_RUNS = "a template never changes beside a pod that may still live"
    CLAIM_KEPT = "the claim is never deleted unless asked"
    UNUSABLE_SPEC_KEEPS_DRIVER = "an edit that is invalid or blocked never stops or changes a driver"
    OBSERVED_GENERATION_NOT_AHEAD = "observedGeneration is never ahead of what was acted on"
    FOLDER_HAS_ONE_OWNER = "no driver is started in a folder that another job has taken, and what is noted of a folder stays"
    LOST_KEYS_ARE_REPORTED = "keys that are known to be lost are never begun anew in silence"
    SETTINGS_FIT_KEYS = "a checkpoint that is known to have begun is never continued with settings that it does not fit"
    STARTS_USE_CURRENT_IMAGE = "every start takes the job image that its operator has"
    UPGRADE_STOPS_NO_DRIVER = "an operator with another job image ends no driver"
    ONLY_STATUS_IS_WRITTEN = "nothing but status is ever written on a DedupJob"
    WRITES_NAME_READ_VERSION = "a replaced object is in a version that its writer has read"
    OTHER_OBJECTS_UNCHANGED = "objects of others are never changed"
    DEPENDENCIES_FIRST = "a StatefulSet is made after all that its pod needs"
    DESIRED_STATE_REACHED = "the desired state is reached"
    DESIRED_STATE_STABLE = "the desired state stays, without a write"
    NO_BUG = "the operator raises only its own errors"


class Violation(AssertionError):
    def __init__(self, invariant: Invariant, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


def check_processes(simulation: Simulation) -> None:
    if len(simulation.processes) < 2:
        return
    for process in simulation.processes:
        volume = process.volume
        if process.attempt is not None and volume.lock_owner is not process:
            raise Violation(Invariant.ONE_LIVE_DRIVER, f"{process.pod_uid} works without the lock")
        beside = [other for other in simulation.processes if other.volume is volume]
        if len(beside) < 2:
            continue
        if _started_by_two_kinds(simulation, beside):
            continue
        with_pod = [other for other in beside if simulation.has_pod(other.pod_uid)]
        described = " and ".join(other.pod_uid for other in beside)
        if len({other.text for other in with_pod}) > 1:
            raise Violation(Invariant.ONE_RUNNING_TEMPLATE, described)
        if len(with_pod) > 1 or volume not in simulation.force_deleted_volumes:
            raise Violation(Invariant.ONE_DRIVER_CONTAINER, described)


def _started_by_two_kinds(simulation: Simulation, processes: list[DriverProcess]) -> bool:
    """A name is a lock within one kind only. Where a read is older than an answer that somebody got, or a write arrives long after it was
    given up, a Job can so come up beside a StatefulSet, and only the checkpoint's lock is left. A real API server's reads are current."""
    if not {Fault.STALE_READ, Fault.LATE_WRITE} & simulation.faults.kinds:
        return False
    of_one_job = len({process.config.name for process in processes}) == 1
    return of_one_job and len({simulation.nodes.runs[process.pod_uid].restart for process in processes}) > 1


def check_change(simulation: Simulation, change: Change) -> None:
    """Of anybody's change."""
    if change.address.kind is not Kind.CLAIMS or change.actor == "people" or change.old is None:
        return
    metadata = change.old["metadata"]
    going = change.event is Event.DELETED or (change.new is not None and "deletionTimestamp" in change.new["metadata"])
    if not going or "deletionTimestamp" in metadata:
        return
    if change.actor != "gc":
        raise Violation(Invariant.CLAIM_KEPT, f"{change.actor} deletes {change.address}")
    for user in simulation.users:
        if change.address.name != names.claim_name(user.name) or metadata["uid"] in user.deleted_claims:
            continue
        owners = metadata.get("ownerReferences", [])
        user.claim_deleted_with_job = True
        if not any(_was_deletion_requested(simulation, user.policy_history.get(owner["uid"], []), owner["uid"]) for owner in owners):
            raise Violation(Invariant.CLAIM_KEPT, f"{change.address} goes with its DedupJob")


def _was_deletion_requested(simulation: Simulation, policy_history: list[tuple[int, str, bool]], uid: str) -> bool:
    """Whether the last spec that was acted on, or one after it, says Delete."""
    observed = simulation.observed_generations.get(uid, -1)
    acted = [policy for generation, policy, legible in policy_history if generation <= observed and legible][-1:]
    return "Delete" in [*acted, *(policy for generation, policy, _ in policy_history if generation > observed)]


def check_write(simulation: Simulation, write: Write, old: Json | None, new: Json | None, image: str) -> None:
    """Of a write by the operator that the API server has carried out. `new` is None where the object is gone."""
    address = write.address
    if address is None:
        return
    if old is not None and _requires_version(write) and not write.has_read(old):
        raise Violation(Invariant.WRITES_NAME_READ_VERSION, str(write))
    if address.kind is Kind.CLAIMS and address.name == SHARED_CLAIM:
        raise Violation(Invariant.OTHER_OBJECTS_UNCHANGED, str(write))
    if address.kind is Kind.CONFIG_MAPS and old is not None and is_folder_record(old):
        _check_record(write, old, new)
    if address.kind in WORKLOADS and new is not None and write.verb != "delete":
        _check_start(simulation, write, old, new, image)
    if old is not None and any(old["metadata"]["uid"] in user.conflicting_objects for user in simulation.users):
        raise Violation(Invariant.OTHER_OBJECTS_UNCHANGED, str(write))
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
            raise Violation(Invariant.UNUSABLE_SPEC_KEEPS_DRIVER, str(write))


def _requires_version(write: Write) -> bool:
    """A deletion may mean the object, whatever has become of it."""
    return write.verb in {"replace", "status"} or (write.verb == "delete" and "resourceVersion" in write.body)


def _check_record(write: Write, old: Json, new: Json | None) -> None:
    """Name and label are whose folder it is; what it says is about that job's keys, and once there are any it stays."""
    if new is None or find_job_name(new) != find_job_name(old):
        raise Violation(Invariant.FOLDER_HAS_ONE_OWNER, str(write))
    noted = parse_job_json(new["metadata"]["annotations"][CHECKPOINT_CONFIG])
    if noted.name != find_job_name(new):
        raise Violation(Invariant.FOLDER_HAS_ONE_OWNER, f"{write} notes the settings of {noted.name}")
    before, after = (body["metadata"].get("annotations", {}) for body in (old, new))
    if CHECKPOINT_BEGUN in before and any(before.get(mark) != after.get(mark) for mark in (CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CLAIM_UID)):
        raise Violation(Invariant.FOLDER_HAS_ONE_OWNER, str(write))


def _check_start(simulation: Simulation, write: Write, old: Json | None, new: Json, image: str) -> None:
    """Of a template that the operator has written."""
    template, namespace, job = find_template(new), new["metadata"]["namespace"], find_job_name(new)
    if old is not None and find_template(old) == template:
        return
    if template["spec"]["containers"][0]["image"] != image:
        raise Violation(Invariant.STARTS_USE_CURRENT_IMAGE, str(write))
    claim, folder = find_mounted_location(template)
    checkpoint_object = build_checkpoint_object_address(namespace, claim, folder)
    record = simulation.server.peek(*checkpoint_object)
    if folder and (record is None or find_job_name(record) != job):
        raise Violation(Invariant.FOLDER_HAS_ONE_OWNER, str(write))
    known = write.last_reads.get(checkpoint_object)
    annotations = known["metadata"].get("annotations", {}) if known is not None else {}
    there = write.last_reads.get(Address(Kind.CLAIMS, namespace, claim))
    if folder and CHECKPOINT_BEGUN in annotations and there is not None and annotations.get(CLAIM_UID) != there["metadata"]["uid"]:
        raise Violation(Invariant.LOST_KEYS_ARE_REPORTED, str(write))
    config = simulation.server.peek(Kind.CONFIG_MAPS, namespace, find_config_name(template))
    if CHECKPOINT_BEGUN not in annotations or CHECKPOINT_CONFIG not in annotations or config is None:
        return
    changes = list_state_changes(parse_job_json(annotations[CHECKPOINT_CONFIG]), parse_job_json(config["data"]["job.json"]))
    if changes:
        raise Violation(Invariant.SETTINGS_FIT_KEYS, f"{write}: {', '.join(changes)}")


def _check_job_write(simulation: Simulation, write: Write, old: Json | None, new: Json | None) -> None:
    if write.verb != "status" or old is None or new is None:
        raise Violation(Invariant.ONLY_STATUS_IS_WRITTEN, str(write))
    assert write.address is not None
    versions = (write.last_reads.get(write.address), write.previous_reads.get(write.address))
    known = max((version["metadata"]["generation"] for version in versions if version is not None), default=-1)
    observed = new["status"]["observedGeneration"]
    if observed > min(known, new["metadata"]["generation"]):
        raise Violation(Invariant.OBSERVED_GENERATION_NOT_AHEAD, f"{observed}")
    simulation.observed_generations[new["metadata"]["uid"]] = observed


def _check_set_write(simulation: Simulation, write: Write, address: Address, old: Json, new: Json) -> None:
    changed = old["spec"]["template"] != new["spec"]["template"]
    if changed:
        pod = simulation.server.peek(Kind.PODS, address.namespace, f"{address.name}-0")
        owner = find_controller(pod) if pod is not None and not has_ended(pod) else None
        by_hand = any(old["metadata"]["uid"] in user.changed_workloads for user in simulation.users)  # set right for the next start
        if owner is not None and owner["uid"] == old["metadata"]["uid"] and not by_hand:
            raise Violation(Invariant.TEMPLATE_KEPT_WHILE_POD_RUNS, str(write))
    stops = new["spec"]["replicas"] < old["spec"]["replicas"]
    if (stops or changed) and must_keep_driver(write, address.namespace, find_job_name(old)):
        raise Violation(Invariant.UNUSABLE_SPEC_KEEPS_DRIVER, str(write))


def _check_removal(simulation: Simulation, write: Write, old: Json) -> None:
    assert write.address is not None
    namespace, job = write.address.namespace, find_job_name(old)
    if write.address.name != names.driver_name(job):
        return  # a run of a schedule
    beside = [kind for kind in WORKLOADS if kind is not write.address.kind and simulation.server.peek(kind, namespace, write.address.name)]
    if not beside and must_keep_driver(write, namespace, job):
        raise Violation(Invariant.UNUSABLE_SPEC_KEEPS_DRIVER, str(write))


def _check_dependencies(simulation: Simulation, write: Write, new: Json) -> None:
    """Each is there, or was as far as the writer knew, before the object that makes the pods."""
    namespace, job = new["metadata"]["namespace"], find_job_name(new)
    template = find_template(new)
    wanted = [
        Address(Kind.CLAIMS, namespace, find_claim_name(template)),
        Address(Kind.CONFIG_MAPS, namespace, find_config_name(template)),
        Address(Kind.SERVICES, namespace, names.driver_name(job)),
    ]
    there = [
        address for address in wanted if write.last_reads.get(address) or simulation.server.peek(address.kind, namespace, address.name)
    ]
    if len(there) < len(wanted):
        raise Violation(Invariant.DEPENDENCIES_FIRST, str(write))


def find_template(workload: Json) -> Json:
    """Of the pods that a StatefulSet, Job or CronJob makes."""
    spec: Json = workload["spec"]
    template: Json = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    return template


def find_job_name(child: Json) -> str:
    return str(child["metadata"].get("labels", {}).get(names.LABEL_JOB, ""))


def must_keep_driver(write: Write, namespace: str, job: str) -> bool:
    """Whether the spec that the writer saw must leave a driver as it is."""
    address = Address(Kind.DEDUP_JOBS, namespace, job)
    versions = (write.last_reads.get(address), write.previous_reads.get(address))
    return all(last_reads is not None and _must_keep_driver(write, namespace, job, last_reads["spec"]) for last_reads in versions)


def _must_keep_driver(write: Write, namespace: str, job: str, spec: Json) -> bool:
    if spec.get("suspend") is True:
        return False
    if is_invalid_spec(spec):
        return True
    checkpoint_object = write.last_reads.get(find_checkpoint_object(spec, namespace, job))
    if checkpoint_object is None or "deletionTimestamp" in checkpoint_object["metadata"]:
        return False
    annotations = checkpoint_object["metadata"].get("annotations", {})
    if CHECKPOINT_BEGUN not in annotations or CHECKPOINT_CONFIG not in annotations:
        return False
    begun = parse_job_json(annotations[CHECKPOINT_CONFIG])
    return bool(list_state_changes(begun, build_desired_config(namespace, job, spec, begun)))


def build_desired_config(namespace: str, job: str, spec: Json, pinned: JobConfig | None) -> JobConfig:
    return build_driver_settings(namespace, job, parse_spec(spec), pinned).config


def parse_spec(spec: Json) -> DedupJobSpec:
    return _parse(marshal.dumps(spec))


@lru_cache(maxsize=4096)
def _parse(document: bytes) -> DedupJobSpec:
    return DedupJobSpec.model_validate(marshal.loads(document))
