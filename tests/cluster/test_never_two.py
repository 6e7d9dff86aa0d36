"""Two drivers want one checkpoint, as the shipped image meets that on a claim that many pods may use; at the end the output is compared.

So it is with `accessMode: ReadWriteOnce`, and with ReadWriteOncePod where the volume is a folder of the node and a pod names its node: such
volumes kubelet mounts for everybody. What the access mode does elsewhere is in `test_faults`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.flow import RECOVERY, Stream, open_stream
from cluster.hand_made import HandMade
from cluster.harness import Cluster, Kafka, wait_until
from cluster.node import find_shim, freeze, is_frozen, list_driver
from dedup_api.reasons import Reason

pytestmark = pytest.mark.timeout(600)

SHARED = "shared"


@pytest.fixture(scope="module")
def shared(cluster: Cluster, kafka: Kafka, real_operator: str) -> Iterator[Stream]:
    with open_stream(cluster, kafka, SHARED, checkpoint={"claim": {"size": "1Gi", "accessMode": "ReadWriteOnce"}}) as stream:
        yield stream


def test_a_second_driver_waits_at_the_lock(shared: Stream) -> None:
    attempt = shared.read_attempt()
    second = HandMade(shared.jobs, SHARED, "second").create(node=shared.jobs.cluster.testbed.node)
    second.wait_for_status("waits", lambda status: status.blocked_by is not None and status.blocked_by.reason is Reason.CHECKPOINT_LOCKED)
    shared.wait_until_it_flows()
    log = second.read_log()
    assert f"host {SHARED}-driver-0" in log, "whom to look for"
    assert "driver started" not in log and second.is_running(), "it waits, and does nothing else"
    second.delete()
    assert shared.read_attempt() == attempt and shared.exits == []


def test_a_driver_that_outlives_its_pod_keeps_its_successor_out(shared: Stream) -> None:
    """The pod is removed by force from a node that does not hear it: the driver stands still with its lock, and then works on."""
    uid, attempt = shared.pod_uid, shared.read_attempt()
    driver = list_driver(uid)
    with freeze([find_shim(uid)]):
        with freeze(driver):
            shared.jobs.cluster.kubectl("delete", "pod", f"{SHARED}-driver-0", "-n", shared.jobs.namespace, "--grace-period=0", "--force")
            shared.jobs.wait_reason(SHARED, "CheckpointLocked", "False", RECOVERY)
            assert all(is_frozen(process) for process in driver), "the lock must be held by a driver that may come back"
        shared.wait_until_it_flows()  # by the one that has the lock
        assert shared.pod_uid != uid and all(process.is_alive() for process in driver)
        assert shared.read_attempt() == attempt, "a driver without the lock raises nothing"
    wait_until(lambda: not any(process.is_alive() for process in driver), "kubelet ends it", 60)
    shared.wait_until_it_flows()
    assert shared.read_attempt() == attempt + 1


@pytest.mark.full
def test_a_driver_that_stays_frozen_is_killed_and_started_again(shared: Stream, kafka: Kafka) -> None:
    """A minute until kubelet believes it, and the pod's grace period."""
    uid, attempt = shared.pod_uid, shared.read_attempt()
    driver = list_driver(uid)
    with freeze(driver):
        wait_until(lambda: not any(process.is_alive() for process in driver), "kubelet kills it", 400)
    wait_until(lambda: shared.exits[:1] == [(137, Reason.DRIVER_FAILED)], "the exit is told", 60, lambda: shared.exits)
    shared.wait_until_it_flows()
    assert shared.read_attempt() == attempt + 1 and shared.pod_uid == uid
    shared.check_output(kafka)  # here too: with `-m full` this test stands alone


def test_the_shared_job_has_written_every_event_once(shared: Stream, kafka: Kafka) -> None:
    shared.check_output(kafka)
