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
from simulation.driver import DriverProcess, parse_job_json
from simulation.faults import Fault
from simulation.folders import SHARED, find_claim_name, find_memory, find_mounted, is_record, name_memory
from simulation.nodes import find_config_name
from simulation.users import is_broken
from simulation.watch import Write

if TYPE_CHECKING:
    from simulation.world import World


WORKLOADS = (Kind.STATEFUL_SETS, Kind.JOBS, Kind.CRON_JOBS)


class Law(StrEnum):
    ONE_LIVE_DRIVER = "at most one live driver per checkpoint"
    ONE_CONTAINER = "at most one running driver container per checkpoint, by the control plane alone"
    ONE_TEMPLATE = "never two templates running at once"
    TEMPLATE_BESIDE_POD = "a template never changes beside a pod that may still live"
    CLAIM_KEPT = "the claim is never deleted unless asked"
    EDIT_STOPS_NOTHING = "an edit that is invalid or blocked never stops or changes a driver"
    GENERATION_NOT_AHEAD = "observedGeneration is never ahead of what was acted on"
    FOLDER_TAKEN = "no driver is started in a folder that another job has taken, and what is noted of a folder stays"
    NEVER_ANEW = "keys that are known to be lost are never begun anew in silence"
    KEYS_FIT = "a checkpoint that is known to have begun is never continued with settings that it does not fit"
    IMAGE_OF_TODAY = "every start takes the job image that its operator has"
    UPGRADE_IS_QUIET = "an operator with another job image ends no driver"
    NO_FINALIZER = "nothing but status is ever written on a DedupJob"
    SEEN_BEFORE_WRITTEN = "a replaced object is in a version that its writer has read"
    FOREIGN_UNTOUCHED = "objects of others are never changed"
    SURROUNDINGS_FIRST = "a StatefulSet is made after all that its pod needs"
    REACHED = "the desired state is reached"
    STAYS = "the desired state stays, without a write"
    NO_BUG = "the operator raises only its own errors"


class Violation(AssertionError):
    def __init__(self, law: Law, detail: str) -> None:
        super().__init__(f"{law}: {detail}")
        self.law = law


def check_processes(world: World) -> None:
    if len(world.processes) < 2:
        return
    for process in world.processes:
        volume = process.volume
        if process.attempt is not None and volume.holder is not process:
            raise Violation(Law.ONE_LIVE_DRIVER, f"{process.pod_uid} works without the lock")
        beside = [other for other in world.processes if other.volume is volume]
        if len(beside) < 2:
            continue
        if _come_from_two_kinds(world, beside):
            continue
        with_pod = [other for other in beside if world.has_pod(other.pod_uid)]
        described = " and ".join(other.pod_uid for other in beside)
        if len({other.text for other in with_pod}) > 1:
            raise Violation(Law.ONE_TEMPLATE, described)
        if len(with_pod) > 1 or volume not in world.forced:
            raise Violation(Law.ONE_CONTAINER, described)


def _come_from_two_kinds(world: World, processes: list[DriverProcess]) -> bool:
    """A name is a lock within one kind only. Where a read is older than an answer that somebody got, or a write arrives long after it was
    given up, a Job can so come up beside a StatefulSet, and only the checkpoint's lock is left. A real API server's reads are current."""
    if not {Fault.STALE_READ, Fault.LATE_WRITE} & world.faults.kinds:
        return False
    of_one_job = len({process.config.name for process in processes}) == 1
    return of_one_job and len({world.nodes.runs[process.pod_uid].restart for process in processes}) > 1


def check_change(world: World, change: Change) -> None:
    """Of anybody's change."""
    if change.address.kind is not Kind.CLAIMS or change.actor == "people" or change.old is None:
        return
    metadata = change.old["metadata"]
    going = change.event is Event.DELETED or (change.new is not None and "deletionTimestamp" in change.new["metadata"])
    if not going or "deletionTimestamp" in metadata:
        return
    if change.actor != "gc":
        raise Violation(Law.CLAIM_KEPT, f"{change.actor} deletes {change.address}")
    for person in world.people:
        if change.address.name != names.claim_name(person.name) or metadata["uid"] in person.asked_to_delete:
            continue
        owners = metadata.get("ownerReferences", [])
        person.let_go = True
        if not any(_asked(world, person.policies.get(owner["uid"], []), owner["uid"]) for owner in owners):
            raise Violation(Law.CLAIM_KEPT, f"{change.address} goes with its DedupJob")


def _asked(world: World, policies: list[tuple[int, str, bool]], uid: str) -> bool:
    """Whether the last spec that was acted on, or one after it, says Delete."""
    observed = world.observed.get(uid, -1)
    acted = [policy for generation, policy, legible in policies if generation <= observed and legible][-1:]
    return "Delete" in [*acted, *(policy for generation, policy, _ in policies if generation > observed)]


def check_write(world: World, write: Write, old: Json | None, new: Json | None, image: str) -> None:
    """Of a write by the operator that the API server has carried out. `new` is None where the object is gone."""
    address = write.address
    if address is None:
        return
    if old is not None and _means_a_version(write) and not write.has_read(old):
        raise Violation(Law.SEEN_BEFORE_WRITTEN, str(write))
    if address.kind is Kind.CLAIMS and address.name == SHARED:
        raise Violation(Law.FOREIGN_UNTOUCHED, str(write))
    if address.kind is Kind.CONFIG_MAPS and old is not None and is_record(old):
        _check_record(write, old, new)
    if address.kind in WORKLOADS and new is not None and write.verb != "delete":
        _check_start(world, write, old, new, image)
    if old is not None and any(old["metadata"]["uid"] in person.foreign for person in world.people):
        raise Violation(Law.FOREIGN_UNTOUCHED, str(write))
    if address.kind is Kind.DEDUP_JOBS:
        _check_job_write(world, write, old, new)
    elif address.kind is Kind.STATEFUL_SETS and write.verb == "replace" and old is not None and new is not None:
        _check_set_write(world, write, address, old, new)
    elif address.kind in WORKLOADS and write.verb == "create" and new is not None:
        _check_surroundings(world, write, new)
    elif write.verb == "delete" and address.kind in WORKLOADS and old is not None:
        _check_removal(world, write, old)
    elif address.kind in {Kind.JOBS, Kind.CRON_JOBS} and write.verb == "replace" and old is not None and new is not None:
        stops = bool(new["spec"].get("suspend")) and not old["spec"].get("suspend")
        if stops and is_unusable(write, address.namespace, find_job_name(old)):
            raise Violation(Law.EDIT_STOPS_NOTHING, str(write))


def _means_a_version(write: Write) -> bool:
    """A deletion may mean the object, whatever has become of it."""
    return write.verb in {"replace", "status"} or (write.verb == "delete" and "resourceVersion" in write.body)


def _check_record(write: Write, old: Json, new: Json | None) -> None:
    """Name and label are whose folder it is; what it says is about that job's keys, and once there are any it stays."""
    if new is None or find_job_name(new) != find_job_name(old):
        raise Violation(Law.FOLDER_TAKEN, str(write))
    noted = parse_job_json(new["metadata"]["annotations"][CHECKPOINT_CONFIG])
    if noted.name != find_job_name(new):
        raise Violation(Law.FOLDER_TAKEN, f"{write} notes the settings of {noted.name}")
    before, after = (body["metadata"].get("annotations", {}) for body in (old, new))
    if CHECKPOINT_BEGUN in before and any(before.get(mark) != after.get(mark) for mark in (CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CLAIM_UID)):
        raise Violation(Law.FOLDER_TAKEN, str(write))


def _check_start(world: World, write: Write, old: Json | None, new: Json, image: str) -> None:
    """Of a template that the operator has written."""
    template, namespace, job = find_template(new), new["metadata"]["namespace"], find_job_name(new)
    if old is not None and find_template(old) == template:
        return
    if template["spec"]["containers"][0]["image"] != image:
        raise Violation(Law.IMAGE_OF_TODAY, str(write))
    claim, folder = find_mounted(template)
    memory = name_memory(namespace, claim, folder)
    record = world.server.peek(*memory)
    if folder and (record is None or find_job_name(record) != job):
        raise Violation(Law.FOLDER_TAKEN, str(write))
    known = write.seen.get(memory)
    annotations = known["metadata"].get("annotations", {}) if known is not None else {}
    there = write.seen.get(Address(Kind.CLAIMS, namespace, claim))
    if folder and CHECKPOINT_BEGUN in annotations and there is not None and annotations.get(CLAIM_UID) != there["metadata"]["uid"]:
        raise Violation(Law.NEVER_ANEW, str(write))
    config = world.server.peek(Kind.CONFIG_MAPS, namespace, find_config_name(template))
    if CHECKPOINT_BEGUN not in annotations or CHECKPOINT_CONFIG not in annotations or config is None:
        return
    changes = list_state_changes(parse_job_json(annotations[CHECKPOINT_CONFIG]), parse_job_json(config["data"]["job.json"]))
    if changes:
        raise Violation(Law.KEYS_FIT, f"{write}: {', '.join(changes)}")


def _check_job_write(world: World, write: Write, old: Json | None, new: Json | None) -> None:
    if write.verb != "status" or old is None or new is None:
        raise Violation(Law.NO_FINALIZER, str(write))
    assert write.address is not None
    versions = (write.seen.get(write.address), write.earlier.get(write.address))
    known = max((version["metadata"]["generation"] for version in versions if version is not None), default=-1)
    observed = new["status"]["observedGeneration"]
    if observed > min(known, new["metadata"]["generation"]):
        raise Violation(Law.GENERATION_NOT_AHEAD, f"{observed}")
    world.observed[new["metadata"]["uid"]] = observed


def _check_set_write(world: World, write: Write, address: Address, old: Json, new: Json) -> None:
    changed = old["spec"]["template"] != new["spec"]["template"]
    if changed:
        pod = world.server.peek(Kind.PODS, address.namespace, f"{address.name}-0")
        owner = find_controller(pod) if pod is not None and not has_ended(pod) else None
        by_hand = any(old["metadata"]["uid"] in person.touched for person in world.people)  # set right for the next start
        if owner is not None and owner["uid"] == old["metadata"]["uid"] and not by_hand:
            raise Violation(Law.TEMPLATE_BESIDE_POD, str(write))
    stops = new["spec"]["replicas"] < old["spec"]["replicas"]
    if (stops or changed) and is_unusable(write, address.namespace, find_job_name(old)):
        raise Violation(Law.EDIT_STOPS_NOTHING, str(write))


def _check_removal(world: World, write: Write, old: Json) -> None:
    assert write.address is not None
    namespace, job = write.address.namespace, find_job_name(old)
    if write.address.name != names.driver_name(job):
        return  # a run of a schedule
    beside = [kind for kind in WORKLOADS if kind is not write.address.kind and world.server.peek(kind, namespace, write.address.name)]
    if not beside and is_unusable(write, namespace, job):
        raise Violation(Law.EDIT_STOPS_NOTHING, str(write))


def _check_surroundings(world: World, write: Write, new: Json) -> None:
    """Each is there, or was as far as the writer knew, before the object that makes the pods."""
    namespace, job = new["metadata"]["namespace"], find_job_name(new)
    template = find_template(new)
    wanted = [
        Address(Kind.CLAIMS, namespace, find_claim_name(template)),
        Address(Kind.CONFIG_MAPS, namespace, find_config_name(template)),
        Address(Kind.SERVICES, namespace, names.driver_name(job)),
    ]
    there = [address for address in wanted if write.seen.get(address) or world.server.peek(address.kind, namespace, address.name)]
    if len(there) < len(wanted):
        raise Violation(Law.SURROUNDINGS_FIRST, str(write))


def find_template(workload: Json) -> Json:
    """Of the pods that a StatefulSet, Job or CronJob makes."""
    spec: Json = workload["spec"]
    template: Json = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    return template


def find_job_name(child: Json) -> str:
    return str(child["metadata"].get("labels", {}).get(names.LABEL_JOB, ""))


def is_unusable(write: Write, namespace: str, job: str) -> bool:
    """Whether the spec that the writer saw must leave a driver as it is."""
    address = Address(Kind.DEDUP_JOBS, namespace, job)
    versions = (write.seen.get(address), write.earlier.get(address))
    return all(seen is not None and _is_unusable(write, namespace, job, seen["spec"]) for seen in versions)


def _is_unusable(write: Write, namespace: str, job: str, spec: Json) -> bool:
    if spec.get("suspend") is True:
        return False
    if is_broken(spec):
        return True
    memory = write.seen.get(find_memory(spec, namespace, job))
    if memory is None or "deletionTimestamp" in memory["metadata"]:
        return False
    annotations = memory["metadata"].get("annotations", {})
    if CHECKPOINT_BEGUN not in annotations or CHECKPOINT_CONFIG not in annotations:
        return False
    begun = parse_job_json(annotations[CHECKPOINT_CONFIG])
    return bool(list_state_changes(begun, find_wanted_config(namespace, job, spec, begun)))


def find_wanted_config(namespace: str, job: str, spec: Json, pinned: JobConfig | None) -> JobConfig:
    return build_driver_settings(namespace, job, parse_document(spec), pinned).config


def parse_document(spec: Json) -> DedupJobSpec:
    return _parse(marshal.dumps(spec))


@lru_cache(maxsize=4096)
def _parse(document: bytes) -> DedupJobSpec:
    return DedupJobSpec.model_validate(marshal.loads(document))
