"""How long the oldest unread record has been waiting, by its Kafka timestamp. Reads one record of each partition that has some."""

from __future__ import annotations

import time
from typing import Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from dedup_job.kafka.client_settings import ClientSettings, get_silent_logger

PATIENCE = 5.0
"""Seconds for a look. A partition without a visible record (compacted away, or an open transaction) never answers."""
_CHUNK = 100
_TIMESTAMP_NOT_AVAILABLE = 0


class OldestLookup(Protocol):
    def fetch_timestamp(self, topic: str, offsets: dict[int, int]) -> int | None: ...


class OldestUnread:
    """A consumer that is assigned only while it looks, so that nothing is fetched for nobody."""

    def __init__(self, settings: ClientSettings, group: str) -> None:
        self._settings = settings.build_lag_reader(group)
        self._consumer: Consumer | None = None

    def fetch_timestamp(self, topic: str, offsets: dict[int, int]) -> int | None:
        """Milliseconds: the oldest among the first records from `offsets` (by partition) on. None where none can be seen in time."""
        if self._consumer is None:
            self._consumer = Consumer(self._settings, logger=get_silent_logger())
        try:
            self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in offsets.items()])
            found = self._read(self._consumer, set(offsets))
            self._consumer.unassign()
        except KafkaException:  # the probe that asks has just seen the brokers, and reports them when they are away
            self._consumer = None
            return None
        return found

    def _read(self, consumer: Consumer, missing: set[int]) -> int | None:
        oldest: int | None = None
        deadline = time.monotonic() + PATIENCE
        while missing and time.monotonic() < deadline:
            for message in consumer.consume(_CHUNK, timeout=0.2):
                partition = message.partition()
                if partition not in missing:
                    continue
                missing.discard(partition)
                kind, timestamp = message.timestamp()
                if message.error() is None and kind != _TIMESTAMP_NOT_AVAILABLE:
                    oldest = timestamp if oldest is None else min(oldest, timestamp)
        return oldest
