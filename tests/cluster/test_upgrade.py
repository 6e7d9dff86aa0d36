"""From the commit before this one to this one: a new operator, chart and CRD restart nothing, and then do what is asked of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cluster.harness import ROOT, Cluster, Jobs, wait_until
from testbed import images

pytestmark = pytest.mark.timeout(600)

PREVIOUS = os.environ.get("DEDUP_PREVIOUS", "")
"""A commit to upgrade from; the one before the present state of the checkout when empty."""


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True, timeout=120).stdout


def find_previous() -> str:
    edited = git("status", "--porcelain", "--untracked-files=no").strip()
    return PREVIOUS or ("HEAD" if edited else "HEAD~1")


@pytest.fixture
def previous(cluster: Cluster) -> Path:
    """Its files. Below the checkout, as images are built from there."""
    folder = cluster.testbed.layout.state / "previous"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=git("archive", find_previous()), check=True)
    return folder


def load_operator(cluster: Cluster, files: Path) -> str:
    context = str(files.relative_to(ROOT))
    image = images.Image("previous", "dedup-operator-previous", dockerfile=f"{context}/operator/Dockerfile", context=context)
    images.IMAGES = {**images.IMAGES, "previous": image}
    return cluster.testbed.load_images(["previous"])["previous"]


def test_an_upgrade_restarts_nothing(cluster: Cluster, jobs: Jobs, previous: Path, fake_operator: str) -> None:
    try:
        cluster.deploy(fake_operator, chart=previous / "charts" / "dedup-operator", operator_image=load_operator(cluster, previous))
        jobs.apply("plain", "ok")
        jobs.apply("kafka", "ok", sink={"kafka": {"topic": "out"}}, parallelism=3, restartNonce=1)
        jobs.apply("blocked", "ok")
        jobs.apply("resting", "ok")
        for name in ("plain", "kafka", "blocked", "resting"):
            jobs.wait_reason(name, "Running", "True")
        jobs.patch("blocked", key={"fields": ["other"]})
        jobs.wait_reason("blocked", "ChangeBlocked", "False")
        jobs.patch("resting", suspend=True)
        jobs.wait_reason("resting", "Suspended", "True")
        running = ("plain", "kafka", "blocked")
        before = {name: (jobs.pod_uid(name), jobs.get_object("statefulset", f"{name}-driver")["spec"]) for name in running}

        cluster.deploy(fake_operator)
        wait_until(lambda: cluster.count_rounds(check=False) >= 12, "three looks at each job by the new operator", 120)

        after = {name: (jobs.pod_uid(name), jobs.get_object("statefulset", f"{name}-driver")["spec"]) for name in running}
        assert after == before
        reasons = {name: jobs.condition(name)["reason"] for name in (*running, "resting")}
        assert reasons == {"plain": "Running", "kafka": "Running", "blocked": "ChangeBlocked", "resting": "Suspended"}

        jobs.patch("blocked", key={"fields": ["id"]})
        jobs.wait_reason("blocked", "Running", "True")
        assert jobs.pod_uid("blocked") == before["blocked"][0], "the edit was taken back"
        jobs.patch("plain", watermark="20m")
        jobs.patch("resting", suspend=False)
        for name in ("plain", "resting"):
            jobs.wait_reason(name, "Running", "True")
        wait_until(lambda: jobs.is_replaced("plain", before["plain"][0]), "the new operator restarts what was edited")
        assert jobs.get("plain")["status"]["checkpoint"]["attempt"] == 2, "on the same checkpoint"
        assert jobs.pod_uid("kafka") == before["kafka"][0]
    finally:
        cluster.deploy(fake_operator)
