"""The three ways in which users apply a DedupJob: a member of a union is replaced by another one, and back again.

The CRD of version 0.1.0 stored defaults in unions. No client owned them, so they stood beside the member that a user chose
later. Jobs that were stored under that CRD must change too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.harness import ROOT, Cluster, Json, wait_until

NAMESPACE = "clients"
SPEC: Json = {
    "source": {"bootstrapServers": "kafka.kafka.svc:9092", "topic": "in"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "at"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "out"}},
    "suspend": True,
}
"""Suspended, so that an operator creates nothing."""
NIGHTLY: Json = {"trigger": {"availableNow": {"schedule": "0 3 * * *"}}}
SHARED: Json = {"checkpoint": {"existing": {"claimName": "shared"}}}
STEPS: tuple[Json, ...] = ({}, NIGHTLY, {}, {"trigger": {"processingTime": "10s"}}, NIGHTLY, SHARED, {**SHARED, **NIGHTLY}, {})
OLD_CRD = Path(__file__).with_name("crd_0_1_0.yaml")
"""The CRD of version 0.1.0, unchanged."""


class Client:
    """Applies the manifest of one job, as a user keeps it in Git."""

    def __init__(self, cluster: Cluster, name: str, folder: Path) -> None:
        self.cluster, self.name, self.folder = cluster, name, folder

    def write(self, changes: Json) -> Json:
        return {
            "apiVersion": "streamdedup.dev/v1alpha1",
            "kind": "DedupJob",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {**SPEC, **changes},
        }

    def apply(self, changes: Json) -> None:
        self.cluster.kubectl("apply", "-f", "-", document=self.write(changes))

    def diff(self, changes: Json) -> str:
        done = self.cluster.try_kubectl("diff", "-f", "-", document=self.write(changes))
        return done.stdout + done.stderr


class ServerSide(Client):
    def apply(self, changes: Json) -> None:
        self.cluster.kubectl("apply", "--server-side", "-f", "-", document=self.write(changes))

    def diff(self, changes: Json) -> str:
        done = self.cluster.try_kubectl("diff", "--server-side", "-f", "-", document=self.write(changes))
        return done.stdout + done.stderr


class Helm(Client):
    """A chart of the user's with the job as its only template."""

    def apply(self, changes: Json) -> None:
        chart = self.folder / self.name
        (chart / "templates").mkdir(parents=True, exist_ok=True)
        (chart / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": self.name, "version": "1.0.0"}))
        (chart / "templates" / "job.yaml").write_text(yaml.safe_dump(self.write(changes)))
        self.cluster.helm("upgrade", "--install", self.name, str(chart), "-n", NAMESPACE)

    def diff(self, changes: Json) -> str:
        """A second upgrade with the same chart changes nothing."""
        before = self.read_generation()
        self.apply(changes)
        return "" if self.read_generation() == before else "the second helm upgrade changed the job"

    def read_generation(self) -> int:
        return int(self.cluster.get("dedupjob", self.name, NAMESPACE)["metadata"]["generation"])


CLIENTS = {"apply": Client, "server-side": ServerSide, "helm": Helm}


def has_defaults(cluster: Cluster, client: Client) -> bool:
    """Whether the API server applies the CRD with defaults. It takes a moment until it uses a new one."""
    done = cluster.try_kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", document=client.write({}))
    return "trigger" in json.loads(done.stdout)["spec"]


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[None]:
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    yield
    cluster.kubectl("apply", "-f", str(ROOT / "crds"))
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def play(client: Client, steps: tuple[Json, ...]) -> None:
    for changes in steps:
        client.apply(changes)
        assert client.diff(changes) == "", f"{client.name}, after {changes}"
        spec = client.cluster.get("dedupjob", client.name, NAMESPACE)["spec"]
        for union, members in changes.items():
            for member, value in members.items():
                assert spec[union][member] == value, f"{client.name}, after {changes}: {spec}"
        assert ("availableNow" in spec.get("trigger", {})) == ("availableNow" in changes.get("trigger", {})), spec
        assert ("existing" in spec.get("checkpoint", {})) == ("checkpoint" in changes), spec


def test_a_member_of_a_union_is_replaced_by_every_client(cluster: Cluster, namespace: None, tmp_path: Path) -> None:
    cluster.kubectl("apply", "-f", str(ROOT / "crds"))
    for name, kind in CLIENTS.items():
        play(kind(cluster, name, tmp_path), STEPS)


def test_jobs_that_version_0_1_0_stored_change_too(cluster: Cluster, namespace: None, tmp_path: Path) -> None:
    clients = [kind(cluster, f"old-{name}", tmp_path) for name, kind in CLIENTS.items()]
    cluster.kubectl("apply", "-f", str(OLD_CRD))
    try:
        wait_until(lambda: has_defaults(cluster, clients[0]), "the API server applies the old CRD", 60)
        for client in clients:
            client.apply({})
            stored = cluster.get("dedupjob", client.name, NAMESPACE)["spec"]
            assert stored["trigger"] == {"processingTime": "5s"} and stored["checkpoint"]["claim"]["size"] == "10Gi"
    finally:
        cluster.kubectl("apply", "-f", str(ROOT / "crds"))
    wait_until(lambda: not has_defaults(cluster, Client(cluster, "none", tmp_path)), "the API server applies the new CRD", 60)
    for client in clients:
        before = copy.deepcopy(cluster.get("dedupjob", client.name, NAMESPACE))
        assert client.diff({}) == "", "the upgrade of the CRD makes no difference"
        assert cluster.get("dedupjob", client.name, NAMESPACE)["spec"] == before["spec"]
        play(client, STEPS)
