"""Each layer that keeps two drivers off one checkpoint, alone. `layers/entry.py` removes the other layers.

The drivers are extra pods, each started beside the one before, on a claim that allows several pods. Each new driver
takes the checkpoint over, and the one before must end without help. At the end the job's own driver continues on that
checkpoint, and the last test checks the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.extra_pod import ExtraPod
from cluster.flow import Stream, open_stream
from cluster.harness import Cluster, Kafka, wait_until
from cluster.node import freeze, list_driver
from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason

pytestmark = [pytest.mark.timeout(600), pytest.mark.full, pytest.mark.testbed("it freezes processes on the node")]

JOB, ENTRY = "layers", "entry"
TAKEN_OVER = "has taken over the checkpoint"
"""In the message of a driver that has found a newer attempt."""


@pytest.fixture(scope="module")
def stream(cluster: Cluster, kafka: Kafka, real_operator: str) -> Iterator[Stream]:
    """The job's own driver has created the checkpoint and is suspended."""
    claim = {"size": "1Gi", "accessMode": "ReadWriteOnce"}
    with open_stream(cluster, kafka, JOB, checkpoint={"claim": claim}) as stream:
        program = (Path(__file__).parent / "layers" / "entry.py").read_text()
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ENTRY}, "data": {"entry.py": program}}
        cluster.kubectl("apply", "-n", stream.jobs.namespace, "-f", "-", document=document)
        stream.jobs.patch(JOB, suspend=True)
        stream.jobs.wait_reason(JOB, "Suspended", "True")
        yield stream


def start(stream: Stream, name: str, *without: str) -> ExtraPod:
    """Starts a driver without some layers. Returns when it has committed a micro-batch."""
    arguments = tuple(word for layer in without for word in ("--without", layer))
    driver = ExtraPod(stream.jobs, JOB, name).create(node=stream.jobs.cluster.testbed.node, entry=ENTRY, arguments=arguments)
    driver.wait_for_commit()
    return driver


def hold_at(driver: ExtraPod, point: str) -> None:
    assert driver.run("touch", f"/tmp/hold-{point}")
    wait_until(lambda: driver.run("test", "-e", f"/tmp/held-{point}"), f"{driver.name} stops at the point {point}", 60, driver.describe)


def test_the_attempt_ends_a_driver_whose_lock_does_not_work(stream: Stream) -> None:
    first = start(stream, "first", "lock")
    start(stream, "second", "lock", "attempt")
    code, termination = first.wait_for_end()
    assert (code, termination.reason) == (ExitCode.FENCED, Reason.FENCED) and TAKEN_OVER in termination.message
    stream.wait_until_it_flows()


def test_the_fence_ends_a_frozen_driver_after_its_last_check(stream: Stream) -> None:
    """The worst moment: the driver has made its last check and sent all rows; only the commit is left."""
    second = ExtraPod(stream.jobs, JOB, "second")
    hold_at(second, "commit")
    with freeze(list_driver(second.uid)):
        start(stream, "third", "lock")
        stream.wait_until_it_flows()
        assert second.run("rm", "/tmp/hold-commit")
    code, termination = second.wait_for_end()
    assert (code, termination.reason) == (ExitCode.FENCED, Reason.FENCED) and TAKEN_OVER not in termination.message
    stream.wait_until_it_flows()


def test_the_attempt_ends_a_frozen_driver_that_was_not_fenced(stream: Stream) -> None:
    third = ExtraPod(stream.jobs, JOB, "third")
    hold_at(third, "batch")
    with freeze(list_driver(third.uid)):
        start(stream, "fourth", "lock", "fence")
        stream.wait_until_it_flows()
        assert third.run("rm", "/tmp/hold-batch")
    code, termination = third.wait_for_end()
    assert (code, termination.reason) == (ExitCode.FENCED, Reason.FENCED) and TAKEN_OVER in termination.message
    stream.wait_until_it_flows()


def test_every_event_is_in_the_output_once(stream: Stream, kafka: Kafka) -> None:
    ExtraPod(stream.jobs, JOB, "fourth").delete()
    stream.jobs.patch(JOB, suspend=False)
    stream.wait_until_it_flows()
    stream.check_output(kafka)
