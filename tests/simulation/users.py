"""What users do: they create, edit, suspend and delete one or two DedupJobs, and delete or change the operator's
objects directly."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from dedup_api import names
from dedup_operator.adapters.kube import AlreadyExists
from dedup_operator.domain.observe.workload import RESTARTED_AT
from simulation.api_server import Json, Kind, copy_body
from simulation.checkpoint_location import SHARED_CLAIM, find_checkpoint_location, is_folder_record
from simulation.driver import FAILING_CONSUMER_GROUP
from simulation.faults import Fault
from simulation.moves import choose_place, is_refused_move

if TYPE_CHECKING:
    from simulation.run import Simulation

USER_ACTOR = "users"
NAMESPACE = "ns"
SPEC: Json = {
    "source": {"bootstrapServers": "kafka:9092", "topic": "in"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "ts"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "out"}},
}


class Action(StrEnum):
    CREATE = "create the DedupJob"
    RESTART_EDIT = "edit a field whose change restarts the driver"
    LIVE_EDIT = "edit a field whose change restarts no driver"
    STATE_EDIT = "edit a field that the stored keys depend on"
    INVALID_EDIT = "edit the spec so that it is invalid"
    PERMANENT_FAILURE_EDIT = "edit the spec so that the driver fails permanently"
    REVERT = "revert the last edit"
    RESET = "reset the spec to the first settings"
    SUSPEND = "suspend the DedupJob"
    RESUME = "resume the DedupJob"
    RESTART_NONCE = "increase restartNonce"
    RETAIN_POLICY = "set reclaimPolicy to Retain"
    DELETE_POLICY = "set reclaimPolicy to Delete"
    CHANGE_TRIGGER = "change the trigger"
    DELETE_JOB = "delete the DedupJob"
    RECREATE_JOB = "delete the DedupJob, and create it again at once"
    DELETE_CHILD = "delete children of the DedupJob"
    CHANGE_CHILD = "change the pod template of a child"
    ROLLOUT_RESTART = "use kubectl rollout restart"
    DELETE_CLAIM = "delete the claim"
    MOVE_CHECKPOINT = "set, change or remove spec.checkpoint.existing"
    CREATE_CONFLICTING_OBJECT = "create an object that has a child's name"


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
    Action.ROLLOUT_RESTART: 1,
    Action.DELETE_CLAIM: 0.3,
}


class User:
    """The user of one DedupJob."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation, self.name = simulation, name
        self.previous_spec: Json = copy_body(SPEC)
        self.deleted_claims: list[str] = []
        """UIDs of claims that the user deleted."""
        self.claim_deleted_with_job = False
        """Whether the claim was deleted with a DedupJob that had reclaimPolicy Delete."""
        self.conflicting_objects: dict[str, str] = {}
        """By UID: kind and name of objects that the user created under a child's name."""
        self.policy_history: dict[str, list[tuple[int, str, bool]]] = {}
        """By the DedupJob's UID, for each of its generations: generation, reclaimPolicy, and whether the spec is
        valid."""
        self.changed_workloads: list[str] = []
        """UIDs of workloads whose template the user changed."""
        self.nonce_times: dict[str, float] = {}
        """By the DedupJob's UID: when the user last increased restartNonce or used kubectl rollout restart."""

    def plan(self, until: float) -> None:
        rng = self.simulation.rng
        if rng.random() < 0.04:
            self.act(Action.CREATE_CONFLICTING_OBJECT)
        moment = rng.uniform(0.0, 5.0)
        self.simulation.loop.after(moment, self.act, Action.CREATE)
        for _ in range(rng.randint(1, 6)):
            # Half of the actions follow within seconds after the one before: so they come between the operator's reads
            # and writes.
            moment = moment + rng.uniform(0.05, 6.0) if rng.random() < 0.5 else rng.uniform(moment, until)
            self.simulation.loop.after(min(moment, until), self.act, draw_action(rng))
            if rng.random() < 0.3 and (self.simulation.faults.has(Fault.DRAIN) or self.simulation.faults.has(Fault.EVICTION)):
                remove_pods = self.drain if self.simulation.faults.has(Fault.DRAIN) else self.evict
                self.simulation.loop.after(min(moment + rng.uniform(0.0, 4.0), until), remove_pods)

    def act(self, action: Action) -> None:
        exists = self._find_job() is not None
        if not exists and action not in {
            Action.CREATE,
            Action.CREATE_CONFLICTING_OBJECT,
            Action.DELETE_CLAIM,
            Action.DELETE_CHILD,
            Action.CHANGE_CHILD,
            Action.ROLLOUT_RESTART,
            Action.MOVE_CHECKPOINT,
        }:
            action = Action.CREATE
        self.simulation.coverage.actions[action] += 1
        self.simulation.log(f"users: {self.name}: {action}")
        ACTIONS[action](self)

    def _find_job(self) -> Json | None:
        return self.simulation.server.peek(Kind.DEDUP_JOBS, NAMESPACE, self.name)

    def create(self) -> None:
        spec = copy_body(SPEC)
        rng = self.simulation.rng
        if rng.random() < 0.3:
            spec["checkpoint"] = {"reclaimPolicy": "Delete"}
        if rng.random() < 0.25:
            spec["key"] = {"fields": ["id", "more"]}
        if rng.random() < 0.4:
            spec["trigger"] = draw_trigger(rng)
        if self.simulation.shares_claim:
            self._choose_folder(spec)
        body = {"metadata": {"name": self.name, "namespace": NAMESPACE}, "spec": spec}
        try:
            created = self.simulation.server.create(Kind.DEDUP_JOBS, NAMESPACE, body, USER_ACTOR)
        except AlreadyExists:
            return
        self.previous_spec = copy_body(spec)
        self._record_policy(created)

    def _choose_folder(self, spec: Json) -> None:
        """Mostly chooses a folder that the other job wants too: with the same subPath, or with the subPath "a", which
        is the default of the job a."""
        folder = self.simulation.extra_rng.choice([{"subPath": "x"}, {"subPath": "x"}, {"subPath": "x"}, {"subPath": "a"}, {}, None])
        if folder is not None:
            spec["checkpoint"] = {"existing": {"claimName": SHARED_CLAIM, **folder}}

    def _has_folder(self) -> bool:
        """Whether the job uses a shared claim. If so, the CRD refuses the fields of the job's own claim."""
        job = self._find_job()
        return job is not None and bool(find_checkpoint_location(job["spec"], self.name)[1])

    def _record_policy(self, job: Json) -> None:
        spec, metadata = job["spec"], job["metadata"]
        policy = (spec.get("checkpoint") or {}).get("reclaimPolicy", "Retain")
        self.policy_history.setdefault(metadata["uid"], []).append((metadata["generation"], policy, not is_invalid_spec(spec)))

    def edit(self, edit: Callable[[Json], None], *, remember: bool = True) -> None:
        job = self._find_job()
        if job is None:
            return
        if self.simulation.moves.active and is_refused_move(self.name, job, edit):
            return
        if remember:
            self.previous_spec = copy_body(job["spec"])
        changed = self.simulation.server.change(Kind.DEDUP_JOBS, NAMESPACE, self.name, lambda body: edit(body["spec"]), USER_ACTOR)
        if changed is not None:
            self._record_policy(changed)

    def edit_for_restart(self) -> None:
        rng = self.simulation.rng
        choice = rng.randrange(4)
        if choice == 0:
            self.edit(lambda spec: spec.update(watermark=rng.choice(["10m", "20m", "1h"])))
        elif choice == 1:
            seconds = rng.choice(["5s", "9s"])
            self.edit(
                lambda spec: spec.update(trigger={"processingTime": seconds}) if "availableNow" not in spec.get("trigger", {}) else None
            )
        elif choice == 2:
            self.edit(lambda spec: spec["source"].update(maxOffsetsPerTrigger=rng.choice([5, 6])))
        else:
            self.edit(lambda spec: spec.update(driver={"resources": {"limits": {"cpu": rng.choice(["2", "4"])}}}))

    def edit_without_restart(self) -> None:
        size = self.simulation.rng.choice(["10Gi", "20Gi", "30Gi"])
        if self._has_folder():
            return
        self.edit(lambda spec: spec.setdefault("checkpoint", {}).update(claim={"size": size}))

    def edit_state_field(self) -> None:
        rng = self.simulation.rng
        if rng.random() < 0.5:
            self.edit(lambda spec: spec.update(key={"fields": ["other"]}))
        else:
            self.edit(lambda spec: spec["source"].update(topic=rng.choice(["elsewhere", "in"])))

    def edit_invalidly(self) -> None:
        rng = self.simulation.rng
        if rng.random() < 0.5:
            self.edit(lambda spec: spec.update(watermark="soon"))
        else:
            self.edit(lambda spec: spec.update(sink={}))

    def edit_to_fail_permanently(self) -> None:
        self.edit(lambda spec: spec["source"].update(consumerGroup=FAILING_CONSUMER_GROUP))

    def revert_edit(self) -> None:
        previous_spec, job = copy_body(self.previous_spec), self._find_job()
        if job is not None and job["spec"].get("restartNonce") != previous_spec.get("restartNonce"):
            self.nonce_times.pop(job["metadata"]["uid"], None)  # the operator may never have read this nonce
        self.edit(lambda spec: replace_all(spec, previous_spec))

    def reset_settings(self) -> None:
        def edit(spec: Json) -> None:
            kept = {field: spec[field] for field in ("checkpoint", "suspend", "restartNonce") if field in spec}
            spec.clear()
            spec.update(copy_body(SPEC) | kept)

        self.edit(edit)

    def set_suspend(self, wanted: bool) -> None:
        self.edit(lambda spec: spec.update(suspend=wanted), remember=False)

    def increase_nonce(self) -> None:
        self.edit(lambda spec: spec.update(restartNonce=spec.get("restartNonce", 0) + 1))
        job = self._find_job()
        if job is not None:
            self.nonce_times[job["metadata"]["uid"]] = self.simulation.loop.now

    def set_policy(self, policy: str) -> None:
        if self._has_folder():
            return
        self.edit(lambda spec: spec.setdefault("checkpoint", {}).update(reclaimPolicy=policy))

    def change_trigger(self) -> None:
        trigger = draw_trigger(self.simulation.rng)
        self.edit(lambda spec: spec.update(trigger=trigger))

    def delete(self) -> None:
        foreground = self.simulation.rng.random() < 0.2
        self.simulation.server.delete(Kind.DEDUP_JOBS, NAMESPACE, self.name, foreground=foreground, actor=USER_ACTOR)

    def recreate(self) -> None:
        self.simulation.server.delete(Kind.DEDUP_JOBS, NAMESPACE, self.name, actor=USER_ACTOR)
        self.simulation.loop.after(self.simulation.rng.choice((0.01, 0.5, 3.0)), self.act, Action.CREATE)

    def delete_child(self) -> None:
        """Deletes objects of one kind. Not the record of a folder: deleting it means that the folder's keys are removed
        too."""
        server, rng = self.simulation.server, self.simulation.rng
        kind = rng.choice([Kind.STATEFUL_SETS, Kind.CONFIG_MAPS, Kind.SERVICES, Kind.JOBS, Kind.CRON_JOBS])
        own = [body for body in server.scan(kind, NAMESPACE) if body["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name]
        for body in own:
            if is_folder_record(body):
                continue
            foreground = rng.random() < 0.3
            server.delete(kind, NAMESPACE, body["metadata"]["name"], foreground=foreground, actor=USER_ACTOR)

    def change_child(self) -> None:
        """Changes an annotation in the pod template, which does not affect the driver."""
        number = self.simulation.rng.randrange(10)

        def edit(body: Json) -> None:
            spec = body["spec"]["jobTemplate"]["spec"] if body["kind"] == "CronJob" else body["spec"]
            spec["template"]["metadata"].setdefault("annotations", {})["by-hand"] = str(number)

        for kind in (Kind.STATEFUL_SETS, Kind.CRON_JOBS):
            for body in list(self.simulation.server.scan(kind, NAMESPACE)):
                if body["metadata"].get("labels", {}).get(names.LABEL_JOB) == self.name:
                    self.changed_workloads.append(body["metadata"]["uid"])
                    self.simulation.server.change(kind, NAMESPACE, body["metadata"]["name"], edit, USER_ACTOR)

    def rollout_restart(self) -> None:
        now, server = self.simulation.loop.now, self.simulation.server
        found = server.peek(Kind.STATEFUL_SETS, NAMESPACE, names.driver_name(self.name))
        job = self._find_job()
        if found is None or job is None or found["metadata"].get("labels", {}).get(names.LABEL_JOB) != self.name:
            return

        def edit(body: Json) -> None:
            body["spec"]["template"]["metadata"].setdefault("annotations", {})[RESTARTED_AT] = str(now)

        self.changed_workloads.append(found["metadata"]["uid"])
        server.change(Kind.STATEFUL_SETS, NAMESPACE, found["metadata"]["name"], edit, USER_ACTOR)
        if found["spec"]["replicas"] > 0:
            self.nonce_times[job["metadata"]["uid"]] = now

    def delete_claim(self) -> None:
        claim = self.simulation.server.peek(Kind.CLAIMS, NAMESPACE, names.claim_name(self.name))
        if claim is not None:
            self.deleted_claims.append(claim["metadata"]["uid"])
            self.simulation.server.delete(Kind.CLAIMS, NAMESPACE, names.claim_name(self.name), actor=USER_ACTOR)

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
        created = self.simulation.server.create(kind, NAMESPACE, {"metadata": {"name": name}, "spec": spec}, USER_ACTOR)
        self.conflicting_objects[created["metadata"]["uid"]] = f"{kind}/{name}"

    def force_delete_pods(self) -> None:
        """Deletes pods with grace period 0, which the documentation warns of: the object is deleted, and the process
        keeps running."""
        for pod in self._pods():
            uid = pod["metadata"]["uid"]
            process = self.simulation.nodes.runs[uid].process
            if process is not None and process.alive:
                self.simulation.force_deleted_volumes.append(process.volume)
            self.simulation.faults.record(Fault.FORCE_DELETION)
            self.simulation.log(f"users: {pod['metadata']['name']} is force-deleted")
            self.simulation.server.delete(Kind.PODS, NAMESPACE, pod["metadata"]["name"], grace=0, actor=USER_ACTOR)

    def drain(self) -> None:
        for pod in self._pods():
            self.simulation.faults.record(Fault.DRAIN)
            self.simulation.log(f"users: {pod['metadata']['name']} is drained")
            self.simulation.server.delete(Kind.PODS, NAMESPACE, pod["metadata"]["name"], actor=USER_ACTOR)

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
    return rng.choice([{"processingTime": "5s"}, {"availableNow": {}}, {"availableNow": {"schedule": "* * * * *"}}])


ACTIONS: dict[Action, Callable[[User], None]] = {
    Action.CREATE: User.create,
    Action.RESTART_EDIT: User.edit_for_restart,
    Action.LIVE_EDIT: User.edit_without_restart,
    Action.STATE_EDIT: User.edit_state_field,
    Action.INVALID_EDIT: User.edit_invalidly,
    Action.PERMANENT_FAILURE_EDIT: User.edit_to_fail_permanently,
    Action.REVERT: User.revert_edit,
    Action.RESET: User.reset_settings,
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
    Action.ROLLOUT_RESTART: User.rollout_restart,
    Action.DELETE_CLAIM: User.delete_claim,
    Action.MOVE_CHECKPOINT: lambda user: user.edit(choose_place(user.simulation.moves.rng)),
    Action.CREATE_CONFLICTING_OBJECT: User.create_conflicting_object,
}
