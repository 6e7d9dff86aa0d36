"""Two drivers of the shipped image on one checkpoint, on a claim that several pods may mount. The last test checks the
output.

A claim is like this with `accessMode: ReadWriteOnce`. With ReadWriteOncePod it is when the volume is a host path and
the pod names its node, because kubelet mounts host paths for every pod. `test_faults` tests what the access mode
prevents.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.extra_pod import ExtraPod
from cluster.flow import RECOVERY, Stream, open_stream
from cluster.harness import Cluster, Kafka, wait_until
from cluster.node import find_shim, freeze, is_frozen, list_driver
from dedup_api.driver_status import DriverStatus
from dedup_api.reasons import Reason

pytestmark = [pytest.mark.timeout(600), pytest.mark.testbed("it freezes processes on the node and reads volumes there")]

SHARED = "shared"


@pytest.fixture(scope="module")
def shared(cluster: Cluster, kafka: Kafka, real_operator: str) -> Iterator[Stream]:
    with open_stream(cluster, kafka, SHARED, checkpoint={"claim": {"size": "1Gi", "accessMode": "ReadWriteOnce"}}) as stream:
        yield stream


def is_locked_out(status: DriverStatus) -> bool:
    return status.blocked_by is not None and status.blocked_by.reason == Reason.CHECKPOINT_LOCKED


def test_a_second_driver_waits_at_the_lock(shared: Stream) -> None:
    attempt = shared.read_attempt()
    second = ExtraPod(shared.jobs, SHARED, "second").create(node=shared.jobs.cluster.testbed.node)
    second.wait_for_status("waits for the lock", is_locked_out)
    shared.wait_until_it_flows()
    log = second.read_log()
    assert f"host {SHARED}-driver-0" in log, "the log must name the owner of the lock"
    assert "driver started" not in log and second.is_running(), "the driver must wait, and do nothing else"
    second.delete()
    assert shared.read_attempt() == attempt and shared.exits == []


def test_the_next_driver_waits_for_a_driver_that_outlives_its_pod(shared: Stream) -> None:
    """The pod is deleted by force while its node does not react. The frozen driver has the lock, and continues
    later."""
    uid, attempt = shared.pod_uid, shared.read_attempt()
    driver = list_driver(uid)
    with freeze([find_shim(uid)]):
        with freeze(driver):
            shared.jobs.cluster.kubectl("delete", "pod", f"{SHARED}-driver-0", "-n", shared.jobs.namespace, "--grace-period=0", "--force")
            shared.jobs.wait_reason(SHARED, "CheckpointLocked", "False", RECOVERY)
            assert all(is_frozen(process) for process in driver), "a driver that may continue must have the lock"
        shared.wait_until_it_flows()  # by the driver that has the lock
        assert shared.pod_uid != uid and all(process.is_alive() for process in driver)
        assert shared.read_attempt() == attempt, "a driver without the lock must not raise the attempt"
    wait_until(lambda: not any(process.is_alive() for process in driver), "kubelet ends the old driver", 60)
    shared.wait_until_it_flows()
    assert shared.read_attempt() == attempt + 1


@pytest.mark.full
def test_a_driver_that_stays_frozen_is_killed_and_started_again(shared: Stream, kafka: Kafka) -> None:
    """kubelet needs a minute of failed probes, and then the pod's grace period."""
    uid, attempt = shared.pod_uid, shared.read_attempt()
    driver = list_driver(uid)
    with freeze(driver):
        wait_until(lambda: not any(process.is_alive() for process in driver), "kubelet kills the driver", 400)
    wait_until(lambda: shared.exits[:1] == [(137, Reason.DRIVER_FAILED)], "the operator reports the exit", 60, lambda: shared.exits)
    shared.wait_until_it_flows()
    assert shared.read_attempt() == attempt + 1 and shared.pod_uid == uid
    shared.check_output(kafka)  # also here, because `-m full` runs this test alone


def test_every_event_is_in_the_output_once(shared: Stream, kafka: Kafka) -> None:
    shared.check_output(kafka)
