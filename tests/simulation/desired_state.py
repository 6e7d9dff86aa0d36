"""What should stand in the cluster in the end, worked out from what people wrote last and from what really lies on the volume.

The operator's view plays no part: where it believes something else than is true, the two never meet, and the seed fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dedup_api import names
from dedup_api.changes import list_state_changes
from dedup_api.driver_status import Phase
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.annotations import CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CLAIM_UID, GIVEN_UP, ROLLING, parse_given_up
from dedup_operator.domain.driver_objects import Kind as WorkloadKind
from dedup_operator.domain.driver_objects import choose_kind
from dedup_operator.domain.observe.pod import has_ended
from dedup_operator.domain.observe.workload import find_replicas
from simulation.api_server import Json, Kind, render_time
from simulation.checkpoint_location import build_volume_key, find_checkpoint_location, find_checkpoint_object, is_folder_record
from simulation.driver import FAILING_CONSUMER_GROUP, Volume, parse_job_json
from simulation.invariants import WORKLOADS, build_desired_config, find_job_name, find_template, parse_spec
from simulation.nodes import find_config_name
from simulation.users import NAMESPACE, is_invalid_spec
from simulation.workload_controllers import find_end

if TYPE_CHECKING:
    from simulation.run import Simulation
    from simulation.users import User


class JobObjects:
    """What there is of one DedupJob."""

    def __init__(self, simulation: Simulation, user: User) -> None:
        server, self.name = simulation.server, user.name
        self.simulation, self.user = simulation, user
        self.job = server.peek(Kind.DEDUP_JOBS, NAMESPACE, self.name)
        spec = self.job["spec"] if self.job is not None else {}
        claim, self.folder = find_checkpoint_location(spec, self.name)
        self.claim = server.peek(Kind.CLAIMS, NAMESPACE, claim)
        self.checkpoint_object = server.peek(*find_checkpoint_object(spec, NAMESPACE, self.name))
        self.workloads = [body for kind in WORKLOADS if (body := server.peek(kind, NAMESPACE, names.driver_name(self.name))) is not None]
        self.pods = [pod for pod in self._own(Kind.PODS) if not has_ended(pod)]
        self.conflicting_objects = [
            body
            for kind in (*WORKLOADS, Kind.SERVICES, *(() if self.folder else (Kind.CLAIMS,)))
            for body in server.scan(kind)
            if body["metadata"]["uid"] in user.conflicting_objects
        ]

    def _own(self, kind: Kind) -> list[Json]:
        bodies = self.simulation.server.scan(kind, NAMESPACE)
        return [body for body in bodies if body["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name]

    @property
    def volume(self) -> Volume | None:
        return self.simulation.volumes.get(build_volume_key(self.claim["metadata"]["uid"], self.folder)) if self.claim is not None else None

    @property
    def lacks_claim(self) -> bool:
        return self.claim is None or "deletionTimestamp" in self.claim["metadata"]

    @property
    def claim_recreated(self) -> bool:
        """The keys that are noted went with an earlier claim of the name."""
        noted = self.checkpoint_object["metadata"].get("annotations", {}).get(CLAIM_UID) if self.checkpoint_object is not None else None
        return self.known_to_have_state and self.claim is not None and noted not in (None, self.claim["metadata"]["uid"])

    @property
    def folder_owner(self) -> str | None:
        """Whose folder it is; None where nobody has taken it yet."""
        return find_job_name(self.checkpoint_object) if self.folder and self.checkpoint_object is not None else None

    def condition(self, kind: str) -> tuple[str, str]:
        """(status, reason); empty where there is none."""
        assert self.job is not None
        found = next((entry for entry in self.job["status"].get("conditions", []) if entry["type"] == kind), None)
        return (found["status"], found["reason"]) if found else ("", "")

    def list_leftovers(self) -> list[str]:
        kinds = (*WORKLOADS, Kind.SERVICES, Kind.CONFIG_MAPS, Kind.PODS)
        return [f"{kind}/{body['metadata']['name']}" for kind in kinds for body in self._own(kind) if not is_folder_record(body)]

    def list_annotations(self, name: str) -> list[str]:
        found = (workload["metadata"].get("annotations", {}).get(name) for workload in self.workloads)
        return [mark for mark in found if mark is not None]

    @property
    def given_up(self) -> bool:
        reasons = [parse_given_up(mark) for mark in self.list_annotations(GIVEN_UP)]
        generation = self.job["metadata"]["generation"] if self.job is not None else -1
        return self.stopped and any(why is not None and why.generation == generation for why in reasons)

    @property
    def known_to_have_state(self) -> bool:
        return self.checkpoint_object is not None and CHECKPOINT_BEGUN in self.checkpoint_object["metadata"].get("annotations", {})

    @property
    def recorded_config(self) -> JobConfig | None:
        """What the keys are said to belong to."""
        text = (
            self.checkpoint_object["metadata"].get("annotations", {}).get(CHECKPOINT_CONFIG) if self.checkpoint_object is not None else None
        )
        return parse_job_json(text) if text else None

    @property
    def stopped(self) -> bool:
        return not self.pods and all(find_replicas(body) == 0 or find_end(body) is not None for body in self.workloads)

    @property
    def restart_unfinished(self) -> bool:
        """On its way to other settings, which nobody carries on. A run that was through before it was stopped is not missing."""
        ended = any(body["kind"] == WorkloadKind.JOB and find_end(body) == "Complete" for body in self.workloads)
        return self.stopped and bool(self.list_annotations(ROLLING)) and not ended


def find_deviation(simulation: Simulation, user: User) -> str:
    """What is not as it should be; empty where all is."""
    objects = JobObjects(simulation, user)
    if objects.job is None:
        list_leftovers = objects.list_leftovers()
        return f"{list_leftovers} stay without their DedupJob" if list_leftovers else ""
    if "deletionTimestamp" in objects.job["metadata"]:
        return "the DedupJob is going"
    if objects.job["status"]["observedGeneration"] != objects.job["metadata"]["generation"]:
        return f"generation {objects.job['metadata']['generation']} is not observed"
    spec = objects.job["spec"]
    suspended = spec.get("suspend") is True
    if suspended and not (objects.stopped or objects.conflicting_objects):
        return "it is suspended, and not stopped"
    if is_invalid_spec(spec):
        return _compare_refusal(objects, {Reason.INVALID_SPEC}, suspended=suspended)
    if objects.conflicting_objects:
        return _compare_refusal(objects, {Reason.NAME_CONFLICT}, suspended=True)
    if objects.folder_owner not in (None, objects.name):
        return _compare_refusal(objects, {Reason.CHECKPOINT_TAKEN}, suspended=suspended)
    if objects.claim is None and not objects.workloads and suspended and objects.condition("Ready") == ("True", Reason.SUSPENDED):
        return ""  # before it ever ran
    if objects.folder and ((objects.lacks_claim and simulation.claim_recreated) or objects.claim_recreated):
        return _compare_refusal(
            objects, {Reason.CHECKPOINT_LOST, *((Reason.CHECKPOINT_PENDING,) if objects.claim is None else ())}, suspended=True
        )
    if objects.lacks_claim:
        return (
            _compare_refusal(objects, {Reason.CHECKPOINT_LOST}, suspended=True)
            if user.deleted_claims or user.claim_deleted_with_job
            else "there is no claim"
        )
    return _compare_with_spec(objects, parse_spec(spec), suspended)


def _compare_refusal(objects: JobObjects, reasons: set[Reason], *, suspended: bool) -> str:
    status, reason = objects.condition("Ready")
    if (status, reason) not in {("False", wanted.value) for wanted in reasons}:
        return f"Ready is {status}, {reason}, and not one of {sorted(reasons)}"
    if objects.restart_unfinished and not suspended:
        return "the driver was stopped for other settings, and nobody brings it back"
    return ""


def _compare_with_spec(objects: JobObjects, spec: DedupJobSpec, suspended: bool) -> str:
    begun = objects.volume.state_config if objects.volume is not None else None
    assert objects.job is not None
    wanted = build_desired_config(NAMESPACE, objects.name, objects.job["spec"], begun)
    if (
        begun is not None
        and objects.known_to_have_state
        and (objects.recorded_config is None or list_state_changes(begun, objects.recorded_config))
    ):
        return "what is noted about the keys is not what they were made with"
    if begun is not None and list_state_changes(begun, wanted):
        refused = objects.given_up and objects.condition("Ready") == ("False", Reason.CONFIGURATION_REFUSED)
        # Where nobody saw the beginning, the next driver finds out; until then nobody can know.
        rests = objects.given_up or (not objects.pods and objects.condition("Ready")[1] in {Reason.SUSPENDED, Reason.SCHEDULED})
        resting = rests and not objects.known_to_have_state
        return "" if refused or resting else _compare_refusal(objects, {Reason.CHANGE_BLOCKED}, suspended=suspended)
    if suspended:
        return (
            "" if objects.condition("Ready") == ("True", Reason.SUSPENDED) else f"Ready is {objects.condition('Ready')}, and not suspended"
        )
    if objects.given_up:
        known = (
            spec.source.consumer_group == FAILING_CONSUMER_GROUP or objects.job["metadata"]["uid"] in objects.simulation.permanently_failed
        )
        return "" if known and objects.condition("Stalled")[0] == "True" else "it was given up without a permanent end"
    if len(objects.workloads) != 1 or objects.workloads[0]["kind"] != choose_kind(spec):
        return f"{[body['kind'] for body in objects.workloads]} instead of a {choose_kind(spec)}"
    expect = {WorkloadKind.STATEFUL_SET: _compare_driver, WorkloadKind.JOB: _compare_completion, WorkloadKind.CRON_JOB: _compare_schedule}
    if choose_kind(spec) is WorkloadKind.CRON_JOB and not objects.known_to_have_state:
        # Nobody saw the beginning: the next run will, and refuses what does not fit.
        wanted = build_desired_config(NAMESPACE, objects.name, objects.job["spec"], None)
    return expect[choose_kind(spec)](objects, spec, wanted.to_json_dict()) or _compare_dependencies(objects, spec)


def _compare_completion(objects: JobObjects, spec: DedupJobSpec, wanted: Json) -> str:
    assert objects.job is not None
    if objects.pods or objects.condition("Ready") != ("True", Reason.COMPLETED):
        return f"Ready is {objects.condition('Ready')} with {len(objects.pods)} pods, and not completed"
    text, since = objects.simulation.completed_runs.get(objects.name, ("", 0.0))
    if not text or parse_job_json(text).to_json_dict() != wanted:
        return "what ran last had other settings"
    return "the run is older than restartNonce" if since < objects.user.nonce_times.get(objects.job["metadata"]["uid"], 0.0) else ""


def _compare_schedule(objects: JobObjects, spec: DedupJobSpec, wanted: Json) -> str:
    if objects.pods or objects.condition("Ready") != ("True", Reason.SCHEDULED):
        return f"Ready is {objects.condition('Ready')} with {len(objects.pods)} pods, and not scheduled"
    template = find_template(objects.workloads[0])
    if template["spec"]["containers"][0]["image"] != objects.simulation.image.reference:
        return "the next run has the image of an earlier operator"
    config = objects.simulation.server.peek(Kind.CONFIG_MAPS, NAMESPACE, find_config_name(template))
    if config is None or parse_job_json(config["data"]["job.json"]).to_json_dict() != wanted:
        return "the next run has other settings"
    return "the schedule is suspended" if objects.workloads[0]["spec"].get("suspend") else ""


def _compare_driver(objects: JobObjects, spec: DedupJobSpec, wanted: Json) -> str:
    if len(objects.pods) != 1:
        return f"{len(objects.pods)} pods"
    pod, run = objects.pods[0], objects.simulation.nodes.runs[objects.pods[0]["metadata"]["uid"]]
    process = run.process
    if process is None or not process.alive or process.phase is not Phase.RUNNING or "deletionTimestamp" in pod["metadata"]:
        return "no driver is at work"
    running = process.config.to_json_dict()
    if running != wanted:
        different = sorted(field for field in running.keys() | wanted.keys() if running.get(field) != wanted.get(field))
        return f"the driver runs with another {', '.join(different)}"
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    if limits != {"cpu": str(spec.driver.resources.limits.cpu), "memory": str(spec.driver.resources.limits.memory)}:
        return "the driver has other resources"
    assert objects.job is not None
    if pod["metadata"]["creationTimestamp"] < render_time(objects.user.nonce_times.get(objects.job["metadata"]["uid"], 0.0)):
        return "the driver is older than restartNonce"
    if objects.condition("Ready") != ("True", Reason.RUNNING):
        return f"Ready is {objects.condition('Ready')}, and not running"
    return ""


def _compare_dependencies(objects: JobObjects, spec: DedupJobSpec) -> str:
    assert objects.job is not None and objects.claim is not None
    if objects.folder and objects.folder_owner is None:
        return "the driver's folder is not noted as taken"
    owned = any(owner["uid"] == objects.job["metadata"]["uid"] for owner in objects.claim["metadata"].get("ownerReferences", []))
    if owned != (spec.checkpoint.reclaim_policy == "Delete"):
        return f"the claim's owner is not what {spec.checkpoint.reclaim_policy} asks for"
    if objects.simulation.server.peek(Kind.SERVICES, NAMESPACE, names.driver_name(objects.name)) is None:
        return "there is no Service"
    maps = [body["metadata"]["name"] for body in objects._own(Kind.CONFIG_MAPS) if not is_folder_record(body)]
    return "" if maps == [find_config_name(find_template(objects.workloads[0]))] else f"ConfigMaps {maps}"
