"""What comes out: each record whole and once under both deliveries and across changes between them; what stops a job instead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from dedup_api.driver_status import DriverStatus
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.spec import Ordering
from dedup_job.checkpoint.last_delivered import NOTHING_DELIVERED
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.output_file import OutputFile
from dedup_job.errors import JobError
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.sink_topics import ensure_progress_topic
from dedup_job.sink.exactly_once import ExactlyOnceSink
from dedup_job.sink.kafka_opening import build_transactions
from dedup_job.sink.marker import Marker
from dedup_job.sink.transactions import REOPEN_AFTER, Transactions
from kafka.broker import Broker, Record, read_messages, use_topics
from kafka.driver import Driver, build_config

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

StartDriver = Callable[[JobConfig], Driver]


@pytest.fixture
def topics(broker: Broker) -> Iterator[tuple[str, str]]:
    with use_topics(broker, 2, 3) as names:
        yield names[0], names[1]


@pytest.fixture
def config(broker: Broker, topics: tuple[str, str]) -> Callable[..., JobConfig]:
    return lambda **sink: build_config(broker.bootstrap, topics[0], topics[1], sink={"kafka": {"topic": topics[1], **sink}})


def build_records(first: int, last: int) -> list[Record]:
    """Each event twice, the copy right behind; every third has no Kafka key, every second has headers."""
    records = []
    for event in range(first, last):
        value = json.dumps({"id": f"e{event}", "at": f"2024-05-06T07:{event // 60 % 60:02}:{event % 60:02}Z", "text": "grün ☃"}).encode()
        key = None if event % 3 == 0 else f"user-{event % 7}".encode()
        headers: tuple[tuple[str, bytes | None], ...] = (("a", b"1"), ("a", b"2"), ("none", None), ("empty", b"")) if event % 2 else ()
        records += [Record(key, value, headers)] * 2
    return records


def sort(records: list[Record]) -> list[tuple[bytes, bytes, tuple[Any, ...]]]:
    return sorted((record.value or b"", record.key or b"", record.headers) for record in records)


def read_places(broker: Broker, topic: str) -> dict[bytes, list[tuple[int, int]]]:
    """Value -> (partition, timestamp in ms) of every record of that value that a read-committed consumer sees."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "times", "enable.partition.eof": True})
    found: dict[bytes, list[tuple[int, int]]] = {}
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        for message in read_messages(consumer, partitions):
            found.setdefault(message.value() or b"", []).append((message.partition() or 0, message.timestamp()[1]))
    finally:
        consumer.close()
    return found


def murmur2(data: bytes) -> int:
    """Java's partitioner, from its specification in org.apache.kafka.common.utils.Utils; positive."""
    mask, mixer = 0xFFFFFFFF, 0x5BD1E995
    found = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * mixer & mask
        word = (word ^ word >> 24) * mixer & mask
        found = found * mixer & mask ^ word
    rest = data[whole:]
    if rest:
        found = (found ^ int.from_bytes(rest, "little")) * mixer & mask
    found = (found ^ found >> 13) * mixer & mask
    return (found ^ found >> 15) & 0x7FFFFFFF


def is_through(rows: int) -> Callable[[DriverStatus], bool]:
    return lambda status: status.progress.rows_in >= rows and status.progress.lag_records == 0


def test_records_go_through_whole_and_deliveries_can_be_changed(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_driver: StartDriver
) -> None:
    """ExactlyOnce, AtLeastOnce, ExactlyOnce again: nothing is lost or twice, because every stop is a planned one."""
    source, sink = topics
    names = []
    for run, delivery in enumerate(["ExactlyOnce", "AtLeastOnce", "ExactlyOnce"]):
        broker.send(source, build_records(run * 200, run * 200 + 200))
        with start_driver(config(delivery=delivery)) as driver:
            driver.wait_for_rows((run + 1) * 400)
            output = OutputFile(CheckpointLayout(driver.checkpoint, 1)).read()
            assert output is not None and output.delivery == delivery
            names.append(output.name)
            assert driver.stop() == ExitCode.DONE, driver.read_output()
            assert "is only read" not in driver.read_output()  # a planned stop leaves nothing to replay
    assert len(set(names)) == 3
    assert sort(broker.read_all(sink)) == sort(build_records(0, 600)[::2])

    keyed = {record.value: murmur2(record.key) % 3 for record in build_records(0, 600) if record.key and record.value}
    came, went = read_places(broker, source), read_places(broker, sink)
    assert {value: went[value][0][0] for value in keyed} == keyed
    for event in [*range(200), *range(400, 600)]:
        value = build_records(event, event + 1)[0].value or b""
        assert went[value][0][1] in [timestamp for _, timestamp in came[value]]


def test_what_the_brokers_refuse_is_told_and_heals(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_driver: StartDriver
) -> None:
    """A record too large for the sink topic: 68. When the topic takes it, the job goes on, and nothing is lost or twice."""
    source, sink = topics
    broker.configure(sink, {"max.message.bytes": "10000"})
    broker.send(source, build_records(0, 50))
    text = "".join(f"{number:x}" for number in range(20_000))
    large = Record(b"large", json.dumps({"id": "large", "at": "2024-05-06T07:00:00Z", "text": text}).encode())
    broker.send(source, [large])
    with start_driver(config()) as driver:
        assert driver.wait_for_end() == ExitCode.SINK_REFUSED, driver.read_output()
        said = driver.read_termination_message()
        assert said.reason is Reason.SINK_REFUSED and "RecordTooLarge" in said.message
        assert "\tat " not in driver.read_output(), "a stack trace says less than the cause, at greater length"
    assert broker.read_all(sink) == []
    broker.configure(sink, {"max.message.bytes": "1000000"})
    with start_driver(config()) as driver:
        driver.wait_for_rows(101)
    assert sort(broker.read_all(sink)) == sort([*build_records(0, 50)[::2], large])


def test_a_newer_producer_fences_the_driver(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_driver: StartDriver, spark: SparkSession
) -> None:
    source, sink = topics
    broker.send(source, build_records(0, 50))
    with start_driver(config()) as driver:
        driver.wait_for_rows(100)
        output = OutputFile(CheckpointLayout(driver.checkpoint, 1)).read()
        assert output is not None
        newer = build_transactions(spark, config(), output.name)
        newer.open()
        broker.send(source, build_records(50, 100))
        assert driver.wait_for_end() == ExitCode.FENCED, driver.read_output()
        assert driver.read_termination_message().reason is Reason.FENCED
        newer.close()
    assert sort(broker.read_all(sink)) == sort(build_records(0, 50)[::2])
    with start_driver(config()) as driver:
        driver.wait_for_rows(200)
    assert sort(broker.read_all(sink)) == sort(build_records(0, 100)[::2])


def test_a_producer_is_opened_anew_after_a_long_pause(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], spark: SparkSession
) -> None:
    """Before the brokers may have forgotten its id. Whoever wrote meanwhile is not written over."""
    now, job = [0.0], config(ordering="None")
    settings = ClientSettings(broker.bootstrap)
    ensure_progress_topic(settings, job.progress_topic)

    def open_producer() -> Transactions:
        identity = f"{job.transactional_id_prefix}.pause"
        return Transactions(
            spark=spark,
            settings=settings,
            transactional_id=identity,
            topic=topics[1],
            progress_topic=job.progress_topic,
            output="pause",
            batch_bytes=65536,
            clock=lambda: now[0],
        )

    def send(sink: ExactlyOnceSink, batch: int) -> None:
        rows = spark.sql(f"SELECT CAST(NULL AS BINARY) key, CAST('{batch}' AS BINARY) value, timestamp_millis(1) timestamp").selectExpr(
            "*", "CAST(NULL AS ARRAY<STRUCT<key: STRING, value: BINARY>>) headers", "CAST(NULL AS STRING) topic"
        )
        sink.begin(batch, f"entry {batch}")
        sink.write(rows, batch)
        sink.confirm(1)

    ours, other = open_producer(), open_producer()
    try:
        ours.open()
        first = Marker(batch=NOTHING_DELIVERED, entry="", attempt=1, rows=0)
        sink = ExactlyOnceSink(ours, first, attempt=1, ordering=Ordering.NONE, partitions=1)
        send(sink, 0)
        other.open()  # from here on only a producer that is opened anew can write
        now[0] += REOPEN_AFTER + 1
        send(sink, 1)
        assert sorted(record.value or b"" for record in broker.read_all(topics[1])) == [b"0", b"1"]
        other.open()
        other.begin()
        other.commit(Marker(batch=2, entry="another", attempt=2, rows=0))
        now[0] += REOPEN_AFTER + 1
        with pytest.raises(JobError, match="another driver has written") as raised:
            sink.begin(2, "entry 2")
        assert raised.value.code is ExitCode.FENCED
    finally:
        ours.close()
        other.close()


def test_a_lost_progress_topic_stops_the_job_until_a_person_decides(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_driver: StartDriver
) -> None:
    """Deleted under a running driver, then missing at a start; AtLeastOnce and back is the way out that the remedy names."""
    source, sink = topics
    broker.send(source, build_records(0, 50))
    with start_driver(config()) as driver:
        driver.wait_for_rows(100)
        broker.delete(config().progress_topic)
        broker.send(source, build_records(50, 60))
        assert driver.wait_for_end() == ExitCode.SINK_PROGRESS_LOST, driver.read_output()
    with start_driver(config()) as driver:
        assert driver.wait_for_end() == ExitCode.SINK_PROGRESS_LOST, driver.read_output()
        assert driver.read_termination_message().reason is Reason.SINK_PROGRESS_LOST
    with start_driver(config(delivery="AtLeastOnce")) as driver:
        driver.wait_for_rows(120)
        assert driver.stop() == ExitCode.DONE
    broker.send(source, build_records(60, 70))
    with start_driver(config()) as driver:
        driver.wait_for_rows(140)
    assert sort(broker.read_all(sink)) == sort(build_records(0, 70)[::2])


def test_a_restored_checkpoint_stops_the_job_until_a_person_accepts_copies(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_driver: StartDriver, tmp_path: Path
) -> None:
    """The way that docs/operations.md describes. What comes twice is what came out since the copy was made."""
    source, sink = topics
    broker.send(source, build_records(0, 50))
    with start_driver(config()) as driver:
        driver.wait_for_rows(100)
        assert driver.stop() == ExitCode.DONE
    shutil.copytree(driver.checkpoint, tmp_path / "copy")
    with start_driver(config()) as driver:
        for last in (60, 70, 80):
            broker.send(source, build_records(last - 10, last))
            driver.wait_for_rows(last * 2)
        assert driver.stop() == ExitCode.DONE
    shutil.rmtree(driver.checkpoint)
    (tmp_path / "copy").rename(driver.checkpoint)
    with start_driver(config()) as driver:
        assert driver.wait_for_end() == ExitCode.SINK_PROGRESS_LOST, driver.read_output()
        assert "older copy" in driver.read_termination_message().message
    with start_driver(config(delivery="AtLeastOnce")) as driver:
        driver.wait_for_rows(160)
        assert driver.stop() == ExitCode.DONE
    again = build_records(50, 80)[::2]
    assert sort(broker.read_all(sink)) == sort([*build_records(0, 80)[::2], *again])


def test_the_output_topic_is_deleted_and_made_again(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_driver: StartDriver
) -> None:
    """Told, and then gone on with: what the old topic held is gone with it, all that comes later is in the new one."""
    source, sink = topics
    broker.send(source, build_records(0, 50))
    with start_driver(config()) as driver:
        driver.wait_for_rows(100)
        broker.delete(sink)
        broker.create(sink, 3)
        broker.send(source, build_records(50, 60))
        assert driver.wait_for_end() == ExitCode.TOPIC_MISSING, driver.read_output()
        said = driver.read_termination_message()
        assert said.reason is Reason.SINK_TOPIC_MISSING
    with start_driver(config()) as driver:
        driver.wait_for_rows(120)
    assert sort(broker.read_all(sink)) == sort(build_records(50, 60)[::2])
