"""Creates, deletes and reads the demo's topics. The demo's pod runs this module too."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

PARTITIONS = 4
TIMEOUT = 30.0  # seconds


class TopicError(Exception):
    """Kafka refused a request, or did not answer it in time."""


def wait_for_broker(bootstrap: str, within: float) -> None:
    """Returns when Kafka answers."""
    deadline = time.monotonic() + within
    while True:
        try:
            AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=5)
            return
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise TopicError(f"Kafka does not answer on {bootstrap} after {within:.0f} s: {error}") from error
            time.sleep(0.5)


def delete_topics(bootstrap: str, names: list[str]) -> None:
    """Deletes the topics that exist and waits until they are gone."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for name, future in admin.delete_topics(names).items():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicError(f"Topic {name} cannot be deleted: {error}") from error
    deadline = time.monotonic() + TIMEOUT
    while set(names) & set(admin.list_topics(timeout=TIMEOUT).topics):
        if time.monotonic() > deadline:
            raise TopicError(f"Kafka still has the topics {', '.join(names)} {TIMEOUT:.0f} s after it was asked to delete them.")
        time.sleep(0.2)


def create_topics(bootstrap: str, names: list[str]) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            raise TopicError(f"The topics {', '.join(names)} cannot be created: {error}") from error


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
    """The number of records in a topic that has neither transactions nor compaction: every offset is a record."""
    consumer = _reader(bootstrap)
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT).topics[topic].partitions
        ranges = [consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT) for partition in partitions]
        return sum(high - low for low, high in ranges)
    finally:
        consumer.close()


def read_topic(bootstrap: str, topic: str) -> Iterator[bytes]:
    """The values of all committed records that the topic has now, one partition after the other."""
    consumer = _reader(bootstrap)
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        unfinished, heard = set(partitions), time.monotonic()
        while unfinished:
            # `consume` waits until it has as many messages as it was asked for, or until the timeout.
            messages = consumer.consume(10_000, timeout=0.5)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > TIMEOUT:
                raise TopicError(f"Topic {topic} cannot be read: Kafka sent nothing for {TIMEOUT:.0f} s.")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message.value() or b""
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(message.partition())
                else:
                    raise TopicError(f"Topic {topic} cannot be read: {error}")
    finally:
        consumer.close()
