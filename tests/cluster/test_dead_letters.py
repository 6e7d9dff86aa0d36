"""Invalid records in the whole product: dead letters from a year of flights, and a job that stops at the first one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from cluster.harness import Jobs, Json, Kafka, wait_until
from cluster.test_data_plane import make_events
from dedup_api.status import Progress
from demo.flights import Flight, read_departures
from kafka.broker import Broker, Record, read_messages
from testbed.layout import KAFKA_IN_CLUSTER

pytestmark = [
    pytest.mark.usefixtures("real_operator"),
    pytest.mark.timeout(900),
    pytest.mark.testbed("the test reads and writes Kafka from this machine"),
]

FLIGHTS, NEVER_LEFT = 336_776, 8_255
COPIES, FARTHEST_COPY, SEED = 30_000, 200, 11
"""A copy stands at most so many flights behind the original: that is about five hours."""
WATERMARK = timedelta(hours=48)
"""The test sends flights in the order of their scheduled hours. The most delayed one left 22 hours after its hour, so
later records of its partition are up to 22 hours older, and copies another five hours. `measure_disorder` checks this.

Only the order inside a partition matters. All records are in the topic before the job starts, so each micro-batch but the
last leaves a backlog, and the watermark follows the slowest partition."""
BATCH = 100_000
"""Offsets per micro-batch: four micro-batches."""
DRIVER = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1536Mi"}}}


@dataclass(frozen=True)
class Stored:
    """A record with its place in a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes | str | None], ...]


def build_stored(message: Message) -> Stored:
    partition, offset, headers = message.partition(), message.offset(), message.headers() or []
    assert partition is not None and offset is not None and isinstance(headers, list)
    return Stored(partition, offset, message.key(), message.value(), message.timestamp()[1], tuple(headers))


def read_stored(bootstrap: str, topic: str) -> list[Stored]:
    """All committed records that the topic has now, in the order of each partition."""
    settings = {"group.id": uuid4().hex, "isolation.level": "read_committed", "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        return [build_stored(message) for message in read_messages(consumer, partitions)]
    finally:
        consumer.close()


Departures = dict[bytes | None, datetime | None]
"""Departure time by the record's value. No two flights have the same value."""


def plan_sending(flights: list[Flight], departures: Departures) -> list[Flight]:
    """Every flight once, in order, and copies of some that left. The driver does not deduplicate dead letters."""
    choice = random.Random(SEED)
    order = [(float(number), number) for number in range(len(flights))]
    left = [number for number, flight in enumerate(flights) if departures[flight.value] is not None]
    order += [(number + choice.uniform(0.5, FARTHEST_COPY), number) for number in choice.choices(left, k=COPIES)]
    return [flights[number] for _, number in sorted(order)]


def measure_disorder(source: list[Stored], departures: Departures) -> timedelta:
    """The longest time by which a record is older than an earlier record of its partition."""
    newest: dict[int, datetime] = {}
    most = timedelta()
    for record in source:
        departed = departures[record.value]
        if departed is not None:
            newest[record.partition] = max(newest.get(record.partition, departed), departed)
            most = max(most, newest[record.partition] - departed)
    return most


@pytest.fixture
def create_topics(kafka: Kafka, jobs: Jobs) -> Iterator[Callable[..., list[str]]]:
    """`create_topics(job, in=4, out=2)` returns the names of new topics, which the test's end deletes."""
    created: list[str] = []

    def create(job: str, **partitions: int) -> list[str]:
        names = [f"{jobs.namespace}-{job}-{name}" for name in partitions]
        for name, count in zip(names, partitions.values(), strict=True):
            kafka.create_topic(name, count)
        created.extend([*names, f"dedup.{jobs.namespace}.{job}-progress"])
        return names

    yield create
    kafka.delete_topics(created)


def read_progress(jobs: Jobs, name: str) -> Progress:
    return Progress.model_validate(jobs.get(name).get("status", {}).get("progress", {}))


def test_flights_that_never_left_become_dead_letters(jobs: Jobs, kafka: Kafka, create_topics: Callable[..., list[str]]) -> None:
    source, sink, dead = create_topics("flights", source=4, sink=4, dead=2)
    flights = read_departures()
    departures: Departures = {flight.value: departed for flight, departed in flights}
    assert len(flights) == len(departures) == FLIGHTS
    plan = plan_sending([flight for flight, _ in flights], departures)
    Broker(kafka.bootstrap).send(source, (Record(flight.key, flight.value) for flight in plan))
    jobs.apply(
        "flights",
        source,
        source={"bootstrapServers": KAFKA_IN_CLUSTER, "topic": source, "maxOffsetsPerTrigger": BATCH},
        key={"fields": ["time_hour", "carrier", "flight"]},
        eventTime={"field": "departed"},
        watermark=f"{WATERMARK // timedelta(hours=1)}h",
        onInvalid="DeadLetter",
        deadLetter={"topic": dead},
        trigger={"processingTime": "0s"},
        sink={"kafka": {"topic": sink}},
        driver=DRIVER,
    )
    sent = read_stored(kafka.bootstrap, source)
    assert len(sent) == FLIGHTS + COPIES
    assert timedelta(hours=20) < measure_disorder(sent, departures) < WATERMARK, (
        "the plan must contain disorder, but no flight that is late"
    )

    def is_finished() -> bool:
        progress = read_progress(jobs, "flights")
        return (progress.rows_in, progress.lag_records) == (len(sent), 0)

    wait_until(is_finished, "the status says that the driver has read all flights", 300, lambda: jobs.describe("flights"))
    compare_counts(read_progress(jobs, "flights"))
    compare_output(sent, departures, read_stored(kafka.bootstrap, sink))
    compare_dead_letters(source, [record for record in sent if departures[record.value] is None], read_stored(kafka.bootstrap, dead))
    jobs.wait_reason("flights", "Running", "True")
    lines = jobs.cluster.kubectl("get", "dedupjob", "flights", "-n", jobs.namespace, "-o", "wide").splitlines()
    assert lines[0].split()[-1] == "WARNING"  # it is empty
    shown = dict(zip(lines[0].split()[:-1], lines[1].split(), strict=True))
    assert (shown["READY"], shown["REASON"], shown["WATERMARK"]) == ("True", "Running", "48h")
    assert (shown["DUPLICATES"], shown["LATE"], shown["INVALID"]) == (str(COPIES), "0", str(NEVER_LEFT))


def compare_counts(progress: Progress) -> None:
    """Exact counts, and the sum that docs/records.md promises."""
    assert progress.unique == progress.rows_out == FLIGHTS - NEVER_LEFT == 328_521
    assert progress.invalid == progress.dead_letters == NEVER_LEFT
    assert progress.invalid_by_reason == {"TimeMissing": NEVER_LEFT}
    assert (progress.duplicates, progress.late, progress.late_emitted, progress.lost) == (COPIES, 0, 0, 0)
    assert progress.rows_in == progress.unique + progress.duplicates + progress.late + progress.invalid


def compare_output(sent: list[Stored], departures: Departures, out: list[Stored]) -> None:
    """The output has every flight that left exactly once, in the bytes that were sent."""
    expected = {(record.key, record.value) for record in sent if departures[record.value] is not None}
    found = Counter((record.key, record.value) for record in out)
    assert (len(expected - found.keys()), len(found.keys() - expected)) == (0, 0), "(missing flights, records that were never sent)"
    assert len(out) == len(found) == FLIGHTS - NEVER_LEFT, "a flight is in the output more than once"
    assert not any(record.headers for record in out)


def compare_dead_letters(topic: str, invalid: list[Stored], dead: list[Stored]) -> None:
    """Every invalid record is a dead letter exactly once, with its bytes and its place in the source."""
    expected = {(record.partition, record.offset): record for record in invalid}
    assert len(dead) == len(expected) == NEVER_LEFT
    for letter in dead:
        names = [name for name, _ in letter.headers]
        headers = {name: value.decode() for name, value in letter.headers if isinstance(value, bytes)}
        record = expected.pop((int(headers["dedup-source-partition"]), int(headers["dedup-source-offset"])))
        assert (letter.key, letter.value, letter.timestamp) == (record.key, record.value, record.timestamp)
        assert (headers["dedup-reason"], headers["dedup-source-topic"]) == ("TimeMissing", topic)
        assert headers["dedup-detail"] == "the event time field departed is null"
        assert len(names) == len(set(names)) and "dedup-event-time" not in names
    assert not expected, "these invalid records have no dead letter"


def test_an_invalid_record_stops_the_job_until_the_user_allows_it(
    jobs: Jobs, kafka: Kafka, create_topics: Callable[..., list[str]]
) -> None:
    source, sink = create_topics("strict", source=1, sink=1)
    events = make_events(0, 20)
    kafka.produce(source, [*events[:7], b'{"id": 7}', *events[7:]])
    jobs.apply("strict", source, sink={"kafka": {"topic": sink}}, watermark="2h")

    ready = jobs.wait_reason("strict", "InvalidRecord", "False")
    assert f"offset 7 of partition 0 of the topic {source} is invalid: TimeMissing, the event time field ts is missing" in ready["message"]
    wait_until(lambda: is_given_up(jobs, "strict"), "the operator gives the job up", 60, lambda: jobs.describe("strict"))
    exits = jobs.get("strict")["status"]["driver"]["lastExits"]
    # kubelet restarts a driver at once after its first exit, and a driver that runs is not given up.
    assert {(exit["exitCode"], exit["reason"]) for exit in exits} == {(65, "InvalidRecord")} and len(exits) <= 2
    assert kafka.read(sink) == [], "no record of the micro-batch is written"

    jobs.patch("strict", onInvalid="Drop")
    jobs.wait_reason("strict", "Running", "True")
    assert jobs.find_condition("strict", "Stalled") is None
    wait_until(lambda: len(kafka.read(sink)) == 20, "the events are in the output", 120, lambda: jobs.describe("strict"))
    wait_until(lambda: read_progress(jobs, "strict").rows_in == 41, "the status has the counts", 150, lambda: jobs.describe("strict"))
    progress = read_progress(jobs, "strict")
    assert (progress.unique, progress.duplicates, progress.invalid_by_reason) == (20, 20, {"TimeMissing": 1})
    assert Counter(kafka.read(sink)) == Counter(events[:20])


def is_given_up(jobs: Jobs, name: str) -> bool:
    stalled: Json | None = jobs.find_condition(name, "Stalled")
    return stalled is not None and (stalled["status"], stalled["reason"]) == ("True", "InvalidRecord") and jobs.pod(name) is None
