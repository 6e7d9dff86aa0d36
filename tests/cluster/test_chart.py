"""The chart: the values that it refuses, the rights of the operator, and an operator for some namespaces only."""

from __future__ import annotations

import json
import subprocess

import pytest

from cluster.harness import RELEASE, ROOT, SYSTEM, Cluster, Jobs, wait_until

CHART = str(ROOT / "charts" / "dedup-operator")
TYPOS = ("imagee.tag=1", "image.tagg=1", "job.imagePullSecret=x", "logging.format=xml", "image.digest=latest", "crds.kept=true")
OTHER_ACCOUNT = "rbac.create=false,serviceAccount.create=false,serviceAccount.name=other"
NEEDED = (
    ("update", "dedupjobs.streamdedup.dev/status"),
    ("create", "statefulsets.apps"),
    ("create", "jobs.batch"),
    ("update", "cronjobs.batch"),
    ("list", "pods"),
    ("create", "persistentvolumeclaims"),
)


def template(cluster: Cluster, *flags: str) -> subprocess.CompletedProcess[str]:
    return cluster.try_helm("template", "x", CHART, *flags)


@pytest.mark.parametrize("typo", TYPOS)
def test_a_typo_in_the_values_is_refused(cluster: Cluster, typo: str) -> None:
    done = template(cluster, "--set", typo)
    assert done.returncode != 0 and "values don't meet the specifications" in done.stderr


@pytest.mark.parametrize("flags", [(), ("--set", "crds.install=false"), ("--set", OTHER_ACCOUNT), ("--set", "replicas=2")])
def test_the_api_server_accepts_the_rendered_chart(cluster: Cluster, flags: tuple[str, ...]) -> None:
    rendered = template(cluster, "--namespace", "default", *flags)
    assert rendered.returncode == 0, rendered.stderr
    done = cluster.try_kubectl("apply", "--dry-run=server", "-n", "default", "-f", "-", document=rendered.stdout)
    assert done.returncode == 0, done.stderr


def test_images_by_digest_and_defaults(cluster: Cluster) -> None:
    digest = "sha256:" + "a" * 64
    rendered = template(cluster, "--set", f"image.digest={digest}", "-s", "templates/deployment.yaml").stdout
    assert f"image: dedup-operator@{digest}" in rendered and "--job-image=dedup-job:0.1.0" in rendered


def may(cluster: Cluster, verb: str, resource: str, namespace: str) -> bool:
    resource, _, subresource = resource.partition("/")
    account = f"system:serviceaccount:{SYSTEM}:{RELEASE}"
    flags = ("-n", namespace, f"--as={account}", f"--subresource={subresource}")
    return cluster.kubectl("auth", "can-i", verb, resource, *flags, check=False).strip() == "yes"


@pytest.mark.usefixtures("fake_operator")
def test_the_operator_has_the_rights_that_it_needs_and_no_others(cluster: Cluster, jobs: Jobs) -> None:
    for verb, resource in NEEDED:
        assert may(cluster, verb, resource, jobs.namespace), (verb, resource)
    for verb, resource in (
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "pods/exec"),
        ("delete", "persistentvolumeclaims"),
        ("update", "dedupjobs.streamdedup.dev"),
        ("delete", "dedupjobs.streamdedup.dev"),
        ("create", "roles.rbac.authorization.k8s.io"),
        ("get", "nodes"),
        ("list", "namespaces"),
    ):
        assert not may(cluster, verb, resource, jobs.namespace), (verb, resource)


def test_an_operator_for_some_namespaces_ignores_the_others(cluster: Cluster, jobs: Jobs, fake_operator: str) -> None:
    other = f"{jobs.namespace}-other"
    cluster.create_namespace(other)
    try:
        cluster.deploy(fake_operator, watchNamespaces=[jobs.namespace])
        Jobs(cluster, other).apply("outside", "ok")
        jobs.apply("inside", "ok")
        jobs.wait_reason("inside", "Running", "True")
        jobs.patch("inside", suspend=True)
        jobs.wait_reason("inside", "Suspended", "True")
        assert Jobs(cluster, other).get("outside")["status"] == {"observedGeneration": -1}
        assert not may(cluster, "list", "pods", other) and may(cluster, "list", "pods", jobs.namespace)
        cluster.deploy(fake_operator)
        Jobs(cluster, other).wait_reason("outside", "Running", "True")
    finally:
        cluster.kubectl("delete", "namespace", other, "--wait=false")


def test_jobs_and_drivers_survive_an_uninstalled_operator(cluster: Cluster, jobs: Jobs, fake_operator: str) -> None:
    jobs.apply("left", "ok", checkpoint={"claim": {"size": "1Gi"}, "reclaimPolicy": "Delete"})
    jobs.apply("kept", "ok")
    jobs.apply("paused", "ok")
    for name in ("left", "kept", "paused"):
        jobs.wait_reason(name, "Running", "True")
    uids = {name: jobs.pod_uid(name) for name in ("left", "kept", "paused")}
    try:
        cluster.uninstall()
        selector = f"app.kubernetes.io/name={RELEASE}"
        wait_until(lambda: not cluster.kubectl("get", "pods", "-n", SYSTEM, "-l", selector, "-o", "name"), "the operator's pod is gone", 60)
        assert {name: jobs.pod_uid(name) for name in uids} == uids, "drivers continue without the operator"
        jobs.delete("left")
        jobs.wait_gone("dedupjob", "left", 30)
        for kind, name in (("statefulset", "left-driver"), ("pod", "left-driver-0"), ("pvc", "left-checkpoint")):
            jobs.wait_gone(kind, name)
        kept = json.loads(cluster.kubectl("get", "crd", "dedupjobs.streamdedup.dev", "-o", "json"))
        assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        jobs.patch("paused", suspend=True)
        assert jobs.pod_uid("kept") == uids["kept"]
    finally:
        cluster.deploy(fake_operator)
    wait_until(lambda: cluster.find("deployment", RELEASE, SYSTEM), "the operator is installed again")
    jobs.wait_reason("paused", "Suspended", "True")  # the edit from the time without an operator
    before = cluster.count_reconciliations()
    wait_until(lambda: cluster.count_reconciliations(check=False) >= before + 6, "the operator reconciles each job some times", 120)
    assert jobs.pod_uid("kept") == uids["kept"], "the new operator keeps the running driver"
    assert jobs.condition("kept")["reason"] == "Running"
    jobs.patch("kept", watermark="20m")
    jobs.patch("paused", suspend=False)
    wait_until(lambda: jobs.is_replaced("kept", uids["kept"]), "an edit restarts the driver")
    for name in ("kept", "paused"):
        jobs.wait_reason(name, "Running", "True")
        assert jobs.get(name)["status"]["checkpoint"]["attempt"] == 2, "the driver continues on its checkpoint"
