"""The simulated API server: unique names, resourceVersions, immutable fields, finalizers, and deletion in stages.

Each call happens at one moment and completely. The network (`network`) makes answers late, old or lost.
"""

from __future__ import annotations

import bisect
import json
import marshal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from dedup_operator.adapters.kube import AlreadyExists
from dedup_operator.domain.errors import ApiConflict, ApiRefused

Json = dict[str, Any]
START_TIME = datetime(2026, 1, 1, tzinfo=UTC)
FOREGROUND = "foregroundDeletion"
PROTECTION = "kubernetes.io/pvc-protection"


class Kind(StrEnum):
    """A kind, named by the plural in its API path, as in `dedup_operator.adapters.kube.Resource`."""

    DEDUP_JOBS = "dedupjobs"
    STATEFUL_SETS = "statefulsets"
    JOBS = "jobs"
    CRON_JOBS = "cronjobs"
    PODS = "pods"
    CLAIMS = "persistentvolumeclaims"
    SERVICES = "services"
    CONFIG_MAPS = "configmaps"
    CORE_EVENTS = "core-events"
    """core/v1 events about children, which nobody creates here. The events that the operator reports are not stored."""

    __hash__ = str.__hash__
    """The same value as Enum's own hash, which is slower because it is written in Python. Most lookups here are by
    kind."""


NAMES = {
    Kind.DEDUP_JOBS: "DedupJob",
    Kind.STATEFUL_SETS: "StatefulSet",
    Kind.JOBS: "Job",
    Kind.CRON_JOBS: "CronJob",
    Kind.PODS: "Pod",
    Kind.CLAIMS: "PersistentVolumeClaim",
    Kind.SERVICES: "Service",
    Kind.CONFIG_MAPS: "ConfigMap",
    Kind.CORE_EVENTS: "Event",
}
KINDS = {name: kind for kind, name in NAMES.items()}
WITH_GENERATION = {Kind.DEDUP_JOBS, Kind.STATEFUL_SETS, Kind.JOBS, Kind.CRON_JOBS}
IMMUTABLE = {
    Kind.STATEFUL_SETS: ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
    Kind.JOBS: ("selector", "template", "completions", "completionMode", "podReplacementPolicy", "podFailurePolicy"),
    Kind.CLAIMS: ("accessModes", "storageClassName", "volumeMode"),
}


class Event(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Address(NamedTuple):
    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Change:
    """`old` and `new` are the stored objects: nobody may change them."""

    event: Event
    address: Address
    old: Json | None
    new: Json | None
    actor: str


class Version(NamedTuple):
    since: float
    body: Json | None


def copy_body(body: Json) -> Json:
    """A deep copy, as after a transfer as JSON."""
    try:
        duplicate: Json = marshal.loads(marshal.dumps(body))
    except ValueError:  # it contains an enum, which JSON transfers as its value
        duplicate = json.loads(json.dumps(body))
    return duplicate


def render_time(seconds: float) -> str:
    return (START_TIME + timedelta(seconds=int(seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_controller(body: Json) -> Json | None:
    return next((owner for owner in body["metadata"].get("ownerReferences", ()) if owner.get("controller")), None)


def _find_version(versions: list[Version], moment: float) -> Json | None:
    if versions[-1].since <= moment:
        return versions[-1].body
    index = bisect.bisect_right(versions, moment, key=lambda version: version.since)
    return versions[index - 1].body if index else None


class ApiServer:
    """Stores all objects and tells its listeners about every change.

    It returns and takes objects without copying them, because copies would take a fifth of the CPU time. Who changes an
    object must copy it first. `test_nobody_changes_a_stored_object` checks that.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self.time = time
        self.listeners: list[Callable[[Change], None]] = []
        self._objects: dict[Address, Json] = {}
        self._by_kind: dict[Kind, dict[Address, Json]] = {kind: {} for kind in Kind}
        """The same objects by kind, for fast lists."""
        self._history: dict[Kind, dict[Address, list[Version]]] = {kind: {} for kind in Kind}
        self._revision = 0

    def peek(self, kind: Kind, namespace: str, name: str) -> Json | None:
        return self._objects.get(Address(kind, namespace, name))

    def peek_at(self, kind: Kind, namespace: str, name: str, moment: float) -> Json | None:
        """The object as it was at an earlier moment."""
        versions = self._history[kind].get(Address(kind, namespace, name))
        return _find_version(versions, moment) if versions else None

    def scan(self, kind: Kind, namespace: str | None = None) -> list[Json]:
        return [body for address, body in self._by_kind[kind].items() if namespace in (None, address.namespace)]

    def list_all(self) -> list[tuple[Address, Json]]:
        return list(self._objects.items())

    def scan_at(self, kind: Kind, namespace: str, moment: float) -> list[Json]:
        found = (_find_version(versions, moment) for address, versions in self._history[kind].items() if address.namespace == namespace)
        return [body for body in found if body is not None]

    def create(self, kind: Kind, namespace: str, body: Json, actor: str) -> Json:
        address = Address(kind, namespace, body["metadata"]["name"])
        if address in self._objects:
            raise AlreadyExists(f"{address} already exists")
        created, metadata = body, body["metadata"]
        metadata["namespace"] = namespace
        metadata["uid"] = f"uid-{self._revision + 1}"
        metadata["creationTimestamp"] = render_time(self.time())
        created["kind"] = NAMES[kind]
        if kind in WITH_GENERATION:
            metadata["generation"] = 1
        if kind is Kind.CLAIMS:
            metadata["finalizers"] = [PROTECTION]
        created.pop("status", None)
        if kind is Kind.DEDUP_JOBS:
            created["status"] = {"observedGeneration": -1}
        elif kind in {Kind.CLAIMS, Kind.PODS}:
            created["status"] = {"phase": "Pending"}
        self._store(Event.ADDED, address, created, actor)
        return created

    def replace(self, kind: Kind, body: Json, subresource: str, actor: str) -> Json:
        """If the body has a UID or a resourceVersion, they must be those of the stored object."""
        metadata = body["metadata"]
        address = Address(kind, metadata["namespace"], metadata["name"])
        old = self._objects.get(address)
        if old is None:
            raise ApiConflict(f"{address} not found")
        if metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise ApiConflict(f"{address}: another UID")
        if metadata.get("resourceVersion", old["metadata"]["resourceVersion"]) != old["metadata"]["resourceVersion"]:
            raise ApiConflict(f"{address}: the object has been modified")
        new = body
        if subresource == "status":
            new = {**old, "metadata": {**old["metadata"]}, "status": body.get("status", {})}
        else:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        self._keep_server_fields(kind, old, new)
        return self._update(address, old, new, actor)

    def change(self, kind: Kind, namespace: str, name: str, edit: Callable[[Json], None], actor: str) -> Json | None:
        """For users and controllers: reads and writes at one moment. Returns None if the object does not exist."""
        address = Address(kind, namespace, name)
        old = self._objects.get(address)
        if old is None:
            return None
        new = copy_body(old)
        edit(new)
        self._count_generation(kind, old, new)
        return self._update(address, old, new, actor)

    def change_status(self, kind: Kind, namespace: str, name: str, edit: Callable[[Json], None], actor: str) -> None:
        """Like `change`, but only for the status."""
        address = Address(kind, namespace, name)
        old = self._objects.get(address)
        if old is not None:
            new = {**old, "metadata": {**old["metadata"]}, "status": copy_body(old.get("status", {}))}
            edit(new)
            self._update(address, old, new, actor)

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        version: str | None = None,
        foreground: bool = False,
        grace: int | None = None,
        actor: str,
    ) -> None:
        """`grace` is the grace period of a pod. With 0 the pod is deleted at once, even if its process still runs."""
        address = Address(kind, namespace, name)
        old = self._objects.get(address)
        if old is None:
            return
        if uid is not None and uid != old["metadata"]["uid"]:
            raise ApiConflict(f"{address}: another UID")
        if version is not None and version != old["metadata"]["resourceVersion"]:
            raise ApiConflict(f"{address}: another version")
        if kind is Kind.PODS:
            self._delete_pod(address, old, grace, actor)
            return
        finalizers = [*old["metadata"].get("finalizers", [])]
        if foreground and FOREGROUND not in finalizers:
            finalizers.append(FOREGROUND)
        if not finalizers:
            self._remove(address, old, actor)
            return
        new = copy_body(old)
        new["metadata"]["finalizers"] = finalizers
        self._mark_deleted(kind, new, self.time())
        self._update(address, old, new, actor)

    def _mark_deleted(self, kind: Kind, body: Json, moment: float) -> None:
        if "deletionTimestamp" not in body["metadata"]:
            body["metadata"]["deletionTimestamp"] = render_time(moment)
            if kind in WITH_GENERATION:
                body["metadata"]["generation"] += 1

    def _delete_pod(self, address: Address, old: Json, grace: int | None, actor: str) -> None:
        seconds = old["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        if seconds == 0 or "nodeName" not in old["spec"]:
            self._remove(address, old, actor)
        elif "deletionTimestamp" not in old["metadata"]:
            new = copy_body(old)
            new["metadata"]["deletionTimestamp"] = render_time(self.time() + seconds)
            new["metadata"]["deletionGracePeriodSeconds"] = seconds
            self._update(address, old, new, actor)

    def _keep_server_fields(self, kind: Kind, old: Json, new: Json) -> None:
        for field in IMMUTABLE.get(kind, ()):
            if old["spec"].get(field) != new["spec"].get(field):
                raise ApiRefused(
                    f"spec.{field} is immutable",
                )
        if kind is Kind.CONFIG_MAPS and old.get("immutable") and (old["data"] != new["data"] or not new.get("immutable")):
            raise ApiRefused("the ConfigMap is immutable")
        for field in ("uid", "creationTimestamp", "generation", "deletionTimestamp"):
            if field in old["metadata"]:
                new["metadata"][field] = old["metadata"][field]
        new["kind"] = old["kind"]
        self._count_generation(kind, old, new)

    def _count_generation(self, kind: Kind, old: Json, new: Json) -> None:
        if kind in WITH_GENERATION and old["spec"] != new["spec"]:
            new["metadata"]["generation"] += 1

    def _update(self, address: Address, old: Json, new: Json, actor: str) -> Json:
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return old
        if "deletionTimestamp" in new["metadata"] and address.kind is not Kind.PODS and not new["metadata"].get("finalizers"):
            self._remove(address, old, actor)
            return new
        self._store(Event.MODIFIED, address, new, actor)
        return new

    def _store(self, event: Event, address: Address, body: Json, actor: str) -> None:
        old = self._objects.get(address)
        self._revision += 1
        body["metadata"]["resourceVersion"] = str(self._revision)
        self._objects[address] = self._by_kind[address.kind][address] = body
        self._history[address.kind].setdefault(address, []).append(Version(self.time(), body))
        self._notify(Change(event, address, old, body, actor))

    def _remove(self, address: Address, old: Json, actor: str) -> None:
        self._revision += 1
        del self._objects[address], self._by_kind[address.kind][address]
        self._history[address.kind][address].append(Version(self.time(), None))
        self._notify(Change(Event.DELETED, address, old, None, actor))

    def _notify(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)
