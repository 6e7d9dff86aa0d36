"""Whole reconciliations against an API server that only stores
objects: what the operator writes, and what it must not write."""

from __future__ import annotations

import itertools
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from dedup_api import names
from dedup_api.driver_status import DriverStatus, Phase
from dedup_api.reasons import Reason
from dedup_api.status import Progress
from dedup_operator.adapters.driver import Drivers
from dedup_operator.adapters.events import Recorder
from dedup_operator.adapters.kube import AlreadyExists, Kube, Resource
from dedup_operator.adapters.metrics import Metrics
from dedup_operator.domain.annotations import CHECKPOINT_CONFIG
from dedup_operator.domain.errors import ApiConflict
from dedup_operator.domain.manifests import JobImage
from dedup_operator.domain.manifests.metadata import build_labels
from dedup_operator.domain.observe.pod import DriverUnreachable
from dedup_operator.domain.times import render_time
from dedup_operator.domain.types import Key
from dedup_operator.reconcile import Reconciler
from unit.operator.samples import SPEC

Json = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)
SHARED: Json = {"checkpoint": {"existing": {"claimName": "shared", "subPath": "orders"}}}
COUNT = itertools.count(1)


class StoredObjects(Kube):
    """Stores objects and lists the writes. There are no controllers."""

    def __init__(self) -> None:
        self.items: dict[tuple[Resource, str], Json] = {}
        self.writes: list[tuple[str, Resource, str]] = []
        self.created_first: dict[tuple[Resource, str], Json] = {}
        """Objects that something else creates a moment before the operator does."""

    def put(self, resource: Resource, body: Json) -> Json:
        version = next(COUNT)
        metadata = {"namespace": "ns", "uid": uuid4().hex, "generation": 1, "creationTimestamp": render_time(START), **body["metadata"]}
        stored = {**deepcopy(body), "metadata": {**metadata, "resourceVersion": str(version)}}
        self.items[resource, metadata["name"]] = stored
        return deepcopy(stored)

    def find(self, resource: Resource, name: str) -> Json | None:
        return self.items.get((resource, name))

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        return deepcopy(self.items.get((resource, name)))

    async def list(self, resource: Resource, namespace: str | None, **query: str) -> list[Json]:
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
        found = [body for (kind, _), body in self.items.items() if kind is resource]
        return [deepcopy(body) for body in found if wanted.items() <= body["metadata"].get("labels", {}).items()]

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        name = body["metadata"]["name"]
        if resource is Resource.EVENTS:
            return body
        if (resource, name) in self.created_first:
            self.put(resource, self.created_first.pop((resource, name)))
        if (resource, name) in self.items:
            raise AlreadyExists(name)
        self.writes.append(("create", resource, name))
        return self.put(resource, body)

    async def replace(self, resource: Resource, body: Json, subresource: str = "") -> Json:
        name = body["metadata"]["name"]
        stored = self.items[resource, name]
        if body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
            raise ApiConflict(name)
        self.writes.append((subresource or "replace", resource, name))
        return self.put(resource, {**stored, "status": body["status"]} if subresource else body)


class OneDriver(Drivers):
    """Answers as one driver would, and lists the addresses of all requests."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.driver_status = DriverStatus(phase=Phase.WAITING)

    async def fetch_status(self, uid: str, address: str, now: datetime) -> DriverStatus | DriverUnreachable:
        self.addresses.append(address)
        return self.driver_status


class Bench:
    def __init__(self) -> None:
        self.now = START
        self.kube, self.drivers = StoredObjects(), OneDriver()
        self.reconciler = Reconciler(
            kube=self.kube,
            drivers=self.drivers,
            recorder=Recorder(self.kube),
            metrics=Metrics(),
            image=JobImage("job:1"),
            clock=lambda: self.now,
            resync_seconds=10.0,
        )

    def make_job(self, name: str = "demo", **changes: Any) -> Json:
        return self.kube.put(Resource.DEDUP_JOBS, {"kind": names.KIND, "metadata": {"name": name}, "spec": {**deepcopy(SPEC), **changes}})

    async def reconcile(self, *jobs: str) -> list[tuple[str, Resource, str]]:
        """Reconciles each DedupJob once. Returns the writes."""
        self.kube.writes = []
        for job in jobs or ("demo",):
            await self.reconciler.reconcile(Key("ns", job))
        return self.kube.writes

    def find_ready(self, job: str = "demo") -> Json:
        resource = self.kube.items[Resource.DEDUP_JOBS, job]
        found: Json = next(item for item in resource["status"]["conditions"] if item["type"] == "Ready")
        return found

    def add_pod(self, name: str, owner: Json | None, age: int, address: str, job: str = "demo") -> Json:
        """Adds a running pod. `owner`: its controller."""
        controller = {"apiVersion": "x/v1", "kind": owner["kind"], "controller": True} if owner else {}
        owners = [{**controller, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}] if owner else []
        started = render_time(self.now - timedelta(seconds=age))
        metadata = {"name": name, "labels": build_labels(job), "ownerReferences": owners, "creationTimestamp": started}
        container = {"name": names.CONTAINER, "ready": True, "restartCount": 0, "state": {"running": {"startedAt": started}}}
        status = {"phase": "Running", "podIP": address, "containerStatuses": [container]}
        return self.kube.put(Resource.PODS, {"kind": "Pod", "metadata": metadata, "spec": {}, "status": status})


@pytest.fixture
def bench() -> Bench:
    return Bench()


def start_driver(bench: Bench) -> Json:
    """Creates the pod of the StatefulSet, as its controller does."""
    bench.kube.items[Resource.CLAIMS, "demo-checkpoint"]["status"] = {"phase": "Bound"}
    stateful_set = bench.kube.items[Resource.STATEFUL_SETS, "demo-driver"]
    return bench.add_pod("demo-driver-0", stateful_set, 60, "10.0.0.1")


@pytest.mark.parametrize("labels", [build_labels("other"), {}], ids=["of another job", "of an unknown owner"])
async def test_the_record_of_another_owner_is_never_written(bench: Bench, labels: dict[str, str]) -> None:
    bench.kube.put(Resource.CLAIMS, {"kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": CLAIM, "status": BOUND})
    name = names.record_name("shared", "orders")
    record = bench.kube.put(Resource.CONFIG_MAPS, {"kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {}})
    bench.make_job(**SHARED)
    assert await bench.reconcile() == [("status", Resource.DEDUP_JOBS, "demo")]
    assert bench.find_ready()["reason"] == Reason.CHECKPOINT_TAKEN
    assert await bench.reconcile() == [], "the second reconciliation writes nothing"
    assert bench.kube.find(Resource.CONFIG_MAPS, name) == record


CLAIM: Json = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
BOUND = {"phase": "Bound"}


async def test_of_two_jobs_that_want_one_folder_only_one_gets_it(bench: Bench) -> None:
    bench.kube.put(Resource.CLAIMS, {"kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": CLAIM, "status": BOUND})
    for job, watermark in (("first", "10m"), ("second", "20m")):
        bench.make_job(job, watermark=watermark, **SHARED)
    for _ in range(3):
        await bench.reconcile("first", "second")
    assert bench.find_ready("second")["reason"] == Reason.CHECKPOINT_TAKEN
    assert await bench.reconcile("first", "second") == []


def make_claim(**metadata: Any) -> Json:
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": "demo-checkpoint", **metadata}, "spec": CLAIM}


async def test_a_conflicting_claim_that_was_created_first_is_not_used(bench: Bench) -> None:
    bench.make_job()
    bench.kube.created_first[Resource.CLAIMS, "demo-checkpoint"] = make_claim()
    assert await bench.reconcile() == [("status", Resource.DEDUP_JOBS, "demo")]
    assert bench.find_ready()["reason"] == Reason.NAME_CONFLICT
    assert bench.kube.find(Resource.STATEFUL_SETS, "demo-driver") is None


async def test_a_retained_claim_that_appears_during_the_start_is_read_before_a_driver_starts(bench: Bench) -> None:
    bench.make_job()
    kept = make_claim(labels=build_labels("demo"), annotations={CHECKPOINT_CONFIG: "{}"})
    bench.kube.created_first[Resource.CLAIMS, "demo-checkpoint"] = kept
    with pytest.raises(ApiConflict):
        await bench.reconcile()
    assert bench.kube.writes == []


async def test_the_start_continues_when_the_claim_was_created_by_an_earlier_request(bench: Bench) -> None:
    bench.make_job()
    await bench.reconcile()
    made = bench.kube.items.pop((Resource.CLAIMS, "demo-checkpoint"))
    del bench.kube.items[Resource.STATEFUL_SETS, "demo-driver"], bench.kube.items[Resource.DEDUP_JOBS, "demo"]["status"]
    bench.kube.created_first[Resource.CLAIMS, "demo-checkpoint"] = made
    await bench.reconcile()
    assert bench.kube.find(Resource.STATEFUL_SETS, "demo-driver") is not None


async def test_status_progress_is_written_every_ten_seconds_also_when_the_clock_jumps_back(bench: Bench) -> None:
    bench.make_job()
    await bench.reconcile()
    start_driver(bench)
    times: list[int] = []
    for second in range(0, 600, 2):
        bench.now += timedelta(seconds=2) if second != 300 else -timedelta(days=1)
        progress = Progress(batch=second, rows_in=second * 1000)
        bench.drivers.driver_status = DriverStatus(phase=Phase.RUNNING, committed_in_this_run=True, progress=progress, attempt=1)
        if await bench.reconcile():
            times.append(second)
    writes = [second for second in times if second > 4]
    assert 55 <= len(writes) <= 61, writes
    assert all(after - before >= 10 for before, after in itertools.pairwise(writes) if not before < 300 <= after), writes


async def test_only_the_driver_of_the_job_is_asked_for_its_status(bench: Bench) -> None:
    """An older pod with the label of the DedupJob is not asked."""
    bench.make_job()
    await bench.reconcile()
    start_driver(bench)
    bench.add_pod("a-copy", None, 600, "10.0.0.9")
    await bench.reconcile()
    assert bench.drivers.addresses == ["10.0.0.1"]
    assert bench.find_ready()["reason"] != Reason.NAME_CONFLICT, "an orphaned pod does not disturb a running driver"


async def test_an_orphaned_pod_is_named_and_blocks_the_start(bench: Bench) -> None:
    bench.make_job()
    bench.add_pod("a-copy", None, 600, "10.0.0.9")
    await bench.reconcile()
    ready = bench.find_ready()
    assert ready["reason"] == Reason.NAME_CONFLICT and "Pod a-copy" in ready["message"] and "Delete it" in ready["message"]
    assert bench.kube.find(Resource.STATEFUL_SETS, "demo-driver") is None
    del bench.kube.items[Resource.PODS, "a-copy"]
    await bench.reconcile()
    assert bench.kube.find(Resource.STATEFUL_SETS, "demo-driver") is not None


async def test_a_suspended_job_needs_no_claim(bench: Bench) -> None:
    bench.make_job(suspend=True, **SHARED)
    await bench.reconcile()
    assert (bench.find_ready()["status"], bench.find_ready()["reason"]) == ("True", Reason.SUSPENDED)


async def test_a_job_is_not_suspended_while_an_orphaned_driver_may_run(bench: Bench) -> None:
    """A person who waits for `Suspended` may copy the checkpoint next. The annotation must not change either, because
    the orphaned driver stores keys for the old settings."""
    bench.make_job()
    await bench.reconcile()
    start_driver(bench)
    orphan = bench.kube.items.pop((Resource.PODS, "demo-driver-0"))
    orphan["metadata"] |= {"name": "orphan", "ownerReferences": []}
    bench.kube.put(Resource.PODS, orphan)
    job = bench.kube.items[Resource.DEDUP_JOBS, "demo"]
    job["spec"] |= {"suspend": True, "key": {"fields": ["other"]}}
    annotation = bench.kube.items[Resource.CLAIMS, "demo-checkpoint"]["metadata"]["annotations"][CHECKPOINT_CONFIG]
    for _ in range(2):
        await bench.reconcile()
    assert (bench.find_ready()["status"], bench.find_ready()["reason"]) == ("False", Reason.NAME_CONFLICT)
    assert bench.kube.items[Resource.STATEFUL_SETS, "demo-driver"]["spec"]["replicas"] == 0
    assert bench.kube.items[Resource.CLAIMS, "demo-checkpoint"]["metadata"]["annotations"][CHECKPOINT_CONFIG] == annotation


async def test_an_invalid_edit_does_not_change_the_conditions_of_the_driver(bench: Bench) -> None:
    bench.make_job()
    await bench.reconcile()
    start_driver(bench)
    bench.drivers.driver_status = DriverStatus(phase=Phase.RUNNING, committed_in_this_run=True, progress=Progress(batch=1), attempt=1)
    await bench.reconcile()
    bench.kube.items[Resource.DEDUP_JOBS, "demo"]["spec"]["watermark"] = "soon"
    await bench.reconcile()
    conditions = bench.kube.items[Resource.DEDUP_JOBS, "demo"]["status"]["conditions"]
    found = {item["type"]: (item["status"], item["reason"]) for item in conditions}
    assert found["Ready"] == ("False", "InvalidSpec") and found["Stalled"][0] == "True"
    assert found["DriverRunning"] == ("True", "Running") and found["ProgressRecent"] == ("True", "ProgressRecent")
