"""The whole product: real drivers between two Kafka topics. The tests check the records of the output topic."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from cluster.harness import SYSTEM, Cluster, Jobs, Kafka, wait_until
from testbed.layout import KAFKA_IN_CLUSTER

pytestmark = [
    pytest.mark.usefixtures("real_operator"),
    pytest.mark.timeout(600),
    pytest.mark.testbed("the test reads and writes Kafka from this machine"),
]

JUNK = [b"this is not JSON", b'{"ts": "2026-01-01T00:00:00Z"}', b'{"id": 1}']


def make_events(first: int, last: int) -> list[bytes]:
    """Each event twice. The events are a second of event time apart, and the two copies are far apart in the topic."""
    events = [
        json.dumps({"id": number, "ts": f"2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}Z"}).encode()
        for number in range(first, last)
    ]
    return [*events, *events]


@pytest.fixture
def topics(kafka: Kafka, jobs: Jobs) -> Iterator[tuple[str, str]]:
    source, sink = f"{jobs.namespace}-in", f"{jobs.namespace}-out"
    kafka.create_topic(source)
    kafka.create_topic(sink)
    yield source, sink
    kafka.delete_topics([source, sink])


def read_ids(kafka: Kafka, topic: str) -> Counter[int]:
    return Counter(json.loads(value)["id"] for value in kafka.read(topic))


def test_every_event_is_in_the_output_once_whatever_happens_to_operator_and_driver(
    jobs: Jobs, kafka: Kafka, cluster: Cluster, topics: tuple[str, str]
) -> None:
    source, sink = topics
    late_topic = f"{jobs.namespace}-late"
    kafka.produce(source, make_events(0, 500))
    jobs.apply("main", source, sink={"kafka": {"topic": sink}}, watermark="2h", onInvalid="Drop")
    jobs.apply("notopic", late_topic, watermark="2h")
    cluster.kubectl("wait", "dedupjob/main", "-n", jobs.namespace, "--for=condition=Ready", "--timeout=240s")
    wait_until(lambda: len(read_ids(kafka, sink)) == 500, "the first events are in the output", 120, lambda: jobs.describe("main"))
    uid = jobs.pod_uid("main")

    # The operator's pod is deleted, and invalid records arrive, which this job only counts. Neither disturbs the
    # driver.
    cluster.kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=dedup-operator", "--wait=false")
    kafka.produce(source, [*JUNK, *make_events(400, 900)])
    wait_until(lambda: len(read_ids(kafka, sink)) == 900, "the second events are in the output", 120, lambda: jobs.describe("main"))
    assert jobs.pod_uid("main") == uid

    jobs.wait_reason("notopic", "SourceTopicMissing", "False")
    kafka.create_topic(late_topic)

    # The job is suspended, and resumes with other settings. Copies come from before and after that.
    jobs.patch("main", suspend=True)
    jobs.wait_reason("main", "Suspended", "True")
    assert not jobs.has_live_pod("main")
    kafka.produce(source, make_events(700, 1200))
    jobs.patch("main", suspend=False, trigger={"processingTime": "1s"}, restartNonce=1)
    wait_until(lambda: len(read_ids(kafka, sink)) == 1200, "the third events are in the output", 240, lambda: jobs.describe("main"))
    jobs.wait_reason("main", "Running", "True")
    jobs.wait_reason("notopic", "Running", "True")
    kafka.delete_topics([late_topic])

    found = read_ids(kafka, sink)
    assert set(found) == set(range(1200)), "events are missing or were never sent"
    assert [number for number, count in found.items() if count > 1] == [], "events are in the output more than once"
    expected = {"rowsIn": 3003, "rowsOut": 1200, "duplicates": 1800, "invalid": 3, "late": 0, "lagRecords": 0}

    def count() -> dict[str, int]:
        return {field: value for field, value in jobs.get("main")["status"]["progress"].items() if field in expected}

    wait_until(lambda: count() == expected, "the status has the last counts", 150, count)
    status = jobs.get("main")["status"]
    assert status["checkpoint"]["attempt"] == 2
    assert status["driver"]["restarts"] == 0 and status["driver"]["lastExits"] == []


KAFKA_HOST, KAFKA_PORT = KAFKA_IN_CLUSTER.split(":")


def test_a_broker_that_does_not_answer_is_reported_and_another_address_helps(jobs: Jobs, kafka: Kafka, topics: tuple[str, str]) -> None:
    source, sink = topics
    kafka.produce(source, make_events(0, 10))
    nowhere = {"bootstrapServers": "10.255.255.1:9092", "topic": source}
    jobs.apply("nowhere", source, source=nowhere, sink={"kafka": {"topic": sink}})
    message = jobs.wait_reason("nowhere", "SourceUnavailable", "False", 240)["message"]
    assert "spec.source.bootstrapServers" in message
    # The job has no state yet, so the user may follow the remedy.
    jobs.patch("nowhere", source={"bootstrapServers": KAFKA_IN_CLUSTER})
    wait_until(lambda: len(read_ids(kafka, sink)) == 10, "the events are in the output", 240, lambda: jobs.describe("nowhere"))
    # The brokers move: the address leads nowhere, the pod is lost too, and then another name leads to the same topic.
    jobs.patch("nowhere", source={"bootstrapServers": nowhere["bootstrapServers"]})
    jobs.wait_reason("nowhere", "SourceUnavailable", "False", 240)
    uid = jobs.pod_uid("nowhere")
    jobs.cluster.kubectl("delete", "pod", "nowhere-driver-0", "-n", jobs.namespace, "--wait=false")
    wait_until(lambda: jobs.is_replaced("nowhere", uid), "the pod is replaced", 240, lambda: jobs.describe("nowhere"))
    kafka.produce(source, make_events(5, 20))
    jobs.patch("nowhere", source={"bootstrapServers": f"{KAFKA_HOST}.cluster.local:{KAFKA_PORT}"})
    wait_until(lambda: len(read_ids(kafka, sink)) == 20, "the events are in the output", 240, lambda: jobs.describe("nowhere"))
    jobs.wait_reason("nowhere", "Running", "True")
    assert read_ids(kafka, sink) == Counter(range(20)), "every event is in the output once"
