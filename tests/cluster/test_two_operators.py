"""Two operators at the same time, as after a network partition. No job ever has two drivers, and they do not undo each
other's writes.

The second operator is a process of this machine with the settings of the first. The drivers are fake. Each one raises
the attempt on its volume, so a surplus start shows in two places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import RELEASE, SYSTEM, Cluster, Jobs, Json, wait_until
from cluster.node import list_processes
from cluster.second_operator import SecondOperator, Watch, has_running_container
from dedup_operator.adapters.lease import DURATION_SECONDS, RENEW_SECONDS

pytestmark = pytest.mark.testbed("the second operator runs on this machine and must reach the pods")

NAMES = ("one", "two")
PER_JOB = ("statefulsets", "services", "configmaps", "persistentvolumeclaims")


@pytest.fixture
def pods(jobs: Jobs, cluster: Cluster) -> Iterator[Watch]:
    with Watch(cluster, jobs.namespace, "/api/v1/pods") as watch:
        yield watch


@pytest.fixture
def sets(jobs: Jobs, cluster: Cluster) -> Iterator[Watch]:
    with Watch(cluster, jobs.namespace, "/apis/apps/v1/statefulsets") as watch:
        yield watch


def scale_installed(cluster: Cluster, replicas: int) -> None:
    cluster.kubectl("scale", "deployment", RELEASE, "-n", SYSTEM, f"--replicas={replicas}")
    cluster.kubectl("rollout", "status", "deployment", RELEASE, "-n", SYSTEM, "--timeout=120s")
    selector = "app.kubernetes.io/name=dedup-operator"
    if replicas == 0:
        cluster.kubectl("wait", "pod", "-n", SYSTEM, "-l", selector, "--for=delete", "--timeout=60s", check=False)


def wait_for_all(jobs: Jobs, reason: str) -> None:
    for name in NAMES:
        jobs.wait_reason(name, reason, "True")


def patch_all(jobs: Jobs, **spec: Any) -> None:
    for name in NAMES:
        jobs.patch(name, **spec)


def count_children(jobs: Jobs, name: str) -> dict[str, int]:
    selector = f"streamdedup.dev/job={name}"
    return {kind: len(jobs.cluster.kubectl("get", kind, "-n", jobs.namespace, "-l", selector, "-o", "name").split()) for kind in PER_JOB}


def test_two_operators_do_the_work_of_one(jobs: Jobs, cluster: Cluster, fake_operator: str, pods: Watch, tmp_path: Path) -> None:
    with SecondOperator(cluster, fake_operator, tmp_path / "log") as second:
        for name in NAMES:
            jobs.apply(name, "ok")
        wait_for_all(jobs, "Running")
        patch_all(jobs, watermark="20m")
        wait_until(lambda: all(len(pods.list_uids(name)) == 2 for name in NAMES), "an edit restarts the drivers", 60)
        wait_for_all(jobs, "Running")
        patch_all(jobs, suspend=True)
        wait_for_all(jobs, "Suspended")
        patch_all(jobs, suspend=False)
        wait_for_all(jobs, "Running")
        check_that_nobody_writes(jobs, cluster, second)
        assert [jobs.get(name)["status"]["checkpoint"]["attempt"] for name in NAMES] == [3, 3], "no surplus start"

        jobs.delete(*NAMES)
        for name in NAMES:
            jobs.wait_gone("statefulset", f"{name}-driver")
            jobs.wait_gone("pod", f"{name}-driver-0")
        jobs.apply("one", "ok", watermark="20m")
        jobs.wait_reason("one", "Running", "True")
        assert jobs.get("one")["status"]["checkpoint"]["attempt"] == 4
    assert [len(pods.list_uids(name)) for name in NAMES] == [4, 3]
    assert [pods.count_most(name) for name in NAMES] == [1, 1]


def test_two_jobs_that_want_one_folder_at_once(jobs: Jobs, cluster: Cluster, fake_operator: str, pods: Watch, tmp_path: Path) -> None:
    """One job gets the folder, whichever operator reconciles first. The other job's condition names the owner."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    document = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "folders"}, "spec": claim}
    cluster.kubectl("apply", "-n", jobs.namespace, "-f", "-", document=document)
    with SecondOperator(cluster, fake_operator, tmp_path / "log"):
        checkpoint = {"existing": {"claimName": "folders", "subPath": "wanted"}}
        with ThreadPoolExecutor() as both:
            list(both.map(lambda name: jobs.apply(name, "ok", checkpoint=checkpoint), NAMES))
        (winner,) = wait_until(lambda: [name for name in NAMES if is_running(jobs, name)], "one of the two jobs runs")
        (other,) = set(NAMES) - {winner}
        assert f"DedupJob {winner}" in jobs.wait_reason(other, "CheckpointTaken", "False")["message"]
        assert jobs.get(winner)["status"]["checkpoint"]["attempt"] == 1
    assert (len(pods.list_uids(winner)), pods.list_uids(other)) == (1, [])


def is_running(jobs: Jobs, name: str) -> bool:
    ready = jobs.find_condition(name)
    return ready is not None and ready["reason"] == "Running"


def check_that_nobody_writes(jobs: Jobs, cluster: Cluster, second: SecondOperator) -> None:
    """Each job has one object of each kind, and both operators reconcile again without a write."""
    wait_until(lambda: all(is_complete(jobs, name) for name in NAMES), "each job has its objects", 60, lambda: jobs.describe(NAMES[0]))
    versions = jobs.read_versions()
    installed, other = cluster.count_reconciliations(), second.count_reconciliations()

    def have_reconciled() -> bool:
        return cluster.count_reconciliations() >= installed + 2 * len(NAMES) and second.count_reconciliations() >= other + 2 * len(NAMES)

    wait_until(have_reconciled, "both operators reconcile each job twice", 60)
    assert jobs.read_versions() == versions


def is_complete(jobs: Jobs, name: str) -> bool:
    ready = jobs.get_object("statefulset", f"{name}-driver")["status"].get("readyReplicas") == 1
    return ready and count_children(jobs, name) == dict.fromkeys(PER_JOB, 1)


@pytest.fixture(scope="module")
def without_operator(cluster: Cluster, fake_operator: str) -> Iterator[None]:
    """Scales the installed operator to zero, so that the test alone decides which operator works."""
    scale_installed(cluster, 0)
    try:
        yield
    finally:
        scale_installed(cluster, 1)


@pytest.fixture
def frozen(cluster: Cluster, fake_operator: str, tmp_path: Path, without_operator: None) -> Iterator[SecondOperator]:
    with SecondOperator(cluster, fake_operator, tmp_path / "frozen", tmp_path / "hold") as operator:
        yield operator


@pytest.fixture
def other(cluster: Cluster, fake_operator: str, tmp_path: Path) -> Callable[[], SecondOperator]:
    """An operator that the test starts while the other one is frozen."""
    return lambda: SecondOperator(cluster, fake_operator, tmp_path / "other")


def test_a_late_restart_is_refused(jobs: Jobs, pods: Watch, frozen: SecondOperator, other: Callable[[], SecondOperator]) -> None:
    """The other operator has restarted the driver and then suspended the job, so the late write must start nothing."""
    jobs.apply("late", "ok")
    jobs.wait_reason("late", "Running", "True")
    with frozen.hold():
        jobs.patch("late", watermark="20m")
        frozen.wait_until_frozen()
        with other():
            jobs.wait_reason("late", "Running", "True")
            jobs.patch("late", suspend=True)
            jobs.wait_reason("late", "Suspended", "True")
            before = jobs.get_object("statefulset", "late-driver")["metadata"]["generation"]
    refusal = 'statefulsets.apps "late-driver": the object has been modified'
    wait_until(lambda: refusal in frozen.read_log(), "the API server refuses the write", 60, frozen.read_log)
    frozen.wait_for_more_reconciliations()
    assert jobs.get_object("statefulset", "late-driver")["metadata"]["generation"] == before
    assert len(pods.list_uids("late")) == 2 and pods.count_most("late") == 1


def test_a_late_first_start_leaves_the_driver_of_the_next_job_alone(
    jobs: Jobs, pods: Watch, frozen: SecondOperator, other: Callable[[], SecondOperator]
) -> None:
    """The job was deleted, and a new one was created under its name, before the late write."""
    with frozen.hold():
        jobs.apply("again", "ok")
        frozen.wait_until_frozen()
        jobs.delete("again")
        jobs.wait_gone("dedupjob", "again")
        jobs.apply("again", "ok")
        with other():
            jobs.wait_reason("again", "Running", "True")
            uid = jobs.pod_uid("again")
    frozen.wait_for_more_reconciliations()
    jobs.wait_reason("again", "Running", "True")
    assert jobs.pod_uid("again") == uid and pods.list_uids("again") == [uid]


def test_a_late_first_start_of_a_deleted_job_is_garbage_collected(
    jobs: Jobs, pods: Watch, sets: Watch, frozen: SecondOperator, other: Callable[[], SecondOperator]
) -> None:
    """The API server accepts the write. Its StatefulSet has an owner that no longer exists, so the garbage collector
    deletes it, and the next job of the same name waits for that."""
    with frozen.hold():
        jobs.apply("gone", "ok")
        frozen.wait_until_frozen()
        jobs.delete("gone")
        jobs.wait_gone("service", "gone-driver")
    wait_until(lambda: sets.list_uids("gone"), "the late write has arrived", 60, frozen.read_log)
    jobs.apply("gone", "ok")
    jobs.wait_reason("gone", "Running", "True")
    assert len(sets.list_uids("gone")) == 2
    assert (sets.count_most("gone"), pods.count_most("gone")) == (1, 1)


def test_a_late_first_start_across_a_change_of_the_trigger_is_undone(
    jobs: Jobs, pods: Watch, sets: Watch, frozen: SecondOperator, other: Callable[[], SecondOperator]
) -> None:
    """The API server accepts the write: a creation has no resource version, and a StatefulSet may have the name of a
    Kubernetes Job. So for a while there are two workloads. The claim's access mode keeps the second pod waiting;
    otherwise the lock would."""
    with frozen.hold():
        jobs.apply("turned", "busy")
        frozen.wait_until_frozen()
        jobs.patch("turned", trigger={"processingTime": None, "availableNow": {}})
        with other():
            jobs.wait_reason("turned", "Running", "True")
            wanted = jobs.get_object("job", "turned-driver")["metadata"]["uid"]
    wait_until(lambda: sets.list_uids("turned"), "the late write has arrived", 60, frozen.read_log)

    def is_undone() -> bool:
        job = jobs.get_object("job", "turned-driver")["metadata"]
        return jobs.find("statefulset", "turned-driver") is None and job["uid"] == wanted and "deletionTimestamp" not in job

    wait_until(is_undone, "only the wanted workload is left, and it was never recreated", 120, frozen.read_log)
    jobs.wait_reason("turned", "Running", "True")
    frozen.wait_for_more_reconciliations()
    assert is_undone() and len(sets.list_uids("turned")) == 1
    assert pods.count_most("turned", has_running_container) == 1


TAKEN_OVER_SECONDS = 30
"""The number in docs/operations.md. The standby sees the last renewal within one pause, waits for the Lease's duration,
and checks again within one more pause: 21 s. The rest is for slow requests on a busy machine."""


def test_a_standby_takes_over(jobs: Jobs, cluster: Cluster, fake_operator: str) -> None:
    """Two replicas share a Lease. The test kills the owner with SIGKILL, and the other replica acts on an edit."""
    assert DURATION_SECONDS + 2 * RENEW_SECONDS < TAKEN_OVER_SECONDS

    def read_lease() -> Json:
        lease = cluster.find("lease", RELEASE, SYSTEM)
        return lease["spec"] if lease else {}

    def find_owner() -> str:
        return str(read_lease().get("holderIdentity") or "").split("_")[0]

    try:
        cluster.deploy(fake_operator, replicas=2)
        jobs.apply("one", "ok")
        jobs.wait_reason("one", "Running", "True")
        uid, owner = jobs.pod_uid("one"), find_owner()
        assert owner
        # Deletion by force alone would send SIGTERM, and the operator would release the Lease.
        processes = list_processes(cluster.get("pod", owner, SYSTEM)["metadata"]["uid"])
        operator = [process for process in processes if "dedup_operator" in process.command]
        assert operator, processes
        for process in operator:
            process.kill()
        died = datetime.now(UTC)
        cluster.kubectl("delete", "pod", owner, "-n", SYSTEM, "--grace-period=0", "--force")
        jobs.patch("one", restartNonce=1)
        wait_until(lambda: find_owner() not in {"", owner}, "the standby owns the Lease", 60, read_lease)
        taken = datetime.fromisoformat(read_lease()["acquireTime"])
        assert (taken - died).total_seconds() < TAKEN_OVER_SECONDS
        wait_until(lambda: jobs.is_replaced("one", uid), "the edit restarts the driver", 60)
        jobs.wait_reason("one", "Running", "True")
    finally:
        cluster.deploy(fake_operator)
