"""Finds the Kafka timestamp of the oldest unread record. Reads one record of each partition that has unread records."""

from __future__ import annotations

import time
from typing import Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from dedup_job.kafka.client_settings import ClientSettings, get_silent_logger

READ_SECONDS = 5.0
"""For one measurement. A partition sends nothing if its records were compacted away."""
_RECORDS_PER_CALL = 100
_TIMESTAMP_NOT_AVAILABLE = 0


class OldestLookup(Protocol):
    def fetch_timestamp(self, topic: str, offsets: dict[int, int]) -> int | None: ...


class OldestUnreadReader:
    """Its consumer has assigned partitions only during a measurement, so that it fetches no records in between."""

    def __init__(self, settings: ClientSettings, group: str) -> None:
        self._settings = settings.build_lag_reader(group)
        self._consumer: Consumer | None = None

    def fetch_timestamp(self, topic: str, offsets: dict[int, int]) -> int | None:
        """Returns the oldest timestamp, in milliseconds, of the records at `offsets` (by partition).

        None if no record arrives in time.
        """
        if self._consumer is None:
            self._consumer = Consumer(self._settings, logger=get_silent_logger())
        try:
            self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in offsets.items()])
            found = self._read(self._consumer, set(offsets))
            self._consumer.unassign()
        except KafkaException:  # LagProbe asks the brokers just before, and reports when none answers
            self._consumer = None
            return None
        return found

    def _read(self, consumer: Consumer, missing: set[int]) -> int | None:
        oldest: int | None = None
        deadline = time.monotonic() + READ_SECONDS
        while missing and time.monotonic() < deadline:
            for message in consumer.consume(_RECORDS_PER_CALL, timeout=0.2):
                partition = message.partition()
                if partition not in missing:
                    continue
                missing.discard(partition)
                kind, timestamp = message.timestamp()
                if message.error() is None and kind != _TIMESTAMP_NOT_AVAILABLE:
                    oldest = timestamp if oldest is None else min(oldest, timestamp)
        return oldest
