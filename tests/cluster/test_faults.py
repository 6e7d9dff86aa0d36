"""Faults of a cluster, one after the other, while a driver deduplicates events. The last test checks the output.

All tests share one job and run in the order of this file. Each test returns when an event that was sent after its fault
is in the output, so the next one starts with a driver that works.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from cluster.extra_pod import ExtraPod
from cluster.flow import RECOVERY, Stream, open_stream
from cluster.harness import Cluster, Kafka, wait_until
from cluster.node import kill_driver, orphan_driver

pytestmark = [pytest.mark.timeout(600), pytest.mark.testbed("it kills processes on the node and reads volumes there")]

JOB = "stream"
REFUSAL = "ReadWriteOncePod"


@pytest.fixture(scope="module")
def storage_class(cluster: Cluster) -> Iterator[str]:
    """A storage class of `local` volumes: kubelet enforces ReadWriteOncePod for them. The test bed's default is host
    paths."""
    name = f"local-{uuid4().hex[:8]}"
    cluster.copy_default_storage_class(name, {"defaultVolumeType": "local"})
    yield name
    cluster.kubectl("delete", "storageclass", name)


@pytest.fixture(scope="module")
def stream(cluster: Cluster, kafka: Kafka, real_operator: str, storage_class: str) -> Iterator[Stream]:
    with open_stream(cluster, kafka, JOB, checkpoint={"claim": {"size": "1Gi", "storageClassName": storage_class}}) as stream:
        yield stream


def test_a_deleted_pod_stops_between_batches_and_is_replaced(stream: Stream) -> None:
    uid, attempt = stream.jobs.pod_uid(JOB), stream.attempt
    stream.jobs.cluster.kubectl("delete", "pod", f"{JOB}-driver-0", "-n", stream.jobs.namespace, "--timeout=180s")
    stream.wait_until_it_flows()
    stream.wait_for_attempt_after(attempt)
    assert stream.jobs.pod_uid(JOB) != uid
    assert stream.exits == [], "a requested stop is no failure"


def test_a_killed_driver_starts_again_in_its_pod(stream: Stream) -> None:
    uid, attempt = stream.jobs.pod_uid(JOB), stream.attempt
    kill_driver(uid)
    wait_until(lambda: stream.exits[:1] == [(137, "DriverFailed")], "the operator reports the exit", 60, lambda: stream.exits)
    stream.wait_until_it_flows()
    stream.wait_for_attempt_after(attempt)
    assert stream.jobs.pod_uid(JOB) == uid


def test_a_new_driver_waits_while_a_driver_without_its_shim_has_the_lock(stream: Stream) -> None:
    uid, attempt = stream.jobs.pod_uid(JOB), stream.attempt
    with orphan_driver(uid) as orphan:
        ready = stream.jobs.wait_reason(JOB, "CheckpointLocked", "False", RECOVERY)
        assert "another driver process" in ready["message"]
        assert all(process.is_alive() for process in orphan), "a living driver must have the lock"
        assert stream.attempt == attempt, "a driver without the lock must not raise the attempt"
        log = stream.jobs.cluster.kubectl("logs", f"{JOB}-driver-0", "-n", stream.jobs.namespace)
        assert "another driver holds the lock of the checkpoint" in log and "driver started" not in log
    stream.wait_until_it_flows()
    stream.wait_for_attempt_after(attempt)


def test_a_restart_of_kubelet_disturbs_nothing(stream: Stream) -> None:
    pod, attempt = stream.jobs.get_object("pod", f"{JOB}-driver-0"), stream.attempt
    testbed = stream.jobs.cluster.testbed
    testbed.stop_daemon("kubelet")
    try:
        stream.wait_until_it_flows()
    finally:
        testbed.start_daemon("kubelet")
    stream.wait_until_it_flows()
    after = stream.jobs.get_object("pod", f"{JOB}-driver-0")
    assert after["metadata"]["uid"] == pod["metadata"]["uid"] and stream.attempt == attempt
    assert _container(after) == _container(pod)


def _container(pod: dict[str, object]) -> str:
    status = pod["status"]
    assert isinstance(status, dict)
    return str(status["containerStatuses"][0]["containerID"])


def test_a_pod_deleted_by_force_leaves_the_checkpoint_intact(stream: Stream) -> None:
    """The API server forgets the pod at once, so the next pod may start while the old driver still runs."""
    uid, attempt = stream.jobs.pod_uid(JOB), stream.attempt
    stream.jobs.cluster.kubectl("delete", "pod", f"{JOB}-driver-0", "-n", stream.jobs.namespace, "--grace-period=0", "--force")
    stream.wait_until_it_flows()
    stream.wait_for_attempt_after(attempt)
    assert stream.jobs.pod_uid(JOB) != uid


def test_the_scheduler_places_no_second_pod(stream: Stream) -> None:
    second, attempt = ExtraPod(stream.jobs, JOB, "scheduled").create(), stream.read_attempt()
    wait_until(lambda: REFUSAL in second.list_warnings(), "the scheduler refuses the pod", 60, second.describe)
    stream.wait_until_it_flows()
    assert second.find_container() is None and second.pod["status"]["phase"] == "Pending"
    second.delete()
    assert stream.read_attempt() == attempt


def test_kubelet_mounts_no_volume_for_a_second_pod_that_names_its_node(stream: Stream) -> None:
    node, attempt = stream.jobs.cluster.testbed.node, stream.read_attempt()
    second = ExtraPod(stream.jobs, JOB, "placed").create(node=node)
    wait_until(lambda: REFUSAL in second.list_warnings(), "kubelet refuses the pod", 60, second.describe)
    stream.wait_until_it_flows()
    assert not second.has_run()
    second.delete()
    assert stream.read_attempt() == attempt


def test_every_event_is_in_the_output_once(stream: Stream, kafka: Kafka) -> None:
    stream.check_output(kafka)
