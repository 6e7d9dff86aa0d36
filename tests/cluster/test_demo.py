"""`make demo` on a cluster that the user names. The test bed's cluster plays that cluster: a kubeconfig, images, no
more.

Each run is a process of its own with the variables that the Makefile sets, and with KUBECONFIG of the environment set
to a file that does not exist.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cluster.harness import CRD, ROOT, Cluster
from demo.cluster import Json
from demo.places import OWN_NAMESPACE
from demo.plan import Plan
from demo.preflight import DEFAULT_CLASS

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.testbed("it removes the operator and the CRD; on your own cluster run `make demo` itself"),
]

FLIGHTS = 90_000
"""Enough for two kills of the producer."""
CLUSTER_WIDE = "namespaces,clusterroles,clusterrolebindings,customresourcedefinitions,persistentvolumes,storageclasses"


@dataclass(frozen=True)
class Stranger:
    """A user whose cluster this is."""

    cluster: Cluster
    config: Json
    """The kubeconfig of the test bed."""
    folder: Path

    @property
    def context(self) -> str:
        return str(self.config["contexts"][0]["name"])

    def write_config(self, config: Json) -> Path:
        path = self.folder / "config"
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    def run(self, command: str, config: Json | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs `python -m demo` with `DEDUP_…` variables."""
        given = {"KUBECONFIG": str(self.write_config(config or self.config)), **variables}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DEDUP_") or name == "DEDUP_CACHE"},
            **{f"DEDUP_{name}": value for name, value in given.items()},
            "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("crds", "operator", "job", "tests")),
            "KUBECONFIG": "/does/not/exist",
        }
        command_line = [sys.executable, "-m", "demo", command]
        return subprocess.run(command_line, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=550, check=False)

    def run_demo(self, config: Json | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """With the images that the test bed has loaded."""
        images = {f"{name.upper()}_IMAGE": self.cluster.load_image(name) for name in ("operator", "job", "kafka")}
        return self.run("run", config, FLIGHTS=str(FLIGHTS), **images, **variables)

    def list_cluster_wide(self) -> set[str]:
        return set(self.cluster.kubectl("get", CLUSTER_WIDE, "-o", "name").split())


@pytest.fixture(scope="module")
def stranger(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    """A cluster without an operator and without the CRD."""
    if cluster.find_values() is not None:
        cluster.uninstall()
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found", "--timeout=120s")
    config = yaml.safe_load(cluster.testbed.kubeconfig.read_text())
    return Stranger(cluster, config, tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def removed(stranger: Stranger) -> Iterator[None]:
    """Removes the demo even when the test fails."""
    yield
    stranger.run("remove")


def read_table(output: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\S.*?)  +(\S.*)$", output, re.MULTILINE))


def test_a_short_demo_checks_every_record_and_leaves_nothing(stranger: Stranger, removed: None) -> None:
    before = stranger.list_cluster_wide()
    done = stranger.run_demo()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    table = read_table(done.stdout)
    counted = {name: int(table[name].replace(",", "")) for name in ("records sent", "records in the output", "duplicates removed")}
    assert table["different flights"] == f"{FLIGHTS:,}" and counted["records in the output"] == FLIGHTS
    assert counted["records sent"] - counted["duplicates removed"] == FLIGHTS
    assert counted["duplicates removed"] >= Plan(FLIGHTS).duplicates_needed
    assert [table[name] for name in ("flights missing", "flights repeated", "records never sent")] == ["0", "0", "0"]
    assert table["producer killed"] in ("1 time", "2 times"), "a busy machine may reach the end before the second kill"

    announced, _, written = done.stderr.partition("the demo writes: ")
    assert f"context {stranger.context}" in announced and "https://" in announced, "the demo must say first which cluster it uses"
    assert f"namespace {OWN_NAMESPACE}, CRD {CRD}" in written
    added = {name for name in stranger.list_cluster_wide() - before if not name.startswith("persistentvolume/")}
    assert added == {f"namespace/{OWN_NAMESPACE}", f"customresourcedefinition.apiextensions.k8s.io/{CRD}"}

    done = stranger.run("remove")
    assert done.returncode == 0, done.stderr
    left = {name for name in stranger.list_cluster_wide() - before if not name.startswith("persistentvolume/")}
    assert left == set(), "volumes are deleted a moment later, everything else at once"


def refuse(stranger: Stranger, done: subprocess.CompletedProcess[str]) -> str:
    """The message of a demo that has stopped before it wrote anything."""
    assert done.returncode == 2 or "Nothing was changed" in done.stderr, f"{done.stdout}\n{done.stderr}"
    assert "the demo writes" not in done.stderr
    return done.stderr


def test_a_kubeconfig_with_several_contexts_needs_a_choice(stranger: Stranger) -> None:
    production = {**stranger.config["contexts"][0], "name": "production"}
    config = {**stranger.config, "contexts": [production, *stranger.config["contexts"]], "current-context": "production"}
    assert "Name the one to use, for example CONTEXT=" in refuse(stranger, stranger.run_demo(config))
    assert stranger.cluster.find("namespace", OWN_NAMESPACE, "") is None


def test_missing_rights_are_listed(stranger: Stranger) -> None:
    """A service account that may list everything and change nothing."""
    cluster = stranger.cluster
    cluster.kubectl("create", "serviceaccount", "viewer", "-n", "default")
    cluster.kubectl("create", "clusterrolebinding", "demo-viewer", "--clusterrole=view", "--serviceaccount=default:viewer")
    try:
        token = cluster.kubectl("create", "token", "viewer", "-n", "default").strip()
        users = [{"name": user["name"], "user": {"token": token}} for user in stranger.config["users"]]
        message = refuse(stranger, stranger.run_demo({**stranger.config, "users": users}))
    finally:
        cluster.kubectl("delete", "clusterrolebinding", "demo-viewer")
        cluster.kubectl("delete", "serviceaccount", "viewer", "-n", "default")
    for right in ("create namespaces", "create customresourcedefinitions", f"create pods/exec in namespace {OWN_NAMESPACE}"):
        assert right in message


def test_a_cluster_without_a_default_storage_class_is_refused(stranger: Stranger) -> None:
    cluster = stranger.cluster
    classes = json.loads(cluster.kubectl("get", "storageclasses", "-o", "json"))["items"]
    (default,) = [item["metadata"]["name"] for item in classes if item["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true"]
    cluster.kubectl("annotate", "--overwrite", "storageclass", default, f"{DEFAULT_CLASS}=false")
    try:
        message = refuse(stranger, stranger.run_demo())
    finally:
        cluster.kubectl("annotate", "--overwrite", "storageclass", default, f"{DEFAULT_CLASS}=true")
    assert f"Name one with STORAGE_CLASS=…; it has: {default}" in message


def test_an_operator_that_runs_already_is_left_alone(stranger: Stranger) -> None:
    cluster = stranger.cluster
    namespace, deployment = "dedup-elsewhere", "their-operator"
    labels = {"app.kubernetes.io/name": "dedup-operator"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "operator", "image": "none"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": deployment, "labels": labels}, "spec": spec}
    cluster.create_namespace(namespace)
    try:
        cluster.kubectl("apply", "-n", namespace, "-f", "-", document=document)
        assert f"runs already in this cluster, in namespace {namespace}" in refuse(stranger, stranger.run_demo())
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--timeout=60s")


def test_a_namespace_of_the_users_is_never_deleted(stranger: Stranger) -> None:
    cluster = stranger.cluster
    cluster.create_namespace(OWN_NAMESPACE)
    try:
        for done in (stranger.run_demo(), stranger.run("remove")):
            assert "is not the demo's" in refuse(stranger, done)
        assert "deletionTimestamp" not in cluster.get("namespace", OWN_NAMESPACE, "")["metadata"]
    finally:
        cluster.kubectl("delete", "namespace", OWN_NAMESPACE, "--timeout=60s")
