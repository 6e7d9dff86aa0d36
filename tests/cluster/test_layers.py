"""Each layer that keeps two drivers off one checkpoint, alone: the others are left out by an entry point that is composed here.

The drivers are pods made by hand, each beside the one before, on one claim that allows it. Each newcomer takes the checkpoint over, and
the one before must end by itself. At the end the job's own driver goes on from what they have left, and the output is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.flow import Stream, open_stream
from cluster.hand_made import HandMade
from cluster.harness import Cluster, Kafka, wait_until
from cluster.node import freeze, list_driver
from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason

pytestmark = [pytest.mark.timeout(600), pytest.mark.full]

JOB, ENTRY = "layers", "entry"
TAKEN_OVER = "has taken over the checkpoint"
"""What a driver says that has found a newer attempt."""


@pytest.fixture(scope="module")
def stream(cluster: Cluster, kafka: Kafka, real_operator: str) -> Iterator[Stream]:
    """The job's own driver has begun the checkpoint and has gone."""
    claim = {"size": "1Gi", "accessMode": "ReadWriteOnce"}
    with open_stream(cluster, kafka, JOB, checkpoint={"claim": claim}) as stream:
        program = (Path(__file__).parent / "layers" / "entry.py").read_text()
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ENTRY}, "data": {"entry.py": program}}
        cluster.kubectl("apply", "-n", stream.jobs.namespace, "-f", "-", document=document)
        stream.jobs.patch(JOB, suspend=True)
        stream.jobs.wait_reason(JOB, "Suspended", "True")
        yield stream


def start(stream: Stream, name: str, *without: str) -> HandMade:
    """A driver without some layers; returns when its events come out."""
    arguments = tuple(word for layer in without for word in ("--without", layer))
    driver = HandMade(stream.jobs, JOB, name).create(node=stream.jobs.cluster.testbed.node, entry=ENTRY, arguments=arguments)
    driver.wait_for_commit()
    return driver


def hold(driver: HandMade, point: str) -> None:
    assert driver.run("touch", f"/tmp/hold-{point}")
    wait_until(lambda: driver.run("test", "-e", f"/tmp/held-{point}"), f"{driver.name} stands before its {point}", 60, driver.describe)


def test_the_attempt_ends_a_driver_whose_lock_does_not_hold(stream: Stream) -> None:
    first = start(stream, "first", "lock")
    start(stream, "second", "lock", "attempt")
    code, said = first.wait_for_end()
    assert (code, said.reason) == (ExitCode.FENCED, Reason.FENCED) and TAKEN_OVER in said.message
    stream.wait_until_it_flows()


def test_the_fence_ends_a_frozen_driver_that_looks_no_more(stream: Stream) -> None:
    """The worst moment: after its last look, with all rows sent, it wants only to commit."""
    second = HandMade(stream.jobs, JOB, "second")
    hold(second, "commit")
    with freeze(list_driver(second.uid)):
        start(stream, "third", "lock")
        stream.wait_until_it_flows()
        assert second.run("rm", "/tmp/hold-commit")
    code, said = second.wait_for_end()
    assert (code, said.reason) == (ExitCode.FENCED, Reason.FENCED) and TAKEN_OVER not in said.message
    stream.wait_until_it_flows()


def test_the_attempt_ends_a_frozen_driver_that_nobody_has_fenced(stream: Stream) -> None:
    third = HandMade(stream.jobs, JOB, "third")
    hold(third, "batch")
    with freeze(list_driver(third.uid)):
        start(stream, "fourth", "lock", "fence")
        stream.wait_until_it_flows()
        assert third.run("rm", "/tmp/hold-batch")
    code, said = third.wait_for_end()
    assert (code, said.reason) == (ExitCode.FENCED, Reason.FENCED) and TAKEN_OVER in said.message
    stream.wait_until_it_flows()


def test_every_event_stands_in_the_output_once(stream: Stream, kafka: Kafka) -> None:
    HandMade(stream.jobs, JOB, "fourth").delete()
    stream.jobs.patch(JOB, suspend=False)
    stream.wait_until_it_flows()
    stream.check_output(kafka)
