"""Compares the cluster with the desired state: the objects, drivers and conditions that the users' last specs ask for.

The desired state is computed from the specs and from the real content of the checkpoints, not from what the operator
believes. If the operator believes something wrong, the cluster never reaches the desired state, and the seed fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dedup_api import names
from dedup_api.changes import list_state_changes
from dedup_api.driver_status import Phase
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.annotations import (
    APPLIED_GENERATION,
    CHECKPOINT_BEGUN,
    CHECKPOINT_CONFIG,
    CLAIM_UID,
    GIVEN_UP,
    ROLLING,
    parse_given_up,
)
from dedup_operator.domain.driver_objects import Kind as WorkloadKind
from dedup_operator.domain.driver_objects import choose_kind
from dedup_operator.domain.observe.pod import has_ended
from dedup_operator.domain.observe.workload import find_replicas
from simulation.api_server import Json, Kind, render_time
from simulation.checkpoint_location import (
    build_volume_key,
    find_checkpoint_location,
    find_checkpoint_object_address,
    find_mounted_location,
    is_folder_record,
)
from simulation.driver import FAILING_CONSUMER_GROUP, Volume, parse_job_json
from simulation.invariants import WORKLOADS, build_desired_config, find_job_name, find_template, parse_spec
from simulation.nodes import find_config_name
from simulation.users import NAMESPACE, is_invalid_spec
from simulation.workload_controllers import find_end

if TYPE_CHECKING:
    from simulation.run import Simulation
    from simulation.users import User


class JobObjects:
    """The objects that exist for one DedupJob."""

    def __init__(self, simulation: Simulation, user: User) -> None:
        server, self.name = simulation.server, user.name
        self.simulation, self.user = simulation, user
        self.job = server.peek(Kind.DEDUP_JOBS, NAMESPACE, self.name)
        spec = self.job["spec"] if self.job is not None else {}
        claim, self.folder = find_checkpoint_location(spec, self.name)
        self.claim = server.peek(Kind.CLAIMS, NAMESPACE, claim)
        self.checkpoint_object = server.peek(*find_checkpoint_object_address(spec, NAMESPACE, self.name))
        self.workloads = [body for kind in WORKLOADS if (body := server.peek(kind, NAMESPACE, names.driver_name(self.name))) is not None]
        self.pods = [pod for pod in self.list_own(Kind.PODS) if not has_ended(pod)]
        self.conflicting_objects = [
            body
            for kind in (*WORKLOADS, Kind.SERVICES, *(() if self.folder else (Kind.CLAIMS,)))
            for body in server.scan(kind)
            if body["metadata"]["uid"] in user.conflicting_objects
        ]

    def list_own(self, kind: Kind) -> list[Json]:
        bodies = self.simulation.server.scan(kind, NAMESPACE)
        return [body for body in bodies if body["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name]

    @property
    def volume(self) -> Volume | None:
        return self.simulation.volumes.get(build_volume_key(self.claim["metadata"]["uid"], self.folder)) if self.claim is not None else None

    @property
    def is_moved(self) -> bool:
        """The workload mounts another place than the spec names."""
        assert self.job is not None
        wanted = find_checkpoint_location(self.job["spec"], self.name)
        return any(find_mounted_location(find_template(workload)) != wanted for workload in self.workloads)

    @property
    def has_keys_elsewhere(self) -> bool:
        assert self.job is not None
        here = build_volume_key(self.claim["metadata"]["uid"], self.folder) if self.claim is not None else ""
        places = self.simulation.moves.places_with_keys.get(self.job["metadata"]["uid"], set())
        existing = {claim["metadata"]["uid"] for claim in self.simulation.server.scan(Kind.CLAIMS)}
        return any(place != here and place.split("/")[0] in existing for place in places)

    @property
    def lacks_claim(self) -> bool:
        return self.claim is None or "deletionTimestamp" in self.claim["metadata"]

    @property
    def claim_recreated(self) -> bool:
        """Whether the recorded keys were on an earlier claim of the same name."""
        recorded_uid = (
            self.checkpoint_object["metadata"].get("annotations", {}).get(CLAIM_UID) if self.checkpoint_object is not None else None
        )
        return self.known_to_have_state and self.claim is not None and recorded_uid not in (None, self.claim["metadata"]["uid"])

    @property
    def folder_owner(self) -> str | None:
        """The DedupJob that owns the folder; None if no job has taken it yet."""
        return find_job_name(self.checkpoint_object) if self.folder and self.checkpoint_object is not None else None

    def condition(self, kind: str) -> tuple[str, str]:
        """(status, reason) of a condition; two empty strings if it does not exist."""
        assert self.job is not None
        found = next((entry for entry in self.job["status"].get("conditions", []) if entry["type"] == kind), None)
        return (found["status"], found["reason"]) if found else ("", "")

    def list_leftovers(self) -> list[str]:
        kinds = (*WORKLOADS, Kind.SERVICES, Kind.CONFIG_MAPS, Kind.PODS)
        return [f"{kind}/{body['metadata']['name']}" for kind in kinds for body in self.list_own(kind) if not is_folder_record(body)]

    def list_annotations(self, name: str) -> list[str]:
        found = (workload["metadata"].get("annotations", {}).get(name) for workload in self.workloads)
        return [value for value in found if value is not None]

    @property
    def given_up(self) -> bool:
        reasons = [parse_given_up(value) for value in self.list_annotations(GIVEN_UP)]
        generation = self.job["metadata"]["generation"] if self.job is not None else -1
        return self.stopped and any(reason is not None and reason.generation == generation for reason in reasons)

    @property
    def known_to_have_state(self) -> bool:
        return self.checkpoint_object is not None and CHECKPOINT_BEGUN in self.checkpoint_object["metadata"].get("annotations", {})

    @property
    def recorded_config(self) -> JobConfig | None:
        """The settings that the operator recorded for the stored keys."""
        annotations = self.checkpoint_object["metadata"].get("annotations", {}) if self.checkpoint_object is not None else {}
        text = annotations.get(CHECKPOINT_CONFIG)
        return parse_job_json(text) if text else None

    @property
    def stopped(self) -> bool:
        return not self.pods and all(find_replicas(body) == 0 or find_end(body) is not None for body in self.workloads)

    @property
    def restart_unfinished(self) -> bool:
        """Whether the driver was stopped for new settings and not started again. A Kubernetes Job that completed before
        it was stopped does not count."""
        completed = any(body["kind"] == WorkloadKind.JOB and find_end(body) == "Complete" for body in self.workloads)
        return self.stopped and bool(self.list_annotations(ROLLING)) and not completed


def find_deviation(simulation: Simulation, user: User) -> str:
    """Describes the first difference from the desired state. Returns an empty string if there is none."""
    objects = JobObjects(simulation, user)
    if objects.job is None:
        leftovers = objects.list_leftovers()
        return f"the DedupJob is deleted, and these objects still exist: {', '.join(leftovers)}" if leftovers else ""
    if "deletionTimestamp" in objects.job["metadata"]:
        return "the DedupJob is still being deleted"
    observed, generation = objects.job["status"]["observedGeneration"], objects.job["metadata"]["generation"]
    if observed != generation:
        return f"observedGeneration is {observed} and not {generation}"
    spec = objects.job["spec"]
    suspended = spec.get("suspend") is True
    if suspended and not (objects.stopped or objects.conflicting_objects):
        return "the DedupJob is suspended, and its driver still runs"
    if is_invalid_spec(spec):
        return _compare_refusal(objects, {Reason.INVALID_SPEC}, suspended=suspended)
    if objects.conflicting_objects:
        return _compare_refusal(objects, {Reason.NAME_CONFLICT}, suspended=True)
    if simulation.moves.active and objects.has_keys_elsewhere:
        return _compare_refusal(objects, {Reason.CHANGE_BLOCKED}, suspended=suspended)
    if simulation.moves.active and objects.is_moved and not objects.pods and objects.condition("Ready") == ("False", Reason.CHANGE_BLOCKED):
        return ""  # nothing proves that the last driver stored no keys
    if objects.folder_owner not in (None, objects.name):
        return _compare_refusal(objects, {Reason.CHECKPOINT_TAKEN}, suspended=suspended)
    if objects.claim is None and not objects.workloads and suspended and objects.condition("Ready") == ("True", Reason.SUSPENDED):
        return ""  # it was suspended before its first start
    if objects.folder and ((objects.lacks_claim and simulation.claim_recreated) or objects.claim_recreated):
        reasons = {Reason.CHECKPOINT_LOST, Reason.CHECKPOINT_PENDING} if objects.claim is None else {Reason.CHECKPOINT_LOST}
        return _compare_refusal(objects, reasons, suspended=True)
    if objects.lacks_claim and not (user.deleted_claims or user.claim_deleted_with_job):
        return "the checkpoint's claim does not exist, although nobody deleted it"
    if objects.lacks_claim:
        return _compare_refusal(objects, {Reason.CHECKPOINT_LOST}, suspended=True)
    return _compare_with_spec(objects, parse_spec(spec), suspended)


def _compare_refusal(objects: JobObjects, reasons: set[Reason], *, suspended: bool) -> str:
    """The operator must refuse the spec with one of these reasons, and must not leave a driver stopped because of the
    refused spec."""
    status, reason = objects.condition("Ready")
    if (status, reason) not in {("False", expected.value) for expected in reasons}:
        return f"Ready is {status} with reason {reason}, and not False with reason {' or '.join(sorted(reasons))}"
    if objects.restart_unfinished and not suspended:
        return "the driver was stopped for new settings, and is not started again"
    return ""


def _compare_ready(objects: JobObjects, reason: Reason) -> str:
    status, found = objects.condition("Ready")
    return "" if (status, found) == ("True", reason) else f"Ready is {status} with reason {found}, and not True with reason {reason}"


def _compare_with_spec(objects: JobObjects, spec: DedupJobSpec, suspended: bool) -> str:
    stored = objects.volume.state_config if objects.volume is not None else None
    assert objects.job is not None
    expected = build_desired_config(NAMESPACE, objects.name, objects.job["spec"], stored)
    if (
        stored is not None
        and objects.known_to_have_state
        and (objects.recorded_config is None or list_state_changes(stored, objects.recorded_config))
    ):
        return "the recorded settings are not those with which the keys were stored"
    if stored is not None and list_state_changes(stored, expected):
        refused = objects.given_up and objects.condition("Ready") == ("False", Reason.CONFIGURATION_REFUSED)
        # If the operator never saw that keys are stored, it cannot know it before the next driver starts and refuses
        # its settings.
        is_stopped = objects.given_up or (not objects.pods and objects.condition("Ready")[1] in {Reason.SUSPENDED, Reason.SCHEDULED})
        may_be_unknown = is_stopped and not objects.known_to_have_state
        return "" if refused or may_be_unknown else _compare_refusal(objects, {Reason.CHANGE_BLOCKED}, suspended=suspended)
    if suspended:
        return _compare_ready(objects, Reason.SUSPENDED)
    if objects.given_up:
        failed_uids = objects.simulation.permanently_failed
        fails_permanently = spec.source.consumer_group == FAILING_CONSUMER_GROUP or objects.job["metadata"]["uid"] in failed_uids
        stalled = objects.condition("Stalled")[0] == "True"
        return (
            "" if fails_permanently and stalled else "the operator gave up, although the driver did not fail permanently, or is not Stalled"
        )
    if len(objects.workloads) != 1 or objects.workloads[0]["kind"] != choose_kind(spec):
        return f"the workloads are {[body['kind'] for body in objects.workloads]} instead of one {choose_kind(spec)}"
    compare = {WorkloadKind.STATEFUL_SET: _compare_driver, WorkloadKind.JOB: _compare_completion, WorkloadKind.CRON_JOB: _compare_schedule}
    if choose_kind(spec) is WorkloadKind.CRON_JOB and not objects.known_to_have_state:
        # The operator does not know of stored keys. The next run does, and refuses settings that do not fit.
        expected = build_desired_config(NAMESPACE, objects.name, objects.job["spec"], None)
    return compare[choose_kind(spec)](objects, spec, expected.to_json_dict()) or _compare_dependencies(objects, spec)


def _compare_completion(objects: JobObjects, spec: DedupJobSpec, expected: Json) -> str:
    assert objects.job is not None
    if objects.pods:
        return f"{len(objects.pods)} pods still run after the Kubernetes Job"
    if deviation := _compare_ready(objects, Reason.COMPLETED):
        return deviation
    text, since = objects.simulation.completed_runs.get(objects.name, ("", 0.0))
    if not text or parse_job_json(text).to_json_dict() != expected:
        return "the last completed run had other settings"
    return (
        "the last completed run started before restartNonce was increased"
        if since < objects.user.nonce_times.get(objects.job["metadata"]["uid"], 0.0)
        else ""
    )


def _compare_schedule(objects: JobObjects, spec: DedupJobSpec, expected: Json) -> str:
    if objects.pods:
        return f"{len(objects.pods)} pods run, although no run is due"
    if deviation := _compare_ready(objects, Reason.SCHEDULED):
        return deviation
    template = find_template(objects.workloads[0])
    if template["spec"]["containers"][0]["image"] != objects.simulation.image.reference:
        return "the next run would use the job image of an earlier operator"
    config = objects.simulation.server.peek(Kind.CONFIG_MAPS, NAMESPACE, find_config_name(template))
    if config is None or parse_job_json(config["data"]["job.json"]).to_json_dict() != expected:
        return "the next run would use other settings"
    return "the CronJob is suspended" if objects.workloads[0]["spec"].get("suspend") else ""


def _compare_driver(objects: JobObjects, spec: DedupJobSpec, expected: Json) -> str:
    if len(objects.pods) != 1:
        return f"{len(objects.pods)} pods exist instead of one"
    pod, run = objects.pods[0], objects.simulation.nodes.runs[objects.pods[0]["metadata"]["uid"]]
    process = run.process
    if process is None or not process.alive or process.phase is not Phase.RUNNING or "deletionTimestamp" in pod["metadata"]:
        return "no driver works"
    running = process.config.to_json_dict()
    if running != expected:
        different = sorted(field for field in running.keys() | expected.keys() if running.get(field) != expected.get(field))
        return f"the driver runs with another {', '.join(different)}"
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    if limits != {"cpu": str(spec.driver.resources.limits.cpu), "memory": str(spec.driver.resources.limits.memory)}:
        return "the driver has other resources"
    assert objects.job is not None
    if pod["metadata"]["creationTimestamp"] < render_time(objects.user.nonce_times.get(objects.job["metadata"]["uid"], 0.0)):
        return "the driver started before restartNonce was increased or kubectl rollout restart was used"
    stateful_set = objects.workloads[0]
    if stateful_set["metadata"]["annotations"].get(APPLIED_GENERATION) != str(stateful_set["metadata"]["generation"]):
        return "something has changed the StatefulSet, and the operator has not restored it"
    return _compare_ready(objects, Reason.RUNNING)


def _compare_dependencies(objects: JobObjects, spec: DedupJobSpec) -> str:
    assert objects.job is not None and objects.claim is not None
    if objects.folder and objects.folder_owner is None:
        return "the driver uses a folder that has no owner"
    owned = any(owner["uid"] == objects.job["metadata"]["uid"] for owner in objects.claim["metadata"].get("ownerReferences", []))
    if owned != (spec.checkpoint.reclaim_policy == "Delete"):
        return f"the claim {'has' if owned else 'does not have'} the DedupJob as owner, with reclaimPolicy {spec.checkpoint.reclaim_policy}"
    if objects.simulation.server.peek(Kind.SERVICES, NAMESPACE, names.driver_name(objects.name)) is None:
        return "the driver's Service does not exist"
    config_maps = [body["metadata"]["name"] for body in objects.list_own(Kind.CONFIG_MAPS) if not is_folder_record(body)]
    needed = find_config_name(find_template(objects.workloads[0]))
    return "" if config_maps == [needed] else f"the ConfigMaps are {config_maps} instead of {needed}"
