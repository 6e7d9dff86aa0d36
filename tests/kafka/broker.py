"""The broker of the tests: creates topics, fills them, reads them to the end, deletes them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

NO_ANSWER_SECONDS = 180.0
"""A reader gives up when the broker has answered nothing for so long."""
READER = {"enable.partition.eof": True, "fetch.wait.max.ms": 50}
"""A reader of a whole topic wants to hear of its end, and soon."""
ANY_PARTITION = -1
NAMESPACE = "tests"
"""The namespace of all jobs that tests start. Each job has the name of its source topic."""


@dataclass(frozen=True)
class Record:
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, str | bytes | None], ...] = ()


class Broker:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})  # errors come as exceptions

    def answers(self, seconds: float = 10) -> bool:
        try:
            self._admin.list_topics(timeout=seconds)
        except KafkaException:
            return False
        return True

    def create(self, topic: str, partitions: int, config: dict[str, str] | None = None) -> None:
        self._admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(20)

    def add_partitions(self, topic: str, total: int) -> None:
        """Returns when the topic has so many partitions, each with a leader."""
        self._admin.create_partitions([NewPartitions(topic, total)])[topic].result(20)
        deadline = time.monotonic() + 20
        while not self._has_partitions(topic, total):
            assert time.monotonic() < deadline, f"{topic} has no {total} partitions with leaders after 20 s"
            time.sleep(0.05)

    def _has_partitions(self, topic: str, total: int) -> bool:
        try:
            return len(self.find_ends(topic)) == total
        except KafkaException:  # a new partition has no leader yet, or the client does not know it
            return False

    def _list_partitions(self, topic: str) -> list[int]:
        return sorted(self._admin.list_topics(topic, timeout=10).topics[topic].partitions)

    def find_ends(self, topic: str) -> dict[int, int]:
        """The end offset of each partition. The marker of a transaction has an offset, too."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(topic, partition): latest for partition in self._list_partitions(topic)}
        return {place.partition: future.result(20).offset for place, future in self._admin.list_offsets(wanted).items()}

    def configure(self, topic: str, config: dict[str, str]) -> None:
        """Changes these settings of the topic, and no others."""
        entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        self._admin.incremental_alter_configs([resource])[resource].result(20)

    def delete(self, topic: str) -> None:
        try:
            self._admin.delete_topics([topic])[topic].result(20)
        except KafkaException:
            return

    def delete_records(self, topic: str, before: dict[int, int]) -> None:
        """Deletes the records before the given offset of each partition, as retention does."""
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        for future in self._admin.delete_records(wanted).values():
            future.result(20)

    def read_group(self, group: str, topic: str) -> dict[int, int]:
        """The committed offsets of a consumer group, by partition."""
        found = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20).topic_partitions
        return {item.partition: item.offset for item in found if item.topic == topic}

    def delete_group(self, group: str) -> None:
        try:
            self._admin.delete_consumer_groups([group])[group].result(20)
        except KafkaException:
            return

    def send(self, topic: str, records: Iterable[Record], partition: int | None = None) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 20, "message.max.bytes": 100_000_000})
        failed: list[object] = []
        for record in records:
            while True:
                try:
                    producer.produce(
                        topic,
                        value=record.value,
                        key=record.key,
                        headers=list(record.headers),
                        on_delivery=lambda error, _: failed.append(error) if error else None,
                        partition=ANY_PARTITION if partition is None else partition,
                    )
                    break
                except BufferError:
                    producer.poll(0.05)
            producer.poll(0)
        assert producer.flush(60) == 0
        assert not failed, failed[0]

    def read_all(self, topic: str) -> list[Record]:
        """All records that are in the topic now, as a read-committed consumer sees them."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": uuid.uuid4().hex, **READER})
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
            return [build_record(message) for message in read_messages(consumer, partitions)]
        finally:
            consumer.close()


def build_record(message: Message) -> Record:
    headers = message.headers() or []
    assert isinstance(headers, list)
    return Record(message.key(), message.value(), tuple(headers))


def read_messages(consumer: Consumer, partitions: Iterable[int]) -> Iterator[Message]:
    """Reads each partition to its end. The consumer must be assigned to the partitions and have the settings READER."""
    unfinished, last_answer = set(partitions), time.monotonic()
    while unfinished:
        messages = consumer.consume(5000, timeout=0.1)  # returns when it has so many, or when its time is over
        if messages:
            last_answer = time.monotonic()
        elif time.monotonic() - last_answer > NO_ANSWER_SECONDS:
            raise RuntimeError(f"the broker has sent nothing of the partitions {unfinished} for {NO_ANSWER_SECONDS:.0f} s")
        for message in messages:
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition())
            elif not error.retriable():
                raise KafkaException(error)


@contextmanager
def use_topics(broker: Broker, *partitions: int, config: dict[str, str] | None = None) -> Iterator[list[str]]:
    """Creates one topic for each number of partitions, and deletes it afterwards, with the progress topic of a job that
    reads it.

    `config` applies from the first record on. A change of an existing topic may take a moment after the broker's
    answer.
    """
    names = [f"test-{uuid.uuid4().hex[:10]}" for _ in partitions]
    for name, count in zip(names, partitions, strict=True):
        broker.create(name, count, config)
    try:
        yield names
    finally:
        for name in names:
            broker.delete(name)
            broker.delete(f"dedup.{NAMESPACE}.{name}-progress")
