"""What a cluster does to a driver, one fault after the other, while events flow through it; at the end the output is compared.

One job for all of them, in the order in which they stand here. Each test returns when an event has come out that went in after its
fault, so that the next one meets a driver at work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from cluster.harness import Cluster, Jobs, Kafka, wait_until
from cluster.node import kill_driver, orphan_driver
from cluster.stream import Feed, Output, compare

pytestmark = pytest.mark.timeout(600)

JOB = "stream"
DRIVER = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1536Mi"}}}
RECOVERY = 240
"""Seconds from a fault to the next event on a busy machine of two cores; 15 to 30 on an idle one."""


@dataclass(frozen=True)
class Stream:
    jobs: Jobs
    feed: Feed
    output: Output
    sink: str

    def wait_until_it_flows(self) -> None:
        """An event that has not gone in yet comes out."""
        mark = self.feed.events + 1
        wait_until(lambda: self.output.read_on().newest >= mark, f"event {mark} comes out", RECOVERY, lambda: self.jobs.describe(JOB))

    @property
    def attempt(self) -> int:
        return int(self.jobs.get(JOB)["status"]["checkpoint"]["attempt"])

    @property
    def exits(self) -> list[tuple[int, str]]:
        """Newest first."""
        driver = self.jobs.get(JOB)["status"]["driver"]
        return [(exit["exitCode"], exit["reason"]) for exit in driver["lastExits"]]

    def wait_for_attempt_after(self, attempt: int) -> None:
        """The operator has heard of another start of the driver."""
        wait_until(lambda: self.attempt > attempt, f"an attempt after {attempt}", 60, lambda: self.jobs.describe(JOB))


@pytest.fixture(scope="module")
def stream(cluster: Cluster, kafka: Kafka, real_operator: str) -> Iterator[Stream]:
    namespace = f"dedup-{uuid4().hex[:8]}"
    cluster.create_namespace(namespace)
    source, sink = f"{namespace}-in", f"{namespace}-out"
    kafka.create_topic(source, 4)
    kafka.create_topic(sink, 4)
    jobs = Jobs(cluster, namespace)
    try:
        # Without pauses between batches, so that most faults come in the middle of one.
        jobs.apply(JOB, source, sink={"kafka": {"topic": sink}}, watermark="2h", trigger={"processingTime": "0s"}, driver=DRIVER)
        with Feed(kafka.bootstrap, source) as feed, Output(kafka.bootstrap, sink) as output:
            stream = Stream(jobs, feed, output, sink)
            stream.wait_until_it_flows()
            stream.wait_for_attempt_after(0)
            yield stream
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        kafka.delete_topics([source, sink, f"dedup.{namespace}.{JOB}-progress"])


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


def test_every_event_stands_in_the_output_once(stream: Stream, kafka: Kafka) -> None:
    events = stream.feed.stop()

    def has_ended() -> bool:
        return not compare(stream.output.read_on().values, events).missing

    wait_until(
        has_ended, "every event comes out", RECOVERY, lambda: f"{compare(stream.output.values, events)}\n{stream.jobs.describe(JOB)}"
    )
    stream.jobs.patch(JOB, suspend=True)
    stream.jobs.wait_reason(JOB, "Suspended", "True")  # nothing more can come
    verdict = compare(kafka.read(stream.sink), events)
    assert verdict.is_clean, str(verdict)
    progress = stream.jobs.get(JOB)["status"]["progress"]
    assert (progress["late"], progress["invalid"]) == (0, 0)
