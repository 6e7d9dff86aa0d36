"""An upgrade from the previous version and back: operator, chart, CRD, objects and defaults change, and no driver restarts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cluster.harness import ROOT, Cluster, Jobs, Json, load_test_bed_image, wait_until
from cluster.previous import PATCHES, change
from testbed import images

pytestmark = [pytest.mark.timeout(900), pytest.mark.testbed("it builds an image of the previous version there")]

PREVIOUS = os.environ.get("DEDUP_PREVIOUS", "")
"""The commit to upgrade from. It must support the triggers and checkpoints of the jobs below. Empty: the last commit,
or the one before it when the checkout has no uncommitted changes."""
CHILDREN = "statefulsets,jobs,cronjobs,pods,configmaps,services,persistentvolumeclaims"
READY = {
    "plain": "Running",
    "kafka": "Running",
    "shared": "Running",
    "blocked": "ChangeBlocked",
    "suspended": "Suspended",
    "once": "Completed",
    "working": "Running",
    "scheduled": "Running",
    "failed": "ConfigurationRefused",
}
NOT_READY = {"ChangeBlocked", "ConfigurationRefused"}
"""The jobs with the reason of their Ready condition, before the upgrade and after it."""


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True, timeout=120).stdout


def find_previous() -> str:
    edited = git("status", "--porcelain", "--untracked-files=no").strip()
    return PREVIOUS or ("HEAD" if edited else "HEAD~1")


@pytest.fixture
def previous(cluster: Cluster) -> Path:
    """The files of the previous version. They are inside the checkout, because images are built from there."""
    return unpack_previous(cluster.testbed.layout.state / "previous")


def unpack_previous(folder: Path) -> Path:
    """Every patch must apply to the last commit. An older commit, which differs anyway, may lack the text of some
    patches."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=git("archive", find_previous()), check=True)
    missing = change(folder)
    assert not missing or (PREVIOUS and len(missing) < len(PATCHES)), f"patches of previous.py do not apply: {missing}"
    return folder


def load_operator(cluster: Cluster, files: Path) -> str:
    context = str(files.relative_to(ROOT))
    image = images.Image("previous", "dedup-operator-previous", dockerfile=f"{context}/operator/Dockerfile", context=context)
    return load_test_bed_image(cluster.testbed, image)


def apply_all(jobs: Jobs) -> None:
    """Creates one job of each kind, and one in each state that the upgrade must keep."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    document = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "folders"}, "spec": claim}
    jobs.cluster.kubectl("apply", "-n", jobs.namespace, "-f", "-", document=document)
    jobs.apply("plain", "ok")
    jobs.apply("kafka", "ok", sink={"kafka": {"topic": "out"}}, parallelism=3, restartNonce=1)
    jobs.apply("shared", "ok", checkpoint={"existing": {"claimName": "folders"}})
    jobs.apply("blocked", "ok")
    jobs.apply("suspended", "ok")
    jobs.apply("once", "ok", trigger={"availableNow": {}})
    jobs.apply("working", "busy", trigger={"availableNow": {}})
    jobs.apply("scheduled", "busy", trigger={"availableNow": {"schedule": "* * * * *"}})
    jobs.apply("failed", "exit.64.ConfigurationRefused")
    for name in ("blocked", "suspended"):
        jobs.wait_reason(name, "Running", "True")
    jobs.patch("blocked", key={"fields": ["other"]})
    jobs.patch("suspended", suspend=True)
    for name, reason in READY.items():
        jobs.wait_reason(name, reason, "False" if reason in NOT_READY else "True")
    for name in ("suspended", "failed"):
        jobs.wait_gone("pod", f"{name}-driver-0")


def read_children(jobs: Jobs) -> dict[str, tuple[str, Json]]:
    """UID and content of every object of a job, by kind and name. A restart or a second run has another UID."""
    listed = jobs.cluster.kubectl("get", CHILDREN, "-n", jobs.namespace, "-l", "streamdedup.dev/job", "-o", "json")
    items = json.loads(listed)["items"]
    return {f"{item['kind']}/{item['metadata']['name']}": (item["metadata"]["uid"], item.get("spec") or item.get("data")) for item in items}


def read_template(jobs: Jobs, name: str) -> Json:
    """The parts of a pod template that only the version decides."""
    template = jobs.get_object("statefulset", f"{name}-driver")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    grace, annotations = template["spec"]["terminationGracePeriodSeconds"], template["metadata"]["annotations"]
    return {"grace": grace, "annotations": annotations, "probe": container["livenessProbe"]}


def wait_for_reconciliations(cluster: Cluster) -> None:
    """Counted since the start of the installed operator."""
    wait_until(lambda: cluster.count_reconciliations(check=False) >= 3 * len(READY), "it reconciles each job three times", 120)


def test_an_upgrade_and_a_rollback_restart_no_driver(cluster: Cluster, jobs: Jobs, previous: Path, fake_operator: str) -> None:
    def deploy_previous() -> None:
        cluster.deploy(fake_operator, chart=previous / "charts" / "dedup-operator", operator_image=load_operator(cluster, previous))

    try:
        deploy_previous()
        apply_all(jobs)
        before, old = read_children(jobs), read_template(jobs, "plain")

        cluster.deploy(fake_operator)
        wait_for_reconciliations(cluster)
        assert read_children(jobs) == before
        assert {name: jobs.condition(name)["reason"] for name in READY} == READY

        jobs.apply("fresh", "ok")
        jobs.wait_reason("fresh", "Running", "True")
        new = read_template(jobs, "fresh")
        assert new != old, "the versions must differ, otherwise this test proves nothing"
        check_edits(jobs, before, new)

        upgraded = read_children(jobs)
        reasons = {name: jobs.condition(name)["reason"] for name in READY}
        deploy_previous()
        wait_for_reconciliations(cluster)
        assert read_children(jobs) == upgraded, "the previous operator leaves what the new one has written alone"
        assert {name: jobs.condition(name)["reason"] for name in READY} == reasons
    finally:
        cluster.deploy(fake_operator)


def check_restart(jobs: Jobs, name: str, uid: str) -> None:
    wait_until(lambda: jobs.is_replaced(name, uid), f"the new operator restarts the edited job {name}")
    jobs.wait_reason(name, "Running", "True")
    assert jobs.get(name)["status"]["checkpoint"]["attempt"] == 2, "the driver continues on its checkpoint"


def check_edits(jobs: Jobs, before: dict[str, tuple[str, Json]], new: Json) -> None:
    """The new operator acts on edits of the old operator's jobs, with its own pod template, and changes no other
    job."""
    jobs.patch("blocked", key={"fields": ["id"]})
    jobs.wait_reason("blocked", "Running", "True")
    for name in ("plain", "shared"):
        jobs.patch(name, watermark="20m")
    jobs.patch("suspended", suspend=False)
    jobs.patch("once", restartNonce=1)
    for name in ("plain", "shared"):
        check_restart(jobs, name, before[f"Pod/{name}-driver-0"][0])
        assert read_template(jobs, name) == new
    jobs.wait_reason("suspended", "Running", "True")
    wait_until(lambda: jobs.get("once")["status"]["checkpoint"]["attempt"] == 2, "another run", 120, lambda: jobs.describe("once"))
    jobs.wait_reason("once", "Completed", "True")
    after = read_children(jobs)
    assert after["Job/once-driver"][0] != before["Job/once-driver"][0]
    untouched = [path for path in before if path.split("/")[1].split("-")[0] in {"kafka", "blocked", "working", "scheduled"}]
    assert {path: after.get(path) for path in untouched} == {path: before[path] for path in untouched}
