"""The controllers that create pods: StatefulSet, Job and CronJob.

Each controller reconciles an object some time after it changed, and with a copy that may be older than the stored
object, like an informer's cache. Which pods count as active, when a pod is replaced, and what a finished Job does, is
taken from the controllers' sources in Kubernetes 1.34.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import marshal
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from dedup_operator.adapters.kube import AlreadyExists
from dedup_operator.domain.errors import ApiConflict
from simulation.api_server import NAMES, Address, Change, Json, Kind, copy_body, find_controller
from simulation.faults import Fault

if TYPE_CHECKING:
    from simulation.run import Simulation

REVISION = "controller-revision-hash"
SCHEDULE_SECONDS = 30.0
"""Until the faults end, every CronJob is due this often, whatever its schedule says."""
TERMINAL = {"Succeeded", "Failed"}


class WorkloadControllers:
    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self._due: dict[Address, float] = {}
        self._cache_times: dict[Address, float] = {}
        """By object: the time of the copy that its controller acted on last. The next copy must not be older."""
        self._syncs: dict[Kind, Callable[[Address, float], None]] = {
            Kind.STATEFUL_SETS: self._sync_set,
            Kind.JOBS: self._sync_job,
            Kind.CRON_JOBS: self._sync_cron_job,
        }

    def on_change(self, change: Change) -> None:
        kind = change.address.kind
        if kind in self._syncs:
            self._enqueue(change.address)
        body = change.new or change.old
        owner = find_controller(body) if body is not None and kind in {Kind.PODS, Kind.JOBS} else None
        for owned in (Kind.STATEFUL_SETS, Kind.JOBS, Kind.CRON_JOBS):
            if owner is not None and owner["kind"] == NAMES[owned]:
                self._enqueue(Address(owned, change.address.namespace, owner["name"]))
        if kind is Kind.PODS and change.new is None:
            # A StatefulSet may wait until this pod's name is free.
            name = change.address.name.removesuffix("-0")
            self._enqueue(Address(Kind.STATEFUL_SETS, change.address.namespace, name))

    def _enqueue(self, address: Address, delay: float | None = None) -> None:
        rng, now = self.simulation.rng, self.simulation.loop.now
        lag = 0.0
        if delay is None:
            delay = rng.uniform(0.005, 0.3)
            if self.simulation.faults.occurs(Fault.STALE_CONTROLLER):
                lag = rng.uniform(0.2, 4.0)
        due = self._due.get(address)
        if due is not None and due <= now + delay and lag == 0.0:
            return
        self._due[address] = now + delay
        self.simulation.loop.after(delay, self._sync, address, lag)
        if lag > 0:
            self.simulation.loop.after(delay + lag, self._sync, address, 0.0)

    def _sync(self, address: Address, lag: float) -> None:
        if self._due.get(address, 0.0) <= self.simulation.loop.now:
            self._due.pop(address, None)
        moment = max(self.simulation.loop.now - lag, self._cache_times.get(address, 0.0))
        self._cache_times[address] = moment
        self._syncs[address.kind](address, moment)

    def _pods(self, namespace: str, owner_uid: str, moment: float) -> list[Json]:
        found = []
        for pod in self.simulation.server.scan_at(Kind.PODS, namespace, moment):
            owner = find_controller(pod)
            if owner is not None and owner["uid"] == owner_uid:
                found.append(pod)
        return found

    def _sync_set(self, address: Address, moment: float) -> None:
        server = self.simulation.server
        found = server.peek_at(Kind.STATEFUL_SETS, address.namespace, address.name, moment)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return
        name = f"{address.name}-0"
        pod = server.peek_at(Kind.PODS, address.namespace, name, moment)
        owner = find_controller(pod) if pod is not None else None
        ours = owner is not None and owner["uid"] == found["metadata"]["uid"]
        if found["spec"].get("replicas", 1) > 0:
            if pod is None:
                self._create_pod(found, Kind.STATEFUL_SETS, name)
            elif ours and pod["status"]["phase"] in TERMINAL:
                self._delete_pod(pod, "statefulset")
        elif ours and pod is not None:
            self._delete_pod(pod, "statefulset")
        self._report_set(address, found, 1 if ours else 0)

    def _report_set(self, address: Address, found: Json, replicas: int) -> None:
        def report(body: Json) -> None:
            if body["metadata"]["uid"] == found["metadata"]["uid"]:
                body["status"] = {
                    "observedGeneration": found["metadata"]["generation"],
                    "replicas": replicas,
                    "updateRevision": hash_template(found["spec"]["template"]),
                }

        self.simulation.server.change_status(Kind.STATEFUL_SETS, address.namespace, address.name, report, "statefulset")

    def _create_pod(self, owner: Json, kind: Kind, name: str) -> None:
        template, metadata = owner["spec"]["template"], owner["metadata"]
        spec = copy_body(template["spec"])
        spec["hostname"] = name
        pod = {
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": {**template["metadata"].get("labels", {}), REVISION: hash_template(template)},
                "ownerReferences": [build_owner(owner, kind)],
            },
            "spec": spec,
        }
        if kind is Kind.JOBS:
            pod["metadata"]["labels"] |= {"batch.kubernetes.io/job-name": metadata["name"]}
        try:
            self.simulation.server.create(Kind.PODS, metadata["namespace"], pod, kind.value)
        except AlreadyExists:
            self._enqueue(Address(kind, metadata["namespace"], metadata["name"]), 2.0)

    def _delete_pod(self, pod: Json, actor: str) -> None:
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            return
        try:
            self.simulation.server.delete(Kind.PODS, metadata["namespace"], metadata["name"], uid=metadata["uid"], actor=actor)
        except ApiConflict:
            return

    def _sync_job(self, address: Address, moment: float) -> None:
        job = self.simulation.server.peek_at(Kind.JOBS, address.namespace, address.name, moment)
        if job is None or "deletionTimestamp" in job["metadata"] or find_end(job) is not None:
            return
        pods = self._pods(address.namespace, job["metadata"]["uid"], moment)
        ended = [pod for pod in pods if pod["status"]["phase"] in TERMINAL]
        counts_terminating = job["spec"].get("podReplacementPolicy") == "Failed"
        active = [pod for pod in pods if pod not in ended and (counts_terminating or "deletionTimestamp" not in pod["metadata"])]
        succeeded = any(pod["status"]["phase"] == "Succeeded" for pod in ended)
        failed = sum(pod["status"]["phase"] == "Failed" and "deletionTimestamp" not in pod["metadata"] for pod in ended)
        end, suspended = None, bool(job["spec"].get("suspend"))
        if succeeded and not active:
            end = "Complete"
        elif failed > job["spec"].get("backoffLimit", 6):
            end = "Failed"
        if suspended or end == "Failed":
            for pod in active:
                self._delete_pod(pod, "job")
        elif end is None and not active:
            self._create_pod(job, Kind.JOBS, f"{address.name}-{self.simulation.rng.randrange(16**5):05x}")
        self._report_job(address, job, end, len(active), suspended)

    def _report_job(self, address: Address, job: Json, end: str | None, active: int, suspended: bool) -> None:
        def report(body: Json) -> None:
            if body["metadata"]["uid"] != job["metadata"]["uid"]:
                return
            conditions = [{"type": "Suspended", "status": "True" if suspended else "False"}]
            if end is not None:
                conditions.append({"type": end, "status": "True"})
            body["status"] = {"active": active, "conditions": conditions}
            if end == "Complete":
                body["status"]["succeeded"] = 1

        self.simulation.server.change_status(Kind.JOBS, address.namespace, address.name, report, "job")

    def _sync_cron_job(self, address: Address, moment: float) -> None:
        found = self.simulation.server.peek_at(Kind.CRON_JOBS, address.namespace, address.name, moment)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return
        metadata, now = found["metadata"], self.simulation.loop.now
        due_number = int(now // SCHEDULE_SECONDS)
        self._enqueue(address, (due_number + 1) * SCHEDULE_SECONDS - now + 0.01)
        last = int((found.get("status") or {}).get("turn", -1))
        jobs = [job for job in self.simulation.server.scan(Kind.JOBS, address.namespace) if is_owned(job, metadata["uid"])]
        for job in sorted((job for job in jobs if find_end(job) is not None), key=lambda job: str(job["metadata"]["name"]))[:-1]:
            self.simulation.server.delete(
                Kind.JOBS, address.namespace, job["metadata"]["name"], uid=job["metadata"]["uid"], actor="cronjob"
            )
        if (
            not self.simulation.faults.active
            or found["spec"].get("suspend")
            or due_number <= last
            or now - due_number * SCHEDULE_SECONDS > 5
        ):
            return
        if any(find_end(job) is None for job in jobs):
            return
        template = copy_body(found["spec"]["jobTemplate"])
        template.setdefault("metadata", {})
        template["metadata"] |= {"name": f"{address.name}-{due_number}", "ownerReferences": [build_owner(found, Kind.CRON_JOBS)]}
        with contextlib.suppress(AlreadyExists):
            self.simulation.server.create(Kind.JOBS, address.namespace, template, "cronjob")

        def report(body: Json) -> None:
            if body["metadata"]["uid"] == metadata["uid"]:
                body["status"] = {"turn": due_number}

        self.simulation.server.change_status(Kind.CRON_JOBS, address.namespace, address.name, report, "cronjob")


def build_owner(owner: Json, kind: Kind) -> Json:
    metadata = owner["metadata"]
    return {"kind": NAMES[kind], "name": metadata["name"], "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}


def is_owned(body: Json, uid: str) -> bool:
    owner = find_controller(body)
    return owner is not None and owner["uid"] == uid


def find_end(job: Json) -> str | None:
    """Complete or Failed, or None while the Kubernetes Job can still run."""
    conditions = (job.get("status") or {}).get("conditions", [])
    return next((str(entry["type"]) for entry in conditions if entry["type"] in {"Complete", "Failed"} and entry["status"] == "True"), None)


def hash_template(template: Json) -> str:
    return _hash(marshal.dumps(template))


@lru_cache(maxsize=4096)
def _hash(template: bytes) -> str:
    text = json.dumps(marshal.loads(template), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
