"""Jobs with runs, jobs that share a claim, and what is left when a namespace or the CRD is deleted. The drivers are
fake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.harness import RELEASE, SYSTEM, Cluster, Jobs, wait_until

pytestmark = [pytest.mark.usefixtures("fake_operator"), pytest.mark.timeout(600)]

ONCE: dict[str, Any] = {"processingTime": None, "availableNow": {}}


def list_driver_pods(jobs: Jobs, name: str) -> list[dict[str, Any]]:
    text = jobs.cluster.kubectl("get", "pods", "-n", jobs.namespace, "-l", f"streamdedup.dev/job={name}", "-o", "json")
    return list(json.loads(text)["items"])


def test_a_run_completes_and_runs_again_on_request(jobs: Jobs) -> None:
    jobs.apply("once", "ok", trigger={"availableNow": {}})
    jobs.wait_reason("once", "Completed", "True")
    status = jobs.get("once")["status"]
    assert (status["progress"]["rowsIn"], status["progress"]["batch"], status["checkpoint"]["attempt"]) == (10, 1, 1)
    assert status["driver"]["lastExits"] == [] and "pod" not in status["driver"]
    job = jobs.get_object("job", "once-driver")
    jobs.patch("once", restartNonce=1)
    wait_until(lambda: jobs.get("once")["status"]["checkpoint"]["attempt"] == 2, "another run", 120, lambda: jobs.describe("once"))
    jobs.wait_reason("once", "Completed", "True")
    assert jobs.get_object("job", "once-driver")["metadata"]["uid"] != job["metadata"]["uid"]
    jobs.delete("once")
    jobs.wait_gone("job", "once-driver")
    assert jobs.find("pvc", "once-checkpoint") is not None


def test_a_run_is_suspended_and_resumed_and_a_failure_is_reported(jobs: Jobs) -> None:
    jobs.apply("long", "busy", trigger={"availableNow": {}})
    jobs.apply("failing", "exit.70", trigger={"availableNow": {}})
    jobs.apply("refused", "exit.64.ConfigurationRefused", trigger={"availableNow": {}})
    jobs.wait_reason("long", "Running", "True")
    (pod,) = list_driver_pods(jobs, "long")
    jobs.patch("long", suspend=True)
    jobs.wait_reason("long", "Suspended", "True")
    assert [item for item in list_driver_pods(jobs, "long") if item["status"]["phase"] == "Running"] == []
    jobs.patch("long", suspend=False)
    jobs.wait_reason("long", "Running", "True")
    live = [item for item in list_driver_pods(jobs, "long") if item["status"]["phase"] == "Running"]
    assert len(live) == 1 and live[0]["metadata"]["uid"] != pod["metadata"]["uid"]
    assert jobs.get("long")["status"]["driver"]["lastExits"] == [], "a requested stop is no failure"
    jobs.wait_reason("failing", "DriverFailed", "False")
    jobs.wait_reason("refused", "ConfigurationRefused", "False")
    assert jobs.condition("refused", "Stalled")["status"] == "True"


def test_the_trigger_changes_between_all_three_kinds(jobs: Jobs) -> None:
    jobs.apply("turning", "busy")
    jobs.wait_reason("turning", "Running", "True")
    jobs.patch("turning", trigger={"processingTime": None, "availableNow": {"schedule": "* * * * *"}})
    jobs.wait_gone("statefulset", "turning-driver")
    jobs.wait_reason("turning", "Scheduled", "True")
    jobs.wait_reason("turning", "Running", "True")  # at the next minute
    (pod,) = list_driver_pods(jobs, "turning")
    assert jobs.get("turning")["status"]["driver"]["pod"] == pod["metadata"]["name"]
    jobs.patch("turning", watermark="30m")
    wait_until(
        lambda: "30m" in json.dumps(jobs.get_object("cronjob", "turning-driver")["metadata"]["annotations"]),
        "the operator updates the schedule",
    )
    assert [item["metadata"]["uid"] for item in list_driver_pods(jobs, "turning")] == [pod["metadata"]["uid"]], "the run continues"
    jobs.patch("turning", trigger={"processingTime": "5s", "availableNow": None})
    jobs.wait_gone("cronjob", "turning-driver")
    wait_until(lambda: jobs.find("statefulset", "turning-driver"), "the operator creates the StatefulSet again")
    jobs.wait_reason("turning", "Running", "True")
    assert [item["metadata"]["name"] for item in list_driver_pods(jobs, "turning")] == ["turning-driver-0"]
    assert jobs.get("turning")["status"]["checkpoint"]["attempt"] == 3
    assert jobs.cluster.kubectl("get", "jobs,cronjobs", "-n", jobs.namespace, "-o", "name") == ""


@pytest.fixture
def shared(jobs: Jobs) -> Iterator[str]:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    document = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": claim}
    jobs.cluster.kubectl("apply", "-n", jobs.namespace, "-f", "-", document=document)
    yield "shared"


def test_jobs_share_a_claim_but_never_a_folder(jobs: Jobs, shared: str) -> None:
    def existing(folder: str | None = None) -> dict[str, Any]:
        return {"existing": {"claimName": shared, **({"subPath": folder} if folder else {})}}

    before = jobs.get_object("pvc", shared)["metadata"]
    jobs.apply("one", "ok", checkpoint=existing())
    jobs.apply("two", "ok", checkpoint=existing())
    jobs.wait_reason("one", "Running", "True")
    jobs.wait_reason("two", "Running", "True")
    assert [jobs.get(name)["status"]["checkpoint"]["attempt"] for name in ("one", "two")] == [1, 1], "each job must have its own folder"
    assert "shared" in jobs.condition("one", "CheckpointReady")["message"]
    uid = jobs.pod_uid("one")
    jobs.apply("thief", "ok", checkpoint=existing("one"))
    assert "DedupJob one" in jobs.wait_reason("thief", "CheckpointTaken", "False")["message"]
    assert jobs.find("statefulset", "thief-driver") is None and jobs.pod_uid("one") == uid

    # A folder outlives its job: the same job continues on it, and a different job of the same name is refused.
    jobs.delete("one")
    jobs.wait_gone("pod", "one-driver-0")
    jobs.apply("one", "ok", checkpoint=existing(), key={"fields": ["another"]})
    assert "spec.key.fields" in jobs.wait_reason("one", "ChangeBlocked", "False")["message"]
    jobs.apply("one", "ok", checkpoint=existing())
    jobs.wait_reason("one", "Running", "True")
    assert jobs.get("one")["status"]["checkpoint"]["attempt"] == 2
    after = jobs.get_object("pvc", shared)["metadata"]
    assert (after.get("labels"), after.get("ownerReferences")) == (before.get("labels"), before.get("ownerReferences"))
    assert not [key for key in after.get("annotations", {}) if "streamdedup" in key], "the operator must not write to the user's claim"


def test_the_checkpoint_moves_until_keys_are_stored(jobs: Jobs, shared: str) -> None:
    """The first driver waits for its topic. The second one stores keys."""

    def find_mount() -> tuple[str, str]:
        pod = jobs.get_object("statefulset", "moved-driver")["spec"]["template"]["spec"]
        (claim,) = (volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume)
        (mount,) = (mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "checkpoint")
        return claim, mount.get("subPath", "")

    jobs.apply("moved", "blocked")
    jobs.wait_reason("moved", "SourceTopicMissing", "False")
    uid = jobs.pod_uid("moved")
    assert find_mount() == ("moved-checkpoint", "")
    jobs.patch("moved", checkpoint={"claim": None, "existing": {"claimName": shared, "subPath": "here"}})
    wait_until(lambda: jobs.is_replaced("moved", uid), "the driver restarts", 120, lambda: jobs.describe("moved"))
    jobs.wait_reason("moved", "SourceTopicMissing", "False")
    assert find_mount() == (shared, "here")
    assert jobs.get("moved")["status"]["checkpoint"]["claim"] == shared

    jobs.patch("moved", source={"topic": "ok"})
    jobs.wait_reason("moved", "Running", "True")
    wait_until(lambda: jobs.get("moved")["status"]["checkpoint"].get("keysStored"), "the status says that keys are stored")
    change = json.dumps({"spec": {"checkpoint": {"existing": {"subPath": "there"}}}})
    refused = jobs.cluster.try_kubectl("patch", "dedupjob", "moved", "-n", jobs.namespace, "--type=merge", "-p", change)
    assert refused.returncode != 0 and "spec.checkpoint.existing cannot be changed once keys are stored" in refused.stderr


def test_a_missing_shared_claim_is_reported(jobs: Jobs) -> None:
    jobs.apply("early", "ok", checkpoint={"existing": {"claimName": "later"}})
    assert "Claim later does not exist" in jobs.wait_reason("early", "CheckpointPending", "False")["message"]
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    document = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "later"}, "spec": claim}
    jobs.cluster.kubectl("apply", "-n", jobs.namespace, "-f", "-", document=document)
    jobs.wait_reason("early", "Running", "True")


def test_a_namespace_with_jobs_can_be_deleted(jobs: Jobs, cluster: Cluster) -> None:
    namespace = f"{jobs.namespace}-deleted"
    cluster.create_namespace(namespace)
    deleted = Jobs(cluster, namespace)
    deleted.apply("one", "ok")
    deleted.apply("two", "busy", trigger={"availableNow": {}})
    deleted.wait_reason("one", "Running", "True")
    deleted.wait_reason("two", "Running", "True")
    cluster.kubectl("delete", "namespace", namespace, "--timeout=120s")
    assert cluster.kubectl("get", "namespace", namespace, "--ignore-not-found") == ""


def test_the_crd_is_deleted_and_installed_again(jobs: Jobs, cluster: Cluster, fake_operator: str) -> None:
    """The DedupJobs and their objects are deleted with the CRD. The running operator works again when the CRD is
    back."""
    jobs.apply("kept", "ok")
    jobs.wait_reason("kept", "Running", "True")
    try:
        cluster.kubectl("delete", "crd", "dedupjobs.streamdedup.dev", "--timeout=120s")
        jobs.wait_gone("statefulset", "kept-driver")
        jobs.wait_gone("pod", "kept-driver-0")
        assert jobs.find("pvc", "kept-checkpoint") is not None, "reclaimPolicy: Retain also keeps the claim here"
    finally:
        cluster.deploy(fake_operator)
    wait_until(lambda: cluster.get("deployment", RELEASE, SYSTEM)["status"].get("readyReplicas") == 1, "the operator is ready")
    jobs.apply("kept", "ok")
    jobs.wait_reason("kept", "Running", "True", 240)
    assert jobs.get("kept")["status"]["checkpoint"]["attempt"] == 2, "the driver continues on its checkpoint"
