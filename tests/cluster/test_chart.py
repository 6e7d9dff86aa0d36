"""The chart: what it refuses, what the operator may and may not do, and an operator for some namespaces only."""

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
    command = ["helm", "template", "x", CHART, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=cluster.testbed.environment())


@pytest.mark.parametrize("typo", TYPOS)
def test_a_typo_in_the_values_is_refused(cluster: Cluster, typo: str) -> None:
    done = template(cluster, "--set", typo)
    assert done.returncode != 0 and "values don't meet the specifications" in done.stderr


@pytest.mark.parametrize("flags", [(), ("--set", "crds.install=false"), ("--set", OTHER_ACCOUNT), ("--set", "replicas=2")])
def test_the_api_server_takes_what_the_chart_makes(cluster: Cluster, flags: tuple[str, ...]) -> None:
    made = template(cluster, "--namespace", "default", *flags)
    assert made.returncode == 0, made.stderr
    done = subprocess.run(
        ["kubectl", "apply", "--dry-run=server", "-n", "default", "-f", "-"],
        input=made.stdout,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=cluster.testbed.environment(),
    )
    assert done.returncode == 0, done.stderr


def test_images_by_digest_and_defaults(cluster: Cluster) -> None:
    digest = "sha256:" + "a" * 64
    made = template(cluster, "--set", f"image.digest={digest}", "-s", "templates/deployment.yaml").stdout
    assert f"image: dedup-operator@{digest}" in made and "--job-image=dedup-job:0.1.0" in made


def may(cluster: Cluster, verb: str, resource: str, namespace: str) -> bool:
    resource, _, subresource = resource.partition("/")
    account = f"system:serviceaccount:{SYSTEM}:{RELEASE}"
    flags = ("-n", namespace, f"--as={account}", f"--subresource={subresource}")
    return cluster.kubectl("auth", "can-i", verb, resource, *flags, check=False).strip() == "yes"


@pytest.mark.usefixtures("fake_operator")
def test_least_rights(cluster: Cluster, jobs: Jobs) -> None:
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


def test_an_operator_for_some_namespaces_leaves_others_alone(cluster: Cluster, jobs: Jobs, fake_operator: str) -> None:
    other = f"{jobs.namespace}-other"
    cluster.create_namespace(other)
    try:
        cluster.deploy(fake_operator, watchNamespaces=[jobs.namespace])
        Jobs(cluster, other).apply("alien", "ok")
        jobs.apply("own", "ok")
        jobs.wait_reason("own", "Running", "True")
        jobs.patch("own", suspend=True)
        jobs.wait_reason("own", "Suspended", "True")
        assert Jobs(cluster, other).get("alien")["status"] == {"observedGeneration": -1}
        assert not may(cluster, "list", "pods", other) and may(cluster, "list", "pods", jobs.namespace)
        cluster.deploy(fake_operator)
        Jobs(cluster, other).wait_reason("alien", "Running", "True")
    finally:
        cluster.kubectl("delete", "namespace", other, "--wait=false")


def test_the_operator_goes_and_comes_back_and_everything_else_can_go_meanwhile(cluster: Cluster, jobs: Jobs, fake_operator: str) -> None:
    jobs.apply("left", "ok", checkpoint={"claim": {"size": "1Gi"}, "reclaimPolicy": "Delete"})
    jobs.apply("kept", "ok")
    jobs.apply("paused", "ok")
    for name in ("left", "kept", "paused"):
        jobs.wait_reason(name, "Running", "True")
    uids = {name: jobs.pod_uid(name) for name in ("left", "kept", "paused")}
    try:
        cluster.helm("uninstall", RELEASE, "-n", SYSTEM, "--wait")
        selector = f"app.kubernetes.io/name={RELEASE}"
        wait_until(lambda: not cluster.kubectl("get", "pods", "-n", SYSTEM, "-l", selector, "-o", "name"), "the operator is gone", 60)
        assert {name: jobs.pod_uid(name) for name in uids} == uids, "drivers go on without the operator"
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
    wait_until(lambda: cluster.find("deployment", RELEASE, SYSTEM), "the operator is back")
    jobs.wait_reason("paused", "Suspended", "True")  # what was asked for meanwhile
    before = cluster.count_rounds()
    wait_until(lambda: cluster.count_rounds(check=False) >= before + 6, "some more looks at each job", 120)
    assert jobs.pod_uid("kept") == uids["kept"], "installed again, it finds what it left"
    assert jobs.condition("kept")["reason"] == "Running"
    jobs.patch("kept", watermark="20m")
    jobs.patch("paused", suspend=False)
    wait_until(lambda: jobs.is_replaced("kept", uids["kept"]), "an edit restarts the driver")
    for name in ("kept", "paused"):
        jobs.wait_reason(name, "Running", "True")
        assert jobs.get(name)["status"]["checkpoint"]["attempt"] == 2, "on the same checkpoint"
