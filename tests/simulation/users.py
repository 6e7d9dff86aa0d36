"""What people do: one or two DedupJobs, edited, broken, mended, suspended, deleted and made again, and children touched by hand."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from dedup_api import names
from dedup_operator.adapters.kube import AlreadyExists
from simulation.api_server import Json, Kind, copy
from simulation.driver import POISON
from simulation.faults import Fault
from simulation.folders import SHARED, find_folder, is_record

if TYPE_CHECKING:
    from simulation.world import World

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
    POISON_EDIT = "edit that the driver ends over for good"
    REVERT = "back to the settings before"
    RESET = "back to the settings of the beginning"
    SUSPEND = "suspend"
    RESUME = "resume"
    NONCE = "restartNonce"
    RETAIN = "reclaimPolicy Retain"
    DELETE_POLICY = "reclaimPolicy Delete"
    TRIGGER = "another trigger"
    DELETE_JOB = "delete"
    RECREATE = "delete, and create again at once"
    CHILD_DELETED = "delete a child by hand"
    CHILD_CHANGED = "change a child by hand"
    CLAIM_DELETED = "delete the claim by hand"
    FOREIGN = "an object of others has a child's name"


WEIGHTS = {
    Action.RESTART_EDIT: 5,
    Action.LIVE_EDIT: 2,
    Action.STATE_EDIT: 3,
    Action.INVALID_EDIT: 3,
    Action.POISON_EDIT: 1,
    Action.REVERT: 3,
    Action.RESET: 3,
    Action.SUSPEND: 2,
    Action.RESUME: 3,
    Action.NONCE: 2,
    Action.RETAIN: 1,
    Action.DELETE_POLICY: 1,
    Action.TRIGGER: 4,
    Action.DELETE_JOB: 1,
    Action.RECREATE: 2,
    Action.CHILD_DELETED: 2,
    Action.CHILD_CHANGED: 1,
    Action.CLAIM_DELETED: 0.3,
}


class Person:
    """Of one DedupJob."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.before: Json = copy(SPEC)
        self.asked_to_delete: list[str] = []
        """UIDs of claims that were deleted by hand."""
        self.let_go = False
        """The claim has gone with a DedupJob that said Delete."""
        self.foreign: dict[str, str] = {}
        """UID to resourceVersion of objects of others."""
        self.policies: dict[str, list[tuple[int, str, bool]]] = {}
        """By the DedupJob's UID: generation, reclaim policy, and whether the spec could be read."""
        self.touched: list[str] = []
        """UIDs of workloads that were changed by hand."""
        self.nonce_at: dict[str, float] = {}

    def plan(self, until: float) -> None:
        rng = self.world.rng
        if rng.random() < 0.04:
            self._do(Action.FOREIGN)
        moment = rng.uniform(0.0, 5.0)
        self.world.loop.after(moment, self._do, Action.CREATE)
        for _ in range(rng.randint(1, 6)):
            # Half of what people do comes in haste after what they did before: that is where reads and writes cross.
            moment = moment + rng.uniform(0.05, 6.0) if rng.random() < 0.5 else rng.uniform(moment, until)
            self.world.loop.after(min(moment, until), self._do, draw_action(rng))
            if rng.random() < 0.3 and (self.world.faults.has(Fault.DRAIN) or self.world.faults.has(Fault.EVICTION)):
                disturbance = self.drain if self.world.faults.has(Fault.DRAIN) else self.evict
                self.world.loop.after(min(moment + rng.uniform(0.0, 4.0), until), disturbance)

    def _do(self, action: Action) -> None:
        exists = self._job() is not None
        if not exists and action not in {Action.CREATE, Action.FOREIGN, Action.CLAIM_DELETED, Action.CHILD_DELETED, Action.CHILD_CHANGED}:
            action = Action.CREATE
        self.world.met_actions[action] += 1
        self.world.log(f"people: {self.name}: {action}")
        ACTIONS[action](self)

    def _job(self) -> Json | None:
        return self.world.server.peek(Kind.DEDUP_JOBS, NAMESPACE, self.name)

    def create(self) -> None:
        spec = copy(SPEC)
        rng = self.world.rng
        if rng.random() < 0.3:
            spec["checkpoint"] = {"reclaimPolicy": "Delete"}
        if rng.random() < 0.25:
            spec["key"] = {"fields": ["id", "more"]}
        if WITH_BATCH_TRIGGERS and rng.random() < 0.4:
            spec["trigger"] = draw_trigger(rng)
        if self.world.shares:
            self._choose_folder(spec)
        body = {"metadata": {"name": self.name, "namespace": NAMESPACE}, "spec": spec}
        try:
            made = self.world.server.create(Kind.DEDUP_JOBS, NAMESPACE, body, ACTOR)
        except AlreadyExists:
            return
        self.before = copy(spec)
        self._note_policy(made)

    def _choose_folder(self, spec: Json) -> None:
        """Mostly one that somebody else wants too: by the same name, or because it is what the other's own is called."""
        folder = self.world.more.choice([{"subPath": "x"}, {"subPath": "x"}, {"subPath": "x"}, {"subPath": "a"}, {}, None])
        if folder is not None:
            spec["checkpoint"] = {"existing": {"claimName": SHARED, **folder}}

    def _has_folder(self) -> bool:
        """The CRD refuses then what would be about a claim of the job's own."""
        job = self._job()
        return job is not None and bool(find_folder(job["spec"], self.name)[1])

    def _note_policy(self, job: Json) -> None:
        spec, metadata = job["spec"], job["metadata"]
        policy = (spec.get("checkpoint") or {}).get("reclaimPolicy", "Retain")
        self.policies.setdefault(metadata["uid"], []).append((metadata["generation"], policy, not is_broken(spec)))

    def _edit(self, edit: Callable[[Json], None], *, remember: bool = True) -> None:
        job = self._job()
        if job is None:
            return
        if remember:
            self.before = copy(job["spec"])
        changed = self.world.server.change(Kind.DEDUP_JOBS, NAMESPACE, self.name, lambda body: edit(body["spec"]), ACTOR)
        if changed is not None:
            self._note_policy(changed)

    def edit_for_restart(self) -> None:
        rng = self.world.rng
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
        size = self.world.rng.choice(["10Gi", "20Gi", "30Gi"])
        if self._has_folder():
            return
        self._edit(lambda spec: spec.setdefault("checkpoint", {}).update(claim={"size": size}))

    def edit_state(self) -> None:
        rng = self.world.rng
        if rng.random() < 0.5:
            self._edit(lambda spec: spec.update(key={"fields": ["other"]}))
        else:
            self._edit(lambda spec: spec["source"].update(topic=rng.choice(["elsewhere", "in"])))

    def edit_badly(self) -> None:
        rng = self.world.rng
        if rng.random() < 0.5:
            self._edit(lambda spec: spec.update(watermark="soon"))
        else:
            self._edit(lambda spec: spec.update(sink={}))

    def poison(self) -> None:
        self._edit(lambda spec: spec["source"].update(consumerGroup=POISON))

    def revert(self) -> None:
        before, job = copy(self.before), self._job()
        if job is not None and job["spec"].get("restartNonce") != before.get("restartNonce"):
            self.nonce_at.pop(job["metadata"]["uid"], None)  # taken back, perhaps before anybody has seen it
        self._edit(lambda spec: replace_all(spec, before))

    def reset(self) -> None:
        def edit(spec: Json) -> None:
            kept = {field: spec[field] for field in ("checkpoint", "suspend", "restartNonce") if field in spec}
            spec.clear()
            spec.update(copy(SPEC) | kept)

        self._edit(edit)

    def set_suspend(self, wanted: bool) -> None:
        self._edit(lambda spec: spec.update(suspend=wanted), remember=False)

    def raise_nonce(self) -> None:
        self._edit(lambda spec: spec.update(restartNonce=spec.get("restartNonce", 0) + 1))
        job = self._job()
        if job is not None:
            self.nonce_at[job["metadata"]["uid"]] = self.world.loop.now

    def set_policy(self, policy: str) -> None:
        if self._has_folder():
            return
        self._edit(lambda spec: spec.setdefault("checkpoint", {}).update(reclaimPolicy=policy))

    def change_trigger(self) -> None:
        if not WITH_BATCH_TRIGGERS:
            self.edit_for_restart()
            return
        trigger = draw_trigger(self.world.rng)
        self._edit(lambda spec: spec.update(trigger=trigger))

    def delete(self) -> None:
        foreground = self.world.rng.random() < 0.2
        self.world.server.delete(Kind.DEDUP_JOBS, NAMESPACE, self.name, foreground=foreground, actor=ACTOR)

    def recreate(self) -> None:
        self.world.server.delete(Kind.DEDUP_JOBS, NAMESPACE, self.name, actor=ACTOR)
        self.world.loop.after(self.world.rng.choice((0.01, 0.5, 3.0)), self._do, Action.CREATE)

    def delete_child(self) -> None:
        """Not the record of a folder: that gives the folder away, and is left to those who have removed the keys."""
        server, rng = self.world.server, self.world.rng
        kind = rng.choice([Kind.STATEFUL_SETS, Kind.CONFIG_MAPS, Kind.SERVICES, Kind.JOBS, Kind.CRON_JOBS])
        own = [body for body in server.scan(kind, NAMESPACE) if body["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name]
        for body in own:
            if is_record(body):
                continue
            foreground = rng.random() < 0.3
            server.delete(kind, NAMESPACE, body["metadata"]["name"], foreground=foreground, actor=ACTOR)

    def change_child(self) -> None:
        """Something in the template that the driver does not mind."""
        number = self.world.rng.randrange(10)

        def edit(body: Json) -> None:
            spec = body["spec"]["jobTemplate"]["spec"] if body["kind"] == "CronJob" else body["spec"]
            spec["template"]["metadata"].setdefault("annotations", {})["by-hand"] = str(number)

        for kind in (Kind.STATEFUL_SETS, Kind.CRON_JOBS):
            for body in list(self.world.server.scan(kind, NAMESPACE)):
                if body["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name:
                    self.touched.append(body["metadata"]["uid"])
                    self.world.server.change(kind, NAMESPACE, body["metadata"]["name"], edit, ACTOR)

    def delete_claim(self) -> None:
        claim = self.world.server.peek(Kind.CLAIMS, NAMESPACE, names.claim_name(self.name))
        if claim is not None:
            self.asked_to_delete.append(claim["metadata"]["uid"])
            self.world.server.delete(Kind.CLAIMS, NAMESPACE, names.claim_name(self.name), actor=ACTOR)

    def occupy_a_name(self) -> None:
        kind, name = self.world.rng.choice(
            [
                (Kind.SERVICES, names.driver_name(self.name)),
                (Kind.CLAIMS, names.claim_name(self.name)),
                (Kind.STATEFUL_SETS, names.driver_name(self.name)),
            ]
        )
        spec: Json = {"replicas": 0, "template": {"metadata": {}, "spec": {"containers": [{"name": "x", "image": "x"}]}}}
        if kind is Kind.CLAIMS:
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        made = self.world.server.create(kind, NAMESPACE, {"metadata": {"name": name}, "spec": spec}, ACTOR)
        self.foreign[made["metadata"]["uid"]] = f"{kind}/{name}"

    def remove_by_force(self) -> None:
        """The mistake that the documentation warns of: the object goes, the process lives on."""
        for pod in self._pods():
            uid = pod["metadata"]["uid"]
            process = self.world.nodes.runs[uid].process
            if process is not None and process.alive:
                self.world.forced.append(process.volume)
            self.world.faults.note(Fault.FORCE_DELETION)
            self.world.log(f"people: {pod['metadata']['name']} is removed by force")
            self.world.server.delete(Kind.PODS, NAMESPACE, pod["metadata"]["name"], grace=0, actor=ACTOR)

    def drain(self) -> None:
        for pod in self._pods():
            self.world.faults.note(Fault.DRAIN)
            self.world.log(f"people: {pod['metadata']['name']} is drained")
            self.world.server.delete(Kind.PODS, NAMESPACE, pod["metadata"]["name"], actor=ACTOR)

    def evict(self) -> None:
        for pod in self._pods():
            self.world.nodes.evict(pod)

    def _pods(self) -> list[Json]:
        pods = self.world.server.scan(Kind.PODS, NAMESPACE)
        return [pod for pod in pods if pod["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name]


def replace_all(spec: Json, wanted: Json) -> None:
    spec.clear()
    spec.update(wanted)


def is_broken(spec: Json) -> bool:
    return spec["watermark"] == "soon" or not spec["sink"]


def draw_action(rng: random.Random) -> Action:
    return rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


def draw_trigger(rng: random.Random) -> Json:
    """The one place that knows which triggers there are."""
    return rng.choice([{"processingTime": "5s"}, {"availableNow": {}}, {"availableNow": {"schedule": "* * * * *"}}])


ACTIONS: dict[Action, Callable[[Person], None]] = {
    Action.CREATE: Person.create,
    Action.RESTART_EDIT: Person.edit_for_restart,
    Action.LIVE_EDIT: Person.edit_live,
    Action.STATE_EDIT: Person.edit_state,
    Action.INVALID_EDIT: Person.edit_badly,
    Action.POISON_EDIT: Person.poison,
    Action.REVERT: Person.revert,
    Action.RESET: Person.reset,
    Action.SUSPEND: lambda person: person.set_suspend(True),
    Action.RESUME: lambda person: person.set_suspend(False),
    Action.NONCE: Person.raise_nonce,
    Action.RETAIN: lambda person: person.set_policy("Retain"),
    Action.DELETE_POLICY: lambda person: person.set_policy("Delete"),
    Action.TRIGGER: Person.change_trigger,
    Action.DELETE_JOB: Person.delete,
    Action.RECREATE: Person.recreate,
    Action.CHILD_DELETED: Person.delete_child,
    Action.CHILD_CHANGED: Person.change_child,
    Action.CLAIM_DELETED: Person.delete_claim,
    Action.FOREIGN: Person.occupy_a_name,
}
