"""What people do: one or two DedupJobs, edited, broken, mended, suspended, deleted and made again, and children touched by hand."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from dedup_api import names
from dedup_operator.adapters.kube import AlreadyExists
from simulation.api_server import Json, Kind, copy_body
from simulation.checkpoint_location import SHARED_CLAIM, find_checkpoint_location, is_folder_record
from simulation.driver import FAILING_CONSUMER_GROUP
from simulation.faults import Fault

if TYPE_CHECKING:
    from simulation.run import Simulation

ACTOR = "people"
NAMESPACE = "ns"
SPEC: Json = {
    "source": {"bootstrapServers": "kafka:9092", "topic": "in"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "ts"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "out"}},
}
WITH_BATCH_TRIGGERS = True
"""Whether the operator knows `trigger.availableNow`."""


class Action(StrEnum):
    CREATE = "create"
    RESTART_EDIT = "edit that needs a restart"
    LIVE_EDIT = "edit that needs none"
    STATE_EDIT = "edit that the checkpoint does not fit"
    INVALID_EDIT = "edit that cannot be read"
    PERMANENT_FAILURE_EDIT = "edit that the driver ends over for good"
    REVERT = "back to the settings before"
    RESET = "back to the settings of the beginning"
    SUSPEND = "suspend"
    RESUME = "resume"
    RESTART_NONCE = "restartNonce"
    RETAIN_POLICY = "reclaimPolicy Retain"
    DELETE_POLICY = "reclaimPolicy Delete"
    CHANGE_TRIGGER = "another trigger"
    DELETE_JOB = "delete"
    RECREATE_JOB = "delete, and create again at once"
    DELETE_CHILD = "delete a child by hand"
    CHANGE_CHILD = "change a child by hand"
    DELETE_CLAIM = "delete the claim by hand"
    CREATE_CONFLICTING_OBJECT = "an object of others has a child's name"


WEIGHTS = {
    Action.RESTART_EDIT: 5,
    Action.LIVE_EDIT: 2,
    Action.STATE_EDIT: 3,
    Action.INVALID_EDIT: 3,
    Action.PERMANENT_FAILURE_EDIT: 1,
    Action.REVERT: 3,
    Action.RESET: 3,
    Action.SUSPEND: 2,
    Action.RESUME: 3,
    Action.RESTART_NONCE: 2,
    Action.RETAIN_POLICY: 1,
    Action.DELETE_POLICY: 1,
    Action.CHANGE_TRIGGER: 4,
    Action.DELETE_JOB: 1,
    Action.RECREATE_JOB: 2,
    Action.DELETE_CHILD: 2,
    Action.CHANGE_CHILD: 1,
    Action.DELETE_CLAIM: 0.3,
}


class User:
    """Of one DedupJob."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation, self.name = simulation, name
        self.before: Json = copy_body(SPEC)
        self.deleted_claims: list[str] = []
        """UIDs of claims that were deleted by hand."""
        self.claim_deleted_with_job = False
        """The claim has gone with a DedupJob that said Delete."""
        self.conflicting_objects: dict[str, str] = {}
        """UID to resourceVersion of objects of others."""
        self.policy_history: dict[str, list[tuple[int, str, bool]]] = {}
        """By the DedupJob's UID: generation, reclaim policy, and whether the spec could be read."""
        self.changed_workloads: list[str] = []
        """UIDs of workloads that were changed by hand."""
        self.nonce_times: dict[str, float] = {}

    def plan(self, until: float) -> None:
        rng = self.simulation.rng
        if rng.random() < 0.04:
            self._act(Action.CREATE_CONFLICTING_OBJECT)
        moment = rng.uniform(0.0, 5.0)
        self.simulation.loop.after(moment, self._act, Action.CREATE)
        for _ in range(rng.randint(1, 6)):
            # Half of what people do comes in haste after what they did before: that is where reads and writes cross.
            moment = moment + rng.uniform(0.05, 6.0) if rng.random() < 0.5 else rng.uniform(moment, until)
            self.simulation.loop.after(min(moment, until), self._act, draw_action(rng))
            if rng.random() < 0.3 and (self.simulation.faults.has(Fault.DRAIN) or self.simulation.faults.has(Fault.EVICTION)):
                disturbance = self.drain if self.simulation.faults.has(Fault.DRAIN) else self.evict
                self.simulation.loop.after(min(moment + rng.uniform(0.0, 4.0), until), disturbance)

    def _act(self, action: Action) -> None:
        exists = self._job() is not None
        if not exists and action not in {
            Action.CREATE,
            Action.CREATE_CONFLICTING_OBJECT,
            Action.DELETE_CLAIM,
            Action.DELETE_CHILD,
            Action.CHANGE_CHILD,
        }:
            action = Action.CREATE
        self.simulation.met_actions[action] += 1
        self.simulation.log(f"people: {self.name}: {action}")
        ACTIONS[action](self)

    def _job(self) -> Json | None:
        return self.simulation.server.peek(Kind.DEDUP_JOBS, NAMESPACE, self.name)

    def create(self) -> None:
        spec = copy_body(SPEC)
        rng = self.simulation.rng
        if rng.random() < 0.3:
            spec["checkpoint"] = {"reclaimPolicy": "Delete"}
        if rng.random() < 0.25:
            spec["key"] = {"fields": ["id", "more"]}
        if WITH_BATCH_TRIGGERS and rng.random() < 0.4:
            spec["trigger"] = draw_trigger(rng)
        if self.simulation.shares_claim:
            self._choose_folder(spec)
        body = {"metadata": {"name": self.name, "namespace": NAMESPACE}, "spec": spec}
        try:
            created = self.simulation.server.create(Kind.DEDUP_JOBS, NAMESPACE, body, ACTOR)
        except AlreadyExists:
            return
        self.before = copy_body(spec)
        self._record_policy(created)

    def _choose_folder(self, spec: Json) -> None:
        """Mostly one that somebody else wants too: by the same name, or because it is what the other's own is called."""
        folder = self.simulation.extra_rng.choice([{"subPath": "x"}, {"subPath": "x"}, {"subPath": "x"}, {"subPath": "a"}, {}, None])
        if folder is not None:
            spec["checkpoint"] = {"existing": {"claimName": SHARED_CLAIM, **folder}}

    def _has_folder(self) -> bool:
        """The CRD refuses then what would be about a claim of the job's own."""
        job = self._job()
        return job is not None and bool(find_checkpoint_location(job["spec"], self.name)[1])

    def _record_policy(self, job: Json) -> None:
        spec, metadata = job["spec"], job["metadata"]
        policy = (spec.get("checkpoint") or {}).get("reclaimPolicy", "Retain")
        self.policy_history.setdefault(metadata["uid"], []).append((metadata["generation"], policy, not is_invalid_spec(spec)))

    def _edit(self, edit: Callable[[Json], None], *, remember: bool = True) -> None:
        job = self._job()
        if job is None:
            return
        if remember:
            self.before = copy_body(job["spec"])
        changed = self.simulation.server.change(Kind.DEDUP_JOBS, NAMESPACE, self.name, lambda body: edit(body["spec"]), ACTOR)
        if changed is not None:
            self._record_policy(changed)

    def edit_for_restart(self) -> None:
        rng = self.simulation.rng
        choice = rng.randrange(4)
        if choice == 0:
            self._edit(lambda spec: spec.update(watermark=rng.choice(["10m", "20m", "1h"])))
        elif choice == 1:
            seconds = rng.choice(["5s", "9s"])
            self._edit(
                lambda spec: spec.update(trigger={"processingTime": seconds}) if "availableNow" not in spec.get("trigger", {}) else None
            )
        elif choice == 2:
            self._edit(lambda spec: spec["source"].update(maxOffsetsPerTrigger=rng.choice([5, 6])))
        else:
            self._edit(lambda spec: spec.update(driver={"resources": {"limits": {"cpu": rng.choice(["2", "4"])}}}))

    def edit_live(self) -> None:
        size = self.simulation.rng.choice(["10Gi", "20Gi", "30Gi"])
        if self._has_folder():
            return
        self._edit(lambda spec: spec.setdefault("checkpoint", {}).update(claim={"size": size}))

    def edit_state(self) -> None:
        rng = self.simulation.rng
        if rng.random() < 0.5:
            self._edit(lambda spec: spec.update(key={"fields": ["other"]}))
        else:
            self._edit(lambda spec: spec["source"].update(topic=rng.choice(["elsewhere", "in"])))

    def edit_invalidly(self) -> None:
        rng = self.simulation.rng
        if rng.random() < 0.5:
            self._edit(lambda spec: spec.update(watermark="soon"))
        else:
            self._edit(lambda spec: spec.update(sink={}))

    def edit_to_fail_permanently(self) -> None:
        self._edit(lambda spec: spec["source"].update(consumerGroup=FAILING_CONSUMER_GROUP))

    def revert(self) -> None:
        before, job = copy_body(self.before), self._job()
        if job is not None and job["spec"].get("restartNonce") != before.get("restartNonce"):
            self.nonce_times.pop(job["metadata"]["uid"], None)  # taken back, perhaps before anybody has seen it
        self._edit(lambda spec: replace_all(spec, before))

    def reset(self) -> None:
        def edit(spec: Json) -> None:
            kept = {field: spec[field] for field in ("checkpoint", "suspend", "restartNonce") if field in spec}
            spec.clear()
            spec.update(copy_body(SPEC) | kept)

        self._edit(edit)

    def set_suspend(self, wanted: bool) -> None:
        self._edit(lambda spec: spec.update(suspend=wanted), remember=False)

    def increase_nonce(self) -> None:
        self._edit(lambda spec: spec.update(restartNonce=spec.get("restartNonce", 0) + 1))
        job = self._job()
        if job is not None:
            self.nonce_times[job["metadata"]["uid"]] = self.simulation.loop.now

    def set_policy(self, policy: str) -> None:
        if self._has_folder():
            return
        self._edit(lambda spec: spec.setdefault("checkpoint", {}).update(reclaimPolicy=policy))

    def change_trigger(self) -> None:
        if not WITH_BATCH_TRIGGERS:
            self.edit_for_restart()
            return
        trigger = draw_trigger(self.simulation.rng)
        self._edit(lambda spec: spec.update(trigger=trigger))

    def delete(self) -> None:
        foreground = self.simulation.rng.random() < 0.2
        self.simulation.server.delete(Kind.DEDUP_JOBS, NAMESPACE, self.name, foreground=foreground, actor=ACTOR)

    def recreate(self) -> None:
        self.simulation.server.delete(Kind.DEDUP_JOBS, NAMESPACE, self.name, actor=ACTOR)
        self.simulation.loop.after(self.simulation.rng.choice((0.01, 0.5, 3.0)), self._act, Action.CREATE)

    def delete_child(self) -> None:
        """Not the record of a folder: that gives the folder away, and is left to those who have removed the keys."""
        server, rng = self.simulation.server, self.simulation.rng
        kind = rng.choice([Kind.STATEFUL_SETS, Kind.CONFIG_MAPS, Kind.SERVICES, Kind.JOBS, Kind.CRON_JOBS])
        own = [body for body in server.scan(kind, NAMESPACE) if body["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name]
        for body in own:
            if is_folder_record(body):
                continue
            foreground = rng.random() < 0.3
            server.delete(kind, NAMESPACE, body["metadata"]["name"], foreground=foreground, actor=ACTOR)

    def change_child(self) -> None:
        """Something in the template that the driver does not mind."""
        number = self.simulation.rng.randrange(10)

        def edit(body: Json) -> None:
            spec = body["spec"]["jobTemplate"]["spec"] if body["kind"] == "CronJob" else body["spec"]
            spec["template"]["metadata"].setdefault("annotations", {})["by-hand"] = str(number)

        for kind in (Kind.STATEFUL_SETS, Kind.CRON_JOBS):
            for body in list(self.simulation.server.scan(kind, NAMESPACE)):
                if body["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name:
                    self.changed_workloads.append(body["metadata"]["uid"])
                    self.simulation.server.change(kind, NAMESPACE, body["metadata"]["name"], edit, ACTOR)

    def delete_claim(self) -> None:
        claim = self.simulation.server.peek(Kind.CLAIMS, NAMESPACE, names.claim_name(self.name))
        if claim is not None:
            self.deleted_claims.append(claim["metadata"]["uid"])
            self.simulation.server.delete(Kind.CLAIMS, NAMESPACE, names.claim_name(self.name), actor=ACTOR)

    def create_conflicting_object(self) -> None:
        kind, name = self.simulation.rng.choice(
            [
                (Kind.SERVICES, names.driver_name(self.name)),
                (Kind.CLAIMS, names.claim_name(self.name)),
                (Kind.STATEFUL_SETS, names.driver_name(self.name)),
            ]
        )
        spec: Json = {"replicas": 0, "template": {"metadata": {}, "spec": {"containers": [{"name": "x", "image": "x"}]}}}
        if kind is Kind.CLAIMS:
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        created = self.simulation.server.create(kind, NAMESPACE, {"metadata": {"name": name}, "spec": spec}, ACTOR)
        self.conflicting_objects[created["metadata"]["uid"]] = f"{kind}/{name}"

    def force_delete_pods(self) -> None:
        """The mistake that the documentation warns of: the object goes, the process lives on."""
        for pod in self._pods():
            uid = pod["metadata"]["uid"]
            process = self.simulation.nodes.runs[uid].process
            if process is not None and process.alive:
                self.simulation.force_deleted_volumes.append(process.volume)
            self.simulation.faults.record(Fault.FORCE_DELETION)
            self.simulation.log(f"people: {pod['metadata']['name']} is removed by force")
            self.simulation.server.delete(Kind.PODS, NAMESPACE, pod["metadata"]["name"], grace=0, actor=ACTOR)

    def drain(self) -> None:
        for pod in self._pods():
            self.simulation.faults.record(Fault.DRAIN)
            self.simulation.log(f"people: {pod['metadata']['name']} is drained")
            self.simulation.server.delete(Kind.PODS, NAMESPACE, pod["metadata"]["name"], actor=ACTOR)

    def evict(self) -> None:
        for pod in self._pods():
            self.simulation.nodes.evict(pod)

    def _pods(self) -> list[Json]:
        pods = self.simulation.server.scan(Kind.PODS, NAMESPACE)
        return [pod for pod in pods if pod["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name]


def replace_all(spec: Json, wanted: Json) -> None:
    spec.clear()
    spec.update(wanted)


def is_invalid_spec(spec: Json) -> bool:
    return spec["watermark"] == "soon" or not spec["sink"]


def draw_action(rng: random.Random) -> Action:
    return rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


def draw_trigger(rng: random.Random) -> Json:
    """The one place that knows which triggers there are."""
    return rng.choice([{"processingTime": "5s"}, {"availableNow": {}}, {"availableNow": {"schedule": "* * * * *"}}])


ACTIONS: dict[Action, Callable[[User], None]] = {
    Action.CREATE: User.create,
    Action.RESTART_EDIT: User.edit_for_restart,
    Action.LIVE_EDIT: User.edit_live,
    Action.STATE_EDIT: User.edit_state,
    Action.INVALID_EDIT: User.edit_invalidly,
    Action.PERMANENT_FAILURE_EDIT: User.edit_to_fail_permanently,
    Action.REVERT: User.revert,
    Action.RESET: User.reset,
    Action.SUSPEND: lambda user: user.set_suspend(True),
    Action.RESUME: lambda user: user.set_suspend(False),
    Action.RESTART_NONCE: User.increase_nonce,
    Action.RETAIN_POLICY: lambda user: user.set_policy("Retain"),
    Action.DELETE_POLICY: lambda user: user.set_policy("Delete"),
    Action.CHANGE_TRIGGER: User.change_trigger,
    Action.DELETE_JOB: User.delete,
    Action.RECREATE_JOB: User.recreate,
    Action.DELETE_CHILD: User.delete_child,
    Action.CHANGE_CHILD: User.change_child,
    Action.DELETE_CLAIM: User.delete_claim,
    Action.CREATE_CONFLICTING_OBJECT: User.create_conflicting_object,
}
