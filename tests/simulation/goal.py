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
from simulation.api_server import Json, Kind, render_moment
from simulation.driver import POISON, Volume, parse_job_json
from simulation.folders import find_folder, find_memory, is_record, name_volume
from simulation.invariants import WORKLOADS, find_job_name, find_template, find_wanted_config, parse_document
from simulation.nodes import find_config_name
from simulation.users import NAMESPACE, is_broken
from simulation.workloads import find_end

if TYPE_CHECKING:
    from simulation.users import Person
    from simulation.world import World


class Scene:
    """What there is of one DedupJob."""

    def __init__(self, world: World, person: Person) -> None:
        server, self.name = world.server, person.name
        self.world, self.person = world, person
        self.job = server.peek(Kind.DEDUP_JOBS, NAMESPACE, self.name)
        spec = self.job["spec"] if self.job is not None else {}
        claim, self.folder = find_folder(spec, self.name)
        self.claim = server.peek(Kind.CLAIMS, NAMESPACE, claim)
        self.memory = server.peek(*find_memory(spec, NAMESPACE, self.name))
        self.workloads = [body for kind in WORKLOADS if (body := server.peek(kind, NAMESPACE, names.driver_name(self.name))) is not None]
        self.pods = [pod for pod in self._own(Kind.PODS) if not has_ended(pod)]
        self.foreign = [
            body
            for kind in (*WORKLOADS, Kind.SERVICES, *(() if self.folder else (Kind.CLAIMS,)))
            for body in server.scan(kind)
            if body["metadata"]["uid"] in person.foreign
        ]

    def _own(self, kind: Kind) -> list[Json]:
        bodies = self.world.server.scan(kind, NAMESPACE)
        return [body for body in bodies if body["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name]

    @property
    def volume(self) -> Volume | None:
        return self.world.volumes.get(name_volume(self.claim["metadata"]["uid"], self.folder)) if self.claim is not None else None

    @property
    def gone(self) -> bool:
        return self.claim is None or "deletionTimestamp" in self.claim["metadata"]

    @property
    def exchanged(self) -> bool:
        """The keys that are noted went with an earlier claim of the name."""
        noted = self.memory["metadata"].get("annotations", {}).get(CLAIM_UID) if self.memory is not None else None
        return self.known_to_have_begun and self.claim is not None and noted not in (None, self.claim["metadata"]["uid"])

    @property
    def holder(self) -> str | None:
        """Whose folder it is; None where nobody has taken it yet."""
        return find_job_name(self.memory) if self.folder and self.memory is not None else None

    def condition(self, kind: str) -> tuple[str, str]:
        """(status, reason); empty where there is none."""
        assert self.job is not None
        found = next((entry for entry in self.job["status"].get("conditions", []) if entry["type"] == kind), None)
        return (found["status"], found["reason"]) if found else ("", "")

    def leftovers(self) -> list[str]:
        kinds = (*WORKLOADS, Kind.SERVICES, Kind.CONFIG_MAPS, Kind.PODS)
        return [f"{kind}/{body['metadata']['name']}" for kind in kinds for body in self._own(kind) if not is_record(body)]

    def marks(self, name: str) -> list[str]:
        found = (workload["metadata"].get("annotations", {}).get(name) for workload in self.workloads)
        return [mark for mark in found if mark is not None]

    @property
    def given_up(self) -> bool:
        reasons = [parse_given_up(mark) for mark in self.marks(GIVEN_UP)]
        generation = self.job["metadata"]["generation"] if self.job is not None else -1
        return self.stopped and any(why is not None and why.generation == generation for why in reasons)

    @property
    def known_to_have_begun(self) -> bool:
        return self.memory is not None and CHECKPOINT_BEGUN in self.memory["metadata"].get("annotations", {})

    @property
    def remembered(self) -> JobConfig | None:
        """What the keys are said to belong to."""
        text = self.memory["metadata"].get("annotations", {}).get(CHECKPOINT_CONFIG) if self.memory is not None else None
        return parse_job_json(text) if text else None

    @property
    def stopped(self) -> bool:
        return not self.pods and all(find_replicas(body) == 0 or find_end(body) is not None for body in self.workloads)

    @property
    def stuck(self) -> bool:
        """On its way to other settings, which nobody carries on. A run that was through before it was stopped is not missing."""
        ended = any(body["kind"] == WorkloadKind.JOB and find_end(body) == "Complete" for body in self.workloads)
        return self.stopped and bool(self.marks(ROLLING)) and not ended


def find_shortfall(world: World, person: Person) -> str:
    """What is not as it should be; empty where all is."""
    scene = Scene(world, person)
    if scene.job is None:
        leftovers = scene.leftovers()
        return f"{leftovers} stay without their DedupJob" if leftovers else ""
    if "deletionTimestamp" in scene.job["metadata"]:
        return "the DedupJob is going"
    if scene.job["status"]["observedGeneration"] != scene.job["metadata"]["generation"]:
        return f"generation {scene.job['metadata']['generation']} is not observed"
    spec = scene.job["spec"]
    suspended = spec.get("suspend") is True
    if suspended and not (scene.stopped or scene.foreign):
        return "it is suspended, and not stopped"
    if is_broken(spec):
        return _expect_refusal(scene, {Reason.INVALID_SPEC}, suspended=suspended)
    if scene.foreign:
        return _expect_refusal(scene, {Reason.NAME_CONFLICT}, suspended=True)
    if scene.holder not in (None, scene.name):
        return _expect_refusal(scene, {Reason.CHECKPOINT_TAKEN}, suspended=suspended)
    if scene.claim is None and not scene.workloads and suspended and scene.condition("Ready") == ("True", Reason.SUSPENDED):
        return ""  # before it ever ran
    if scene.folder and ((scene.gone and world.exchanged) or scene.exchanged):
        return _expect_refusal(
            scene, {Reason.CHECKPOINT_LOST, *((Reason.CHECKPOINT_PENDING,) if scene.claim is None else ())}, suspended=True
        )
    if scene.gone:
        return (
            _expect_refusal(scene, {Reason.CHECKPOINT_LOST}, suspended=True)
            if person.asked_to_delete or person.let_go
            else "there is no claim"
        )
    return _compare_with_spec(scene, parse_document(spec), suspended)


def _expect_refusal(scene: Scene, reasons: set[Reason], *, suspended: bool) -> str:
    status, reason = scene.condition("Ready")
    if (status, reason) not in {("False", wanted.value) for wanted in reasons}:
        return f"Ready is {status}, {reason}, and not one of {sorted(reasons)}"
    if scene.stuck and not suspended:
        return "the driver was stopped for other settings, and nobody brings it back"
    return ""


def _compare_with_spec(scene: Scene, spec: DedupJobSpec, suspended: bool) -> str:
    begun = scene.volume.begun_with if scene.volume is not None else None
    assert scene.job is not None
    wanted = find_wanted_config(NAMESPACE, scene.name, scene.job["spec"], begun)
    if begun is not None and scene.known_to_have_begun and (scene.remembered is None or list_state_changes(begun, scene.remembered)):
        return "what is noted about the keys is not what they were made with"
    if begun is not None and list_state_changes(begun, wanted):
        refused = scene.given_up and scene.condition("Ready") == ("False", Reason.CONFIGURATION_REFUSED)
        # Where nobody saw the beginning, the next driver finds out; until then nobody can know.
        rests = scene.given_up or (not scene.pods and scene.condition("Ready")[1] in {Reason.SUSPENDED, Reason.SCHEDULED})
        resting = rests and not scene.known_to_have_begun
        return "" if refused or resting else _expect_refusal(scene, {Reason.CHANGE_BLOCKED}, suspended=suspended)
    if suspended:
        return "" if scene.condition("Ready") == ("True", Reason.SUSPENDED) else f"Ready is {scene.condition('Ready')}, and not suspended"
    if scene.given_up:
        known = spec.source.consumer_group == POISON or scene.job["metadata"]["uid"] in scene.world.permanent
        return "" if known and scene.condition("Stalled")[0] == "True" else "it was given up without a permanent end"
    if len(scene.workloads) != 1 or scene.workloads[0]["kind"] != choose_kind(spec):
        return f"{[body['kind'] for body in scene.workloads]} instead of a {choose_kind(spec)}"
    expect = {WorkloadKind.STATEFUL_SET: _expect_driver, WorkloadKind.JOB: _expect_completion, WorkloadKind.CRON_JOB: _expect_schedule}
    if choose_kind(spec) is WorkloadKind.CRON_JOB and not scene.known_to_have_begun:
        # Nobody saw the beginning: the next run will, and refuses what does not fit.
        wanted = find_wanted_config(NAMESPACE, scene.name, scene.job["spec"], None)
    return expect[choose_kind(spec)](scene, spec, wanted.to_json_dict()) or _expect_surroundings(scene, spec)


def _expect_completion(scene: Scene, spec: DedupJobSpec, wanted: Json) -> str:
    assert scene.job is not None
    if scene.pods or scene.condition("Ready") != ("True", Reason.COMPLETED):
        return f"Ready is {scene.condition('Ready')} with {len(scene.pods)} pods, and not completed"
    text, since = scene.world.completed.get(scene.name, ("", 0.0))
    if not text or parse_job_json(text).to_json_dict() != wanted:
        return "what ran last had other settings"
    return "the run is older than restartNonce" if since < scene.person.nonce_at.get(scene.job["metadata"]["uid"], 0.0) else ""


def _expect_schedule(scene: Scene, spec: DedupJobSpec, wanted: Json) -> str:
    if scene.pods or scene.condition("Ready") != ("True", Reason.SCHEDULED):
        return f"Ready is {scene.condition('Ready')} with {len(scene.pods)} pods, and not scheduled"
    template = find_template(scene.workloads[0])
    if template["spec"]["containers"][0]["image"] != scene.world.image.reference:
        return "the next run has the image of an earlier operator"
    config = scene.world.server.peek(Kind.CONFIG_MAPS, NAMESPACE, find_config_name(template))
    if config is None or parse_job_json(config["data"]["job.json"]).to_json_dict() != wanted:
        return "the next run has other settings"
    return "the schedule is suspended" if scene.workloads[0]["spec"].get("suspend") else ""


def _expect_driver(scene: Scene, spec: DedupJobSpec, wanted: Json) -> str:
    if len(scene.pods) != 1:
        return f"{len(scene.pods)} pods"
    pod, run = scene.pods[0], scene.world.nodes.runs[scene.pods[0]["metadata"]["uid"]]
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
    assert scene.job is not None
    if pod["metadata"]["creationTimestamp"] < render_moment(scene.person.nonce_at.get(scene.job["metadata"]["uid"], 0.0)):
        return "the driver is older than restartNonce"
    if scene.condition("Ready") != ("True", Reason.RUNNING):
        return f"Ready is {scene.condition('Ready')}, and not running"
    return ""


def _expect_surroundings(scene: Scene, spec: DedupJobSpec) -> str:
    assert scene.job is not None and scene.claim is not None
    if scene.folder and scene.holder is None:
        return "the driver's folder is not noted as taken"
    owned = any(owner["uid"] == scene.job["metadata"]["uid"] for owner in scene.claim["metadata"].get("ownerReferences", []))
    if owned != (spec.checkpoint.reclaim_policy == "Delete"):
        return f"the claim's owner is not what {spec.checkpoint.reclaim_policy} asks for"
    if scene.world.server.peek(Kind.SERVICES, NAMESPACE, names.driver_name(scene.name)) is None:
        return "there is no Service"
    maps = [body["metadata"]["name"] for body in scene._own(Kind.CONFIG_MAPS) if not is_record(body)]
    return "" if maps == [find_config_name(find_template(scene.workloads[0]))] else f"ConfigMaps {maps}"
