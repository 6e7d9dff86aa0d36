"""The operator with a real API server, scheduler and kubelet. The drivers are fake."""

from __future__ import annotations

import json

import pytest

from cluster.harness import SYSTEM, Cluster, Jobs, Json, wait_until

pytestmark = pytest.mark.usefixtures("fake_operator")


def test_a_job_becomes_ready_and_then_causes_no_writes(jobs: Jobs, cluster: Cluster) -> None:
    jobs.apply("quiet", "ok", sink={"kafka": {"topic": "out"}})
    cluster.kubectl("wait", "dedupjob/quiet", "-n", jobs.namespace, "--for=condition=Ready", "--timeout=120s")
    job = jobs.get("quiet")
    assert "finalizers" not in job["metadata"]
    assert not [key for key in job["metadata"].get("annotations", {}) if "kopf" in key or "streamdedup" in key]
    assert job["status"]["observedGeneration"] == job["metadata"]["generation"]
    assert job["status"]["driver"]["pod"] == "quiet-driver-0"
    checkpoint = {"claim": "quiet-checkpoint", "generation": 1, "attempt": 1, "keysStored": True}
    assert job["status"]["checkpoint"] | {"identity": ""} == {**checkpoint, "identity": ""}
    assert [c["type"] for c in job["status"]["conditions"]] == ["Ready", "CheckpointReady", "DriverRunning", "ProgressRecent"]

    wait_until(lambda: jobs.get_object("statefulset", "quiet-driver")["status"].get("readyReplicas") == 1, "the pod is ready")
    versions, before = jobs.read_versions(), cluster.count_reconciliations()
    for kind in ("DedupJob", "StatefulSet", "PersistentVolumeClaim", "Service", "ConfigMap"):
        assert f"{kind} " in versions
    wait_until(lambda: cluster.count_reconciliations() >= before + 4, "four more reconciliations", 90)
    assert jobs.read_versions() == versions


def test_a_killed_operator_leaves_drivers_alone_and_its_successor_works(jobs: Jobs, cluster: Cluster) -> None:
    jobs.apply("steady", "ok")
    jobs.wait_reason("steady", "Running", "True")
    uid = jobs.pod_uid("steady")
    cluster.kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=dedup-operator", "--grace-period=0", "--force")
    jobs.apply("later", "ok")
    jobs.wait_reason("later", "Running", "True")
    assert jobs.pod_uid("steady") == uid


def test_suspend_resume_and_restart(jobs: Jobs) -> None:
    jobs.apply("one", "ok")
    jobs.wait_reason("one", "Running", "True")
    jobs.patch("one", suspend=True)
    jobs.wait_reason("one", "Suspended", "True")
    assert not jobs.has_live_pod("one")
    jobs.patch("one", suspend=False)
    jobs.wait_reason("one", "Running", "True")
    uid = jobs.pod_uid("one")
    jobs.patch("one", restartNonce=1)
    jobs.wait_reason("one", "Running", "True")
    assert jobs.pod_uid("one") != uid
    assert jobs.get("one")["status"]["checkpoint"]["attempt"] == 3
    old = jobs.get_object("statefulset", "one-driver")["spec"]["template"]["spec"]["volumes"]
    jobs.patch("one", watermark="20m")
    wait_until(lambda: jobs.get_object("statefulset", "one-driver")["spec"]["template"]["spec"]["volumes"] != old, "the template changes")
    jobs.wait_reason("one", "Running", "True")

    def list_settings() -> list[str]:
        listed = jobs.cluster.kubectl("get", "configmaps", "-n", jobs.namespace, "-l", "streamdedup.dev/job=one", "-o", "name")
        return listed.split()

    wait_until(lambda: len(list_settings()) == 1, "the operator deletes the ConfigMaps of old settings", 60, list_settings)


def test_a_blocked_edit_leaves_the_driver_alone(jobs: Jobs) -> None:
    jobs.apply("kept", "ok")
    jobs.wait_reason("kept", "Running", "True")
    uid = jobs.pod_uid("kept")
    jobs.patch("kept", key={"fields": ["id", "other"]}, watermark="1h")
    blocked = jobs.wait_reason("kept", "ChangeBlocked", "False")
    assert "spec.key.fields" in blocked["message"]
    assert jobs.condition("kept", "Stalled")["status"] == "True"
    assert jobs.condition("kept", "DriverRunning")["status"] == "True"
    assert jobs.pod_uid("kept") == uid
    jobs.patch("kept", key={"fields": ["id"]}, watermark="10m")
    jobs.wait_reason("kept", "Running", "True")
    assert jobs.find_condition("kept", "Stalled") is None
    assert jobs.pod_uid("kept") == uid
    # The default of parallelism depends on the CPU limit. The parallelism of an existing checkpoint must not change
    # with it.
    jobs.patch("kept", driver={"resources": {"limits": {"cpu": "2"}}})
    wait_until(lambda: jobs.is_replaced("kept", uid), "the driver restarts with more CPU")
    jobs.wait_reason("kept", "Running", "True")


def test_a_deleted_job_leaves_its_claim_or_not_by_its_reclaim_policy(jobs: Jobs) -> None:
    jobs.apply("retained", "ok")
    jobs.apply("deleted", "ok", checkpoint={"claim": {"size": "1Gi"}, "reclaimPolicy": "Delete"})
    for name in ("retained", "deleted"):
        jobs.wait_reason(name, "Running", "True")
    volume = jobs.get_object("pvc", "retained-checkpoint")["metadata"]["uid"]
    jobs.delete("retained", "deleted")
    for name in ("retained", "deleted"):
        jobs.wait_gone("statefulset", f"{name}-driver")
        jobs.wait_gone("pod", f"{name}-driver-0")
        jobs.wait_gone("service", f"{name}-driver")
    jobs.wait_gone("pvc", "deleted-checkpoint")
    # A different job of the same name is refused. The same job continues on the checkpoint.
    jobs.apply("retained", "ok", key={"fields": ["another"]})
    blocked = jobs.wait_reason("retained", "ChangeBlocked", "False")
    assert "spec.key.fields" in blocked["message"] and jobs.find("statefulset", "retained-driver") is None
    jobs.apply("retained", "ok")
    jobs.wait_reason("retained", "Running", "True")
    assert jobs.get_object("pvc", "retained-checkpoint")["metadata"]["uid"] == volume
    assert jobs.get("retained")["status"]["checkpoint"]["attempt"] == 2


def test_each_problem_has_a_reason_and_ends_when_it_is_solved(jobs: Jobs, cluster: Cluster) -> None:
    """All jobs run at the same time, because scheduler and kubelet take most of the time."""
    huge = {"resources": {"requests": {"cpu": "900"}, "limits": {"cpu": "1000", "memory": "1Gi"}}}
    small = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}}
    missing = f"missing-{jobs.namespace}"
    conflicting = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken-driver"}, "spec": {"ports": [{"port": 1}]}}
    cluster.kubectl("apply", "-n", jobs.namespace, "-f", "-", document=conflicting)
    jobs.apply("huge", "ok", driver=huge, parallelism=1)
    jobs.apply("noclass", "ok", checkpoint={"claim": {"size": "1Gi", "storageClassName": missing}})
    jobs.apply("refused", "exit.64.ConfigurationRefused")
    jobs.apply("crashing", "exit.70")
    jobs.apply("notopic", "blocked")
    jobs.apply("deaf", "deaf")
    jobs.apply("taken", "ok")
    # Anybody may create events, and the API server demands neither a reason nor the kind of the object.
    uid = wait_until(lambda: jobs.find("statefulset", "huge-driver"), "the StatefulSet exists")["metadata"]["uid"]
    event = {"metadata": {"name": "odd"}, "involvedObject": {"namespace": jobs.namespace, "uid": uid}, "type": "Warning"}
    cluster.kubectl("create", "-n", jobs.namespace, "-f", "-", document={"apiVersion": "v1", "kind": "Event", **event})

    assert "Insufficient cpu" in jobs.wait_reason("huge", "Unschedulable", "False")["message"]
    assert missing in jobs.wait_reason("noclass", "CheckpointPending", "False")["message"]
    assert jobs.wait_reason("refused", "ConfigurationRefused", "False")["message"].startswith("The topic's name asks for it.")
    assert jobs.condition("refused", "Stalled")["status"] == "True"
    jobs.wait_gone("pod", "refused-driver-0")
    jobs.wait_reason("crashing", "DriverFailed", "False")
    jobs.wait_reason("notopic", "SourceTopicMissing", "False")
    assert "Service taken-driver" in jobs.wait_reason("taken", "NameConflict", "False")["message"]
    assert jobs.condition("taken", "Stalled")["status"] == "True"
    assert jobs.find("statefulset", "taken-driver") is None

    # The job has no state yet, so the user may follow the remedy and name another topic.
    jobs.patch("notopic", source={"topic": "ok"})
    jobs.wait_reason("notopic", "Running", "True")

    jobs.patch("huge", driver=small)
    cluster.kubectl("delete", "service", "taken-driver", "-n", jobs.namespace)
    cluster.copy_default_storage_class(missing)
    try:
        jobs.wait_reason("huge", "Running", "True")
        jobs.wait_reason("taken", "Running", "True")
        jobs.wait_reason("noclass", "Running", "True")
    finally:
        cluster.kubectl("delete", "storageclass", missing)
    unreachable = jobs.wait_reason("deaf", "DriverUnreachable", "Unknown")
    assert "port 8080" in unreachable["message"] and "NetworkPolic" in unreachable["message"]
    assert "kubelet reaches the driver" in unreachable["message"]
    assert jobs.condition("deaf", "DriverRunning")["status"] == "True"
    assert jobs.condition("deaf", "ProgressRecent")["reason"] == "DriverUnreachable"
    assert "progress" not in jobs.get("deaf")["status"], "the operator has no numbers, so it shows none"
    uid = jobs.pod_uid("deaf")
    cluster.kubectl("exec", "deaf-driver-0", "-n", jobs.namespace, "--", "touch", "/checkpoint/repaired")
    jobs.wait_reason("deaf", "Running", "True")
    assert jobs.pod_uid("deaf") == uid and "observedAt" in jobs.get("deaf")["status"]["progress"]

    exits = jobs.get("crashing")["status"]["driver"]["lastExits"]
    assert {exit["exitCode"] for exit in exits} == {70}


def forbid(jobs: Jobs, resource: str) -> None:
    """Creates the quota `none`, which allows no new object of this kind in the namespace."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {resource: "0"}}}
    jobs.cluster.kubectl("apply", "-n", jobs.namespace, "-f", "-", document=quota)
    wait_until(lambda: jobs.get_object("resourcequota", "none").get("status", {}).get("hard"), "the quota is in force")


def test_a_pod_that_a_quota_refuses_is_reported(jobs: Jobs, cluster: Cluster) -> None:
    forbid(jobs, "pods")
    jobs.apply("limited", "ok")
    assert "exceeded quota" in jobs.wait_reason("limited", "PodRejected", "False")["message"]
    cluster.kubectl("delete", "resourcequota", "none", "-n", jobs.namespace)
    jobs.wait_reason("limited", "Running", "True", seconds=240)


def test_a_missing_image_is_named_and_a_new_job_image_restarts_no_driver(jobs: Jobs, cluster: Cluster, fake_operator: str) -> None:
    jobs.apply("before", "ok")
    jobs.wait_reason("before", "Running", "True")
    uid, image = jobs.pod_uid("before"), fake_operator
    try:
        cluster.deploy("localhost/does-not-exist:1")
        jobs.apply("after", "ok")
        message = jobs.wait_reason("after", "ImageUnavailable", "False")["message"]
        assert "localhost/does-not-exist:1" in message
        assert jobs.pod_uid("before") == uid
    finally:
        cluster.deploy(image)
    jobs.wait_reason("after", "Running", "True")
    assert jobs.pod_uid("before") == uid
    assert jobs.condition("before")["reason"] == "Running"


@pytest.mark.testbed("its storage class cannot expand volumes")
def test_a_claim_that_cannot_grow_is_reported_and_the_driver_continues(jobs: Jobs) -> None:
    jobs.apply("small", "ok")
    jobs.wait_reason("small", "Running", "True")
    uid = jobs.pod_uid("small")
    jobs.patch("small", checkpoint={"claim": {"size": "2Gi"}})

    def is_reported() -> bool:
        checkpoint = jobs.find_condition("small", "CheckpointReady")
        return checkpoint is not None and "refuses a change of PersistentVolumeClaim" in checkpoint["message"]

    wait_until(is_reported, "the operator reports the refusal", 60, lambda: jobs.describe("small"))
    assert jobs.condition("small")["status"] == "True" and jobs.pod_uid("small") == uid


def test_events_follow_the_life_of_a_job(jobs: Jobs, cluster: Cluster) -> None:
    jobs.apply("eventful", "ok")
    jobs.wait_reason("eventful", "Running", "True")
    jobs.patch("eventful", suspend=True)
    jobs.wait_reason("eventful", "Suspended", "True")

    def reasons() -> list[str]:
        events = json.loads(cluster.kubectl("get", "events.events.k8s.io", "-n", jobs.namespace, "-o", "json"))["items"]
        about_jobs = [event for event in events if event["regarding"]["kind"] == "DedupJob"]
        return [event["reason"] for event in sorted(about_jobs, key=lambda event: event["eventTime"])]

    wait_until(lambda: reasons()[-1:] == ["Suspended"], "the last event", 30, reasons)
    assert [reason for reason in reasons() if reason != "Restarting"] == ["Starting", "Running", "Suspending", "Suspended"]


def test_manual_changes_are_undone_without_a_restart(jobs: Jobs) -> None:
    jobs.apply("touched", "ok")
    jobs.wait_reason("touched", "Running", "True")
    uid = jobs.pod_uid("touched")

    def read(*path: str) -> object:
        found = jobs.get_object("statefulset", "touched-driver")
        for part in path:
            found = found[part]
        return found

    grace = ("spec", "template", "spec", "terminationGracePeriodSeconds")
    before = read(*grace)
    patch = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}
    jobs.cluster.kubectl("patch", "statefulset", "touched-driver", "-n", jobs.namespace, "--type=merge", "-p", json.dumps(patch))
    wait_until(lambda: read(*grace) == before, "the operator restores the template", 60, lambda: jobs.describe("touched"))
    jobs.cluster.kubectl("scale", "statefulset", "touched-driver", "-n", jobs.namespace, "--replicas=2")
    wait_until(lambda: read("spec", "replicas") == 1, "the operator restores one replica", 60)
    jobs.wait_gone("pod", "touched-driver-1")
    # Other spellings of the same quantities and durations change nothing.
    jobs.patch("touched", watermark="600s", driver={"resources": {"limits": {"cpu": 1, "memory": "1.5Gi"}}})
    wait_until(lambda: jobs.find_condition("touched"), "the operator has seen the edit")
    assert jobs.pod_uid("touched") == uid
    assert jobs.condition("touched")["reason"] == "Running"


def test_rollout_restart_restarts_the_driver_once(jobs: Jobs, cluster: Cluster) -> None:
    jobs.apply("again", "ok")
    jobs.wait_reason("again", "Running", "True")
    uid = jobs.pod_uid("again")
    cluster.kubectl("rollout", "restart", "statefulset/again-driver", "-n", jobs.namespace)
    wait_until(lambda: jobs.is_replaced("again", uid), "the driver restarts", 120, lambda: jobs.describe("again"))
    jobs.wait_reason("again", "Running", "True")
    assert "kubectl rollout restart" in cluster.kubectl("describe", "dedupjob", "again", "-n", jobs.namespace)
    second, before = jobs.pod_uid("again"), cluster.count_reconciliations()
    wait_until(lambda: cluster.count_reconciliations() >= before + 4, "four more reconciliations", 90)
    assert jobs.pod_uid("again") == second and jobs.get("again")["status"]["checkpoint"]["attempt"] == 2


def test_a_refused_service_leaves_a_working_job_ready(jobs: Jobs, cluster: Cluster) -> None:
    jobs.apply("lonely", "ok")
    jobs.wait_reason("lonely", "Running", "True")
    forbid(jobs, "services")
    cluster.kubectl("delete", "service", "lonely-driver", "-n", jobs.namespace)

    def is_reported() -> bool:
        driver = jobs.find_condition("lonely", "DriverRunning")
        return driver is not None and "exceeded quota" in driver["message"]

    wait_until(is_reported, "DriverRunning names the quota", 60, lambda: jobs.describe("lonely"))
    assert jobs.condition("lonely")["reason"] == "Running" and jobs.condition("lonely", "DriverRunning")["status"] == "True"
    cluster.kubectl("delete", "resourcequota", "none", "-n", jobs.namespace)
    wait_until(lambda: jobs.find("service", "lonely-driver"), "the operator creates the Service", 60)


def test_a_claim_from_a_backup_is_used_with_the_labels_and_the_annotations_of_the_docs(jobs: Jobs, cluster: Cluster) -> None:
    """docs/operations.md, "Restore a checkpoint from a snapshot". The storage class here makes no snapshots, so the new
    volume is empty; what counts is that the operator takes the claim for a checkpoint with the keys of this job."""
    jobs.apply("saved", "ok")
    jobs.wait_reason("saved", "Running", "True")

    def find_annotations() -> Json | None:
        found: Json = jobs.get_object("pvc", "saved-checkpoint")["metadata"]["annotations"]
        kept = {key: value for key, value in found.items() if key.startswith("streamdedup.dev/checkpoint-")}
        return kept if "streamdedup.dev/checkpoint-begun" in kept else None

    annotations = wait_until(find_annotations, "the claim says that keys are stored", 60)
    assert len(annotations) == 3
    old = jobs.get_object("pvc", "saved-checkpoint")
    jobs.delete("saved")
    jobs.wait_gone("pod", "saved-driver-0")
    cluster.kubectl("delete", "pvc", "saved-checkpoint", "-n", jobs.namespace, "--timeout=60s")
    labels = {"app.kubernetes.io/managed-by": "dedup-operator", "streamdedup.dev/job": "saved"}
    restored = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "saved-checkpoint", "labels": labels, "annotations": annotations},
        "spec": {key: old["spec"][key] for key in ("accessModes", "resources", "storageClassName")},
    }
    cluster.kubectl("create", "-n", jobs.namespace, "-f", "-", document=restored)
    uid = jobs.get_object("pvc", "saved-checkpoint")["metadata"]["uid"]
    jobs.apply("saved", "ok", key={"fields": ["another"]})
    jobs.wait_reason("saved", "ChangeBlocked", "False")
    jobs.apply("saved", "ok")
    jobs.wait_reason("saved", "Running", "True")
    assert jobs.get_object("pvc", "saved-checkpoint")["metadata"]["uid"] == uid
