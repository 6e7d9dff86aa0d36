"""What a cluster does to a driver, one fault after the other, while events flow through it; at the end the output is compared.

One job for all of them, in the order in which they stand here. Each test returns when an event has come out that went in after its
fault, so that the next one meets a driver at work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from cluster.flow import RECOVERY, Stream, open_stream
from cluster.hand_made import HandMade
from cluster.harness import Cluster, Kafka, wait_until
from cluster.node import kill_driver, orphan_driver

pytestmark = pytest.mark.timeout(600)

JOB = "stream"
REFUSAL = "ReadWriteOncePod"


@pytest.fixture(scope="module")
def storage_class(cluster: Cluster) -> Iterator[str]:
    """Of volumes that kubelet keeps a list of, and so for one pod where the claim says so. The test bed's own are mere folders."""
    default = json.loads(cluster.kubectl("get", "storageclass", "-o", "json"))["items"][0]
    made = {key: default[key] for key in ("apiVersion", "kind", "provisioner", "volumeBindingMode", "reclaimPolicy")}
    name = f"local-{uuid4().hex[:8]}"
    metadata = {"name": name, "annotations": {"defaultVolumeType": "local"}}
    cluster.kubectl("apply", "-f", "-", document={**made, "metadata": metadata})
    yield name
    cluster.kubectl("delete", "storageclass", name)


@pytest.fixture(scope="module")
def stream(cluster: Cluster, kafka: Kafka, real_operator: str, storage_class: str) -> Iterator[Stream]:
    with open_stream(cluster, kafka, JOB, checkpoint={"claim": {"size": "1Gi", "storageClassName": storage_class}}) as stream:
        yield stream


def test_a_deleted_pod_stops_between_batches_and_comes_back(stream: Stream) -> None:
    uid, attempt = stream.jobs.pod_uid(JOB), stream.attempt
    stream.jobs.cluster.kubectl("delete", "pod", f"{JOB}-driver-0", "-n", stream.jobs.namespace, "--timeout=180s")
    stream.wait_until_it_flows()
    stream.wait_for_attempt_after(attempt)
    assert stream.jobs.pod_uid(JOB) != uid
    assert stream.exits == [], "a stop that was asked for is no failure"


def test_a_killed_driver_comes_back_in_its_pod(stream: Stream) -> None:
    uid, attempt = stream.jobs.pod_uid(JOB), stream.attempt
    kill_driver(uid)
    wait_until(lambda: stream.exits[:1] == [(137, "DriverFailed")], "the exit is told", 60, lambda: stream.exits)
    stream.wait_until_it_flows()
    stream.wait_for_attempt_after(attempt)
    assert stream.jobs.pod_uid(JOB) == uid


def test_a_newcomer_waits_while_a_driver_without_its_shim_holds_the_checkpoint(stream: Stream) -> None:
    uid, attempt = stream.jobs.pod_uid(JOB), stream.attempt
    with orphan_driver(uid) as orphan:
        ready = stream.jobs.wait_reason(JOB, "CheckpointLocked", "False", RECOVERY)
        assert "another driver process" in ready["message"]
        assert all(process.is_alive() for process in orphan), "the lock must be held by a living driver"
        assert stream.attempt == attempt, "a driver without the lock raises nothing"
        log = stream.jobs.cluster.kubectl("logs", f"{JOB}-driver-0", "-n", stream.jobs.namespace)
        assert "waiting for the checkpoint's lock" in log and "driver started" not in log
    stream.wait_until_it_flows()
    stream.wait_for_attempt_after(attempt)


def test_a_kubelet_that_restarts_is_not_noticed(stream: Stream) -> None:
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


def test_a_pod_that_is_deleted_by_force_leaves_the_checkpoint_whole(stream: Stream) -> None:
    """The API forgets the pod at once, so its successor may come while the driver is still there."""
    uid, attempt = stream.jobs.pod_uid(JOB), stream.attempt
    stream.jobs.cluster.kubectl("delete", "pod", f"{JOB}-driver-0", "-n", stream.jobs.namespace, "--grace-period=0", "--force")
    stream.wait_until_it_flows()
    stream.wait_for_attempt_after(attempt)
    assert stream.jobs.pod_uid(JOB) != uid


def test_the_scheduler_finds_no_place_for_a_second_pod(stream: Stream) -> None:
    second, attempt = HandMade(stream.jobs, JOB, "scheduled").create(), stream.read_attempt()
    wait_until(lambda: REFUSAL in second.list_warnings(), "the scheduler refuses it", 60, second.describe)
    stream.wait_until_it_flows()
    assert second.find_container() is None and second.pod["status"]["phase"] == "Pending"
    second.delete()
    assert stream.read_attempt() == attempt


def test_kubelet_mounts_nothing_for_a_second_pod_that_no_scheduler_has_seen(stream: Stream) -> None:
    node, attempt = stream.jobs.cluster.testbed.node, stream.read_attempt()
    second = HandMade(stream.jobs, JOB, "placed").create(node=node)
    wait_until(lambda: REFUSAL in second.list_warnings(), "kubelet refuses it", 60, second.describe)
    stream.wait_until_it_flows()
    assert not second.has_run()
    second.delete()
    assert stream.read_attempt() == attempt


def test_every_event_stands_in_the_output_once(stream: Stream, kafka: Kafka) -> None:
    stream.check_output(kafka)
