"""The output: under both deliveries, and across changes between them, each record comes out once with all its bytes.
And what stops a job instead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.output_file import OutputFile
from kafka.broker import READER, Broker, Record, read_messages, use_topics
from kafka.driver import StartDriver, build_config


@pytest.fixture
def topics(broker: Broker) -> Iterator[tuple[str, str]]:
    with use_topics(broker, 2, 3) as names:
        yield names[0], names[1]


@pytest.fixture
def config(broker: Broker, topics: tuple[str, str]) -> Callable[..., JobConfig]:
    return lambda **sink: build_config(broker.bootstrap, topics[0], topics[1], sink={"kafka": {"topic": topics[1], **sink}})


def build_records(first: int, last: int) -> list[Record]:
    """Each event twice in a row. Every third event has no Kafka key, and every second has headers."""
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
    """By value: the partition and the timestamp in milliseconds of each record that a read-committed consumer sees."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "times", **READER})
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
    """The hash of Java's partitioner without its sign, as org.apache.kafka.common.utils.Utils specifies it."""
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


def test_records_come_out_unchanged_across_changes_of_the_delivery(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_in_shared_jvm: StartDriver
) -> None:
    """ExactlyOnce, AtLeastOnce and ExactlyOnce again. No record is lost or repeated, because every stop is a planned
    one."""
    source, sink = topics
    names = []
    for run, delivery in enumerate(["ExactlyOnce", "AtLeastOnce", "ExactlyOnce"]):
        broker.send(source, build_records(run * 200, run * 200 + 200))
        with start_in_shared_jvm(config(delivery=delivery)) as driver:
            driver.wait_for_rows((run + 1) * 400)
            output = OutputFile(CheckpointLayout(driver.checkpoint, 1)).read()
            assert output is not None and output.delivery == delivery
            names.append(output.name)
            assert driver.stop() == ExitCode.DONE, driver.read_output()
            assert "is only read" not in driver.read_output()  # a planned stop leaves no batch to repeat
    assert len(set(names)) == 3
    assert sort(broker.read_all(sink)) == sort(build_records(0, 600)[::2])

    keyed = {record.value: murmur2(record.key) % 3 for record in build_records(0, 600) if record.key and record.value}
    came, went = read_places(broker, source), read_places(broker, sink)
    assert {value: went[value][0][0] for value in keyed} == keyed
    for event in [*range(200), *range(400, 600)]:
        value = build_records(event, event + 1)[0].value or b""
        assert went[value][0][1] in [timestamp for _, timestamp in came[value]]


def test_a_record_that_the_broker_refuses_stops_the_job_until_the_topic_takes_it(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_in_shared_jvm: StartDriver
) -> None:
    """The record is too large for the output topic. Afterwards no record is lost or repeated."""
    source, sink = topics
    broker.configure(sink, {"max.message.bytes": "10000"})
    broker.send(source, build_records(0, 50))
    text = "".join(f"{number:x}" for number in range(20_000))
    large = Record(b"large", json.dumps({"id": "large", "at": "2024-05-06T07:00:00Z", "text": text}).encode())
    broker.send(source, [large])
    with start_in_shared_jvm(config()) as driver:
        assert driver.wait_for_end() == ExitCode.SINK_REFUSED, driver.read_output()
        message = driver.read_termination_message()
        assert message.reason == Reason.SINK_REFUSED and "RecordTooLarge" in message.message
        assert "\tat " not in driver.read_output(), "the log must name the cause and hold no stack trace"
    assert broker.read_all(sink) == []
    broker.configure(sink, {"max.message.bytes": "1000000"})
    with start_in_shared_jvm(config()) as driver:
        driver.wait_for_rows(101)
    assert sort(broker.read_all(sink)) == sort([*build_records(0, 50)[::2], large])


def test_a_newer_producer_fences_the_driver(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_in_shared_jvm: StartDriver
) -> None:
    """The newer producer has the transactional id of the driver's."""
    source, sink = topics
    broker.send(source, build_records(0, 50))
    with start_in_shared_jvm(config()) as driver:
        driver.wait_for_rows(100)
        output = OutputFile(CheckpointLayout(driver.checkpoint, 1)).read()
        assert output is not None
        identity = f"{config().transactional_id_prefix}.{output.name}"
        Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": identity}).init_transactions(60)
        broker.send(source, build_records(50, 100))
        assert driver.wait_for_end() == ExitCode.FENCED, driver.read_output()
        assert driver.read_termination_message().reason == Reason.FENCED
    assert sort(broker.read_all(sink)) == sort(build_records(0, 50)[::2])
    with start_in_shared_jvm(config()) as driver:
        driver.wait_for_rows(200)
    assert sort(broker.read_all(sink)) == sort(build_records(0, 100)[::2])


def test_a_lost_progress_topic_stops_the_job_until_its_owner_decides(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_in_shared_jvm: StartDriver
) -> None:
    """It is deleted while the driver runs, and it is missing at the next start. The remedy is AtLeastOnce, and then
    back."""
    source, sink = topics
    broker.send(source, build_records(0, 50))
    with start_in_shared_jvm(config()) as driver:
        driver.wait_for_rows(100)
        broker.delete(config().progress_topic)
        broker.send(source, build_records(50, 60))
        assert driver.wait_for_end() == ExitCode.SINK_PROGRESS_LOST, driver.read_output()
    with start_in_shared_jvm(config()) as driver:
        assert driver.wait_for_end() == ExitCode.SINK_PROGRESS_LOST, driver.read_output()
        assert driver.read_termination_message().reason == Reason.SINK_PROGRESS_LOST
    with start_in_shared_jvm(config(delivery="AtLeastOnce")) as driver:
        driver.wait_for_rows(120)
        assert driver.stop() == ExitCode.DONE
    broker.send(source, build_records(60, 70))
    with start_in_shared_jvm(config()) as driver:
        driver.wait_for_rows(140)
    assert sort(broker.read_all(sink)) == sort(build_records(0, 70)[::2])


def test_a_restored_checkpoint_stops_the_job_until_its_owner_accepts_repeated_records(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_in_shared_jvm: StartDriver, tmp_path: Path
) -> None:
    """The remedy is the one of docs/operations.md. The records that came out after the copy was made come out again."""
    source, sink = topics
    broker.send(source, build_records(0, 50))
    with start_in_shared_jvm(config()) as driver:
        driver.wait_for_rows(100)
        assert driver.stop() == ExitCode.DONE
    shutil.copytree(driver.checkpoint, tmp_path / "copy")
    with start_in_shared_jvm(config()) as driver:
        for last in (60, 70, 80):
            broker.send(source, build_records(last - 10, last))
            driver.wait_for_rows(last * 2)
        assert driver.stop() == ExitCode.DONE
    shutil.rmtree(driver.checkpoint)
    (tmp_path / "copy").rename(driver.checkpoint)
    with start_in_shared_jvm(config()) as driver:
        assert driver.wait_for_end() == ExitCode.SINK_PROGRESS_LOST, driver.read_output()
        assert "older copy" in driver.read_termination_message().message
    with start_in_shared_jvm(config(delivery="AtLeastOnce")) as driver:
        driver.wait_for_rows(160)
        assert driver.stop() == ExitCode.DONE
    again = build_records(50, 80)[::2]
    assert sort(broker.read_all(sink)) == sort([*build_records(0, 80)[::2], *again])


def test_a_recreated_output_topic_ends_the_driver_and_gets_all_later_records(
    broker: Broker, topics: tuple[str, str], config: Callable[..., JobConfig], start_in_shared_jvm: StartDriver
) -> None:
    """The driver ends and reports it. The records of the old topic are lost with it."""
    source, sink = topics
    broker.send(source, build_records(0, 50))
    with start_in_shared_jvm(config()) as driver:
        driver.wait_for_rows(100)
        broker.delete(sink)
        broker.create(sink, 3)
        broker.send(source, build_records(50, 60))
        assert driver.wait_for_end() == ExitCode.TOPIC_MISSING, driver.read_output()
        message = driver.read_termination_message()
        assert message.reason == Reason.SINK_TOPIC_MISSING
    with start_in_shared_jvm(config()) as driver:
        driver.wait_for_rows(120)
    assert sort(broker.read_all(sink)) == sort(build_records(50, 60)[::2])
