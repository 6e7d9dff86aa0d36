"""The operator's rights: namespaces that go away, an operator that may do nothing, other objects, the owner of claims.

The drivers are fake.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import RELEASE, ROOT, SYSTEM, Cluster, Jobs, Json, wait_until

pytestmark = pytest.mark.usefixtures("fake_operator")

CHART = str(ROOT / "charts" / "dedup-operator")
SMALL: Json = {"claim": {"size": "1Gi"}}


@pytest.fixture
def second(cluster: Cluster, jobs: Jobs) -> Iterator[Jobs]:
    namespace = f"{jobs.namespace}-b"
    cluster.create_namespace(namespace)
    yield Jobs(cluster, namespace)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


def test_a_namespace_that_goes_away_stops_no_other(jobs: Jobs, second: Jobs, cluster: Cluster, fake_operator: str) -> None:
    """The first one of the list: the unit tests also lose the last one."""
    watched = [second.namespace, jobs.namespace]
    try:
        cluster.deploy(fake_operator, watchNamespaces=watched)
        for each in (jobs, second):
            each.apply("before", "ok")
            each.wait_reason("before", "Running", "True")
        pod = find_operator_pod(cluster)
        cluster.kubectl("delete", "rolebinding", "--all", "-n", second.namespace)
        cluster.kubectl("delete", "namespace", second.namespace, "--timeout=120s")
        lost = f'dedup_operator_namespace_watched{{namespace="{second.namespace}"}} 0.0'
        wait_until(lambda: lost in cluster.read_operator("/metrics", check=False), "the metric tells", 120)
        wait_until(lambda: not is_operator_ready(cluster), "the readiness probe tells", 60)
        assert cluster.read_operator("/healthz") == "ok\n"
        assert f"does not watch namespace {second.namespace}" in cluster.kubectl("logs", f"deploy/{RELEASE}", "-n", SYSTEM)
        jobs.apply("after", "ok")
        jobs.wait_reason("after", "Running", "True")
        jobs.patch("before", suspend=True)
        jobs.wait_reason("before", "Suspended", "True")
        assert find_operator_pod(cluster) == pod, "the operator was not restarted"

        cluster.create_namespace(second.namespace)
        cluster.deploy(fake_operator, watchNamespaces=watched)  # waits until the operator is ready
        second.apply("back", "ok")
        second.wait_reason("back", "Running", "True")
        assert find_operator_pod(cluster) == pod
    finally:
        cluster.deploy(fake_operator)


def is_operator_ready(cluster: Cluster) -> bool:
    return bool(cluster.get("deployment", RELEASE, SYSTEM)["status"].get("readyReplicas", 0) == 1)


def find_operator_pod(cluster: Cluster) -> list[tuple[str, int]]:
    """UID and restarts of each pod of the operator."""
    found = json.loads(cluster.kubectl("get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=dedup-operator", "-o", "json"))["items"]
    return [(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in found]


def install_second(cluster: Cluster, release: str, jobs: Jobs, timeout: str, **values: Any) -> subprocess.CompletedProcess[str]:
    """Installs the chart once more, for the namespace of `jobs`, with the images of the first release."""
    first = cluster.find_values() or {}
    settings = {"image": first["image"], "job": first["job"], "resyncSeconds": 5, "watchNamespaces": [jobs.namespace], **values}
    command = cluster.access.helm_command("install", release, CHART, "-n", jobs.namespace, "-f", "-", "--wait", "--timeout", timeout)
    return cluster.run(command, settings)


def test_two_releases_of_one_name_and_a_release_of_another_name(jobs: Jobs, second: Jobs, cluster: Cluster, fake_operator: str) -> None:
    """The first release owns the CRD. The others find it, and leave it alone."""
    cluster.deploy(fake_operator, watchNamespaces=[SYSTEM])
    try:
        for release, each in ((RELEASE, jobs), ("other", second)):
            done = install_second(cluster, release, each, "120s")
            assert done.returncode == 0, done.stderr
            each.apply("mine", "ok")
            each.wait_reason("mine", "Running", "True")
        annotations = cluster.get("crd", "dedupjobs.streamdedup.dev", "")["metadata"]["annotations"]
        assert annotations["meta.helm.sh/release-namespace"] == SYSTEM
        assert cluster.try_helm("uninstall", RELEASE, "-n", jobs.namespace, "--wait").returncode == 0
        assert cluster.find("clusterrole", f"{RELEASE}.{SYSTEM}-view", "") is not None, "the roles of the first release stay"
    finally:
        for release, each in ((RELEASE, jobs), ("other", second)):
            cluster.try_helm("uninstall", release, "-n", each.namespace)
        cluster.deploy(fake_operator)


def test_helm_does_not_call_an_operator_ready_that_can_do_nothing(jobs: Jobs, cluster: Cluster) -> None:
    try:
        done = install_second(cluster, "powerless", jobs, "15s", rbac={"create": False}, crds={"install": False})
        assert done.returncode != 0, done.stdout
        log = cluster.kubectl("logs", "deployment/powerless-dedup-operator", "-n", jobs.namespace)
        assert "cannot list dedupjobs" in log and "forbidden" in log
    finally:
        cluster.try_helm("uninstall", "powerless", "-n", jobs.namespace)


SAFE: Json = {"allowPrivilegeEscalation": False}
CONTAINER: Json = {"name": "c", "image": "x", "securityContext": SAFE}
POD: Json = {"containers": [CONTAINER], "automountServiceAccountToken": False}


def make_workload(name: str, namespace: str, owner: Json | None, **pod: Any) -> Json:
    labels = {"app.kubernetes.io/managed-by": "dedup-operator", "streamdedup.dev/job": "kept"}
    metadata: Json = {"name": name, "namespace": namespace, "labels": labels}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    template = {"metadata": {"labels": labels}, "spec": {**POD, **pod}}
    spec = {"serviceName": "x", "replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}


@pytest.fixture
def as_operator(cluster: Cluster, jobs: Jobs, fake_operator: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """kubectl with the operator's own token. Returns the error, or an empty string. The operator has the optional right
    to delete claims."""
    cluster.deploy(fake_operator, rbac={"changeClaimOwner": True})
    known = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": known["clusters"][0]["cluster"]}],
        "users": [{"name": "operator", "user": {"token": cluster.kubectl("create", "token", RELEASE, "-n", SYSTEM).strip()}}],
        "contexts": [{"name": "own", "context": {"cluster": "cluster", "user": "operator", "namespace": jobs.namespace}}],
        "current-context": "own",
    }
    path = tmp_path / "kubeconfig"
    path.touch(0o600)
    path.write_text(json.dumps(config))

    def call(*arguments: str, document: object = None) -> str:
        done = cluster.run([str(cluster.access.kubectl_path), "--kubeconfig", str(path), *arguments], document)
        return "" if done.returncode == 0 else done.stderr

    yield call
    cluster.deploy(fake_operator)


def run_of_another_schedule(cluster: Cluster, jobs: Jobs) -> None:
    """Creates CronJob `backup` and a Job of the same name that belongs to it."""
    spec = {"suspend": True, "template": {"spec": {**POD, "restartPolicy": "Never"}}}
    metadata = {"name": "backup", "namespace": jobs.namespace}
    schedule = {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": spec}}
    cluster.kubectl("create", "-f", "-", document={"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": schedule})
    uid = jobs.get_object("cronjob", "backup")["metadata"]["uid"]
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "backup", "uid": uid, "controller": True}
    run = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {**metadata, "ownerReferences": [owner]}, "spec": spec}
    cluster.kubectl("create", "-f", "-", document=run)


def test_the_operators_own_token_changes_only_objects_of_dedup_jobs(jobs: Jobs, cluster: Cluster, as_operator: Callable[..., str]) -> None:
    """The roles would allow all of this: roles cannot name objects that do not exist yet."""
    jobs.apply("kept", "ok")
    jobs.wait_reason("kept", "Running", "True")
    uid = jobs.get("kept")["metadata"]["uid"]
    owner = {"apiVersion": "streamdedup.dev/v1alpha1", "kind": "DedupJob", "name": "kept", "uid": uid, "controller": True}
    foreign = {"name": "foreign", "namespace": jobs.namespace}
    cluster.kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "ConfigMap", "metadata": foreign, "data": {"a": "1"}})
    cluster.kubectl("create", "-f", "-", document={**make_workload("foreign", jobs.namespace, None), "metadata": foreign})

    run_of_another_schedule(cluster, jobs)

    def create(owner: Json | None, **pod: Any) -> str:
        return as_operator("create", "-f", "-", document=make_workload("new", jobs.namespace, owner, **pod))

    edited = {**jobs.get_object("configmap", "foreign"), "data": {"a": "2"}}
    refused = {
        "a foreign ConfigMap": as_operator("replace", "-f", "-", document=edited),
        "deleting a foreign ConfigMap": as_operator("delete", "configmap", "foreign"),
        "deleting a foreign StatefulSet": as_operator("delete", "statefulset", "foreign", "--wait=false"),
        "a StatefulSet without an owner": create(None),
        "a pod with a service account": create(owner, serviceAccountName="admin"),
        "a pod on the node's network": create(owner, hostNetwork=True),
        "a pod with a Secret": create(owner, volumes=[{"name": "s", "secret": {"secretName": "s"}}]),
        "a pod with a folder of the node": create(owner, volumes=[{"name": "s", "hostPath": {"path": "/"}}]),
        "a pod with a file server": create(owner, volumes=[{"name": "s", "nfs": {"server": "s", "path": "/"}}]),
        "a pod with the token of its service account": create(owner, automountServiceAccountToken=True),
        "a pod with an init container": create(owner, initContainers=[{**CONTAINER, "name": "i"}]),
        "a privileged pod": create(owner, containers=[{**CONTAINER, "securityContext": {"privileged": True}}]),
        "a pod with a Secret in its environment": create(owner, containers=[{**CONTAINER, "envFrom": [{"secretRef": {"name": "s"}}]}]),
        "deleting the run of a foreign schedule": as_operator("delete", "job", "backup", "--wait=false"),
        "deleting a claim": as_operator("delete", "pvc", "kept-checkpoint", "--wait=false"),
    }
    for what, error in refused.items():
        assert "ValidatingAdmissionPolicy" in error and "the operator m" in error, (what, error)
    assert create(owner) == ""
    assert as_operator("delete", "statefulset", "new", "--wait=false") == ""
    assert jobs.find("pvc", "kept-checkpoint") is not None
    jobs.patch("kept", watermark="20m")
    jobs.wait_reason("kept", "Running", "True")


@pytest.mark.testbed("its API server has the admission plugin OwnerReferencesPermissionEnforcement")
def test_a_reclaim_policy_that_the_api_server_refuses_is_a_condition(jobs: Jobs, cluster: Cluster, fake_operator: str) -> None:
    jobs.apply("switched", "ok", checkpoint={**SMALL, "reclaimPolicy": "Delete"})
    jobs.apply("asleep", "ok", checkpoint={**SMALL, "reclaimPolicy": "Delete"})
    for name in ("switched", "asleep"):
        jobs.wait_reason(name, "Running", "True")
    jobs.patch("asleep", suspend=True)
    jobs.wait_reason("asleep", "Suspended", "True")
    uid = jobs.pod_uid("switched")
    for name in ("switched", "asleep"):
        jobs.patch(name, checkpoint={"reclaimPolicy": "Retain"})
    for name in ("switched", "asleep"):
        message = jobs.wait_reason(name, "ReclaimPolicyRefused", "False")["message"]
        assert "rbac.changeClaimOwner" in message and "Do not delete the DedupJob" in message
        assert jobs.condition(name, "CheckpointReady")["reason"] == "ReclaimPolicyRefused"
    assert jobs.condition("switched", "DriverRunning")["status"] == "True" and jobs.pod_uid("switched") == uid
    try:
        cluster.deploy(fake_operator, rbac={"changeClaimOwner": True})
        jobs.wait_reason("switched", "Running", "True")
        jobs.wait_reason("asleep", "Suspended", "True")
        assert not jobs.get_object("pvc", "switched-checkpoint")["metadata"].get("ownerReferences")
        jobs.delete("switched", "asleep")
        jobs.wait_gone("statefulset", "switched-driver")
        jobs.wait_gone("pod", "switched-driver-0")
        assert all(jobs.find("pvc", f"{name}-checkpoint") is not None for name in ("switched", "asleep"))
    finally:
        cluster.deploy(fake_operator)
