"""Topics of the demo: making, removing and reading whole ones."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from testbed.shell import TestbedError

PARTITIONS = 4
TIMEOUT = 30.0


def delete_topics(bootstrap: str, names: list[str]) -> None:
    """Removes the topics that exist and waits until they are gone."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for name, future in admin.delete_topics(names).items():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TestbedError(f"topic {name} cannot be deleted: {error}") from error
    deadline = time.monotonic() + TIMEOUT
    while set(names) & set(admin.list_topics(timeout=TIMEOUT).topics):
        if time.monotonic() > deadline:
            raise TestbedError(f"topics {names} are still there after {TIMEOUT:.0f} s")
        time.sleep(0.2)


def create_topics(bootstrap: str, names: list[str]) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            raise TestbedError(f"the topics {', '.join(names)} cannot be made: {error}") from error


def _reader(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "demo-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )


def count_records(bootstrap: str, topic: str) -> int:
    """Records of a topic without transactions and compaction: there every offset is a record."""
    consumer = _reader(bootstrap)
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT).topics[topic].partitions
        ranges = [consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT) for partition in partitions]
        return sum(high - low for low, high in ranges)
    finally:
        consumer.close()


def read_topic(bootstrap: str, topic: str) -> Iterator[bytes]:
    """Values of every committed record that the topic holds now, partition by partition."""
    consumer = _reader(bootstrap)
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        unfinished, heard = set(partitions), time.monotonic()
        while unfinished:
            # `consume` waits for as many as it was asked for, or for its time to pass.
            messages = consumer.consume(10_000, timeout=0.5)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > TIMEOUT:
                raise TestbedError(f"topic {topic} cannot be read: no answer for {TIMEOUT:.0f} s")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message.value() or b""
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(message.partition())
                else:
                    raise TestbedError(f"topic {topic} cannot be read: {error}")
    finally:
        consumer.close()
