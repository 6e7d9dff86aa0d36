"""Commits the job's position as offsets of a consumer group, so that lag tools see it. The driver itself never reads
them.

Spark's Kafka source commits no offsets. So the driver commits them for the group without joining it. It does so in a
thread of its own: a group that refuses the offsets, or a coordinator that does not answer, must neither delay nor stop
a batch.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from dedup_api.job_config import JobConfig
from dedup_job.background import Survivor
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.connection_errors import ConnectionErrors

REPEAT_SECONDS = 3600.0
"""Until the driver writes an unchanged position again. Brokers forget a group without members after
offsets.retention.minutes, a week by default."""
RETRY_SECONDS = 5.0
"""After a failure, unless a batch commits earlier."""
CLOSE_SECONDS = 5.0
"""For the last write when the driver ends. The next start writes the position as well."""
FAILURES_BEFORE_WARNING = 3
"""In a row. A new coordinator usually needs one more request."""

_HAS_MEMBERS = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.NON_EMPTY_GROUP}
_TEMPORARY = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError._ALL_BROKERS_DOWN,
}

_LOG = logging.getLogger("dedup_job.kafka.consumer_group")


class GroupWriter(Protocol):
    def write_group_offsets(self, group: str, topic: str, offsets: dict[int, int]) -> KafkaError | None: ...


class GroupOffsets:
    """Commits offsets for a group without joining it.

    It uses a consumer. The admin client could commit them too, but librdkafka then ends the process when the connection
    to the coordinator breaks (github.com/confluentinc/librdkafka/issues/4605).
    """

    def __init__(self, settings: ClientSettings, mark: str) -> None:
        """`mark`: the metadata of the offsets, by which the driver recognizes them; see `group_guard`."""
        self._settings, self._mark = settings, mark
        self._consumer: Consumer | None = None
        self._errors = ConnectionErrors(settings.bootstrap_servers)

    def write_group_offsets(self, group: str, topic: str, offsets: dict[int, int]) -> KafkaError | None:
        """Returns the error of the brokers, or what happened at each address when none answers; None when the group
        has the offsets. Every call must name the same group."""
        wanted = [TopicPartition(topic, partition, offset, self._mark) for partition, offset in offsets.items()]
        consumer = self._open(group)
        try:
            answers = consumer.commit(offsets=wanted, asynchronous=False) or []
        except KafkaException as error:
            found: KafkaError = error.args[0]
            consumer.poll(0)
            return KafkaError(found.code(), self._errors.explain(found))
        consumer.poll(0)
        self._errors.clear()
        return next((answer.error for answer in answers if answer.error is not None), None)

    def _open(self, group: str) -> Consumer:
        if self._consumer is None:
            self._consumer = Consumer(self._settings.build_group_writer(group), logger=self._errors.logger)
        return self._consumer


class GroupMirror:
    """Writes the newest position. It skips positions that arrive faster than it can write them."""

    def __init__(self, writer: GroupWriter, config: JobConfig) -> None:
        self._writer, self._group, self._topic = writer, config.consumer_group, config.source.topic
        self._newest: dict[int, int] = {}
        self._written: dict[int, int] | None = {}
        self._wake, self._closing = threading.Event(), threading.Event()
        self._failures = 0
        self._survivor = Survivor("consumer-group")
        self._reported: int | None = None
        """The error code of the last warning."""
        self._thread = threading.Thread(target=self._run, name="consumer-group", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def mirror(self, end_offsets: dict[int, int]) -> None:
        """Takes a committed batch's end offsets, by partition; returns at once."""
        self._newest = end_offsets
        self._wake.set()

    def close(self) -> None:
        """Writes the newest position if it is not written yet. Waits for at most CLOSE_SECONDS."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()  # read first: a position that arrived before closing is written
            if not self._survivor.attempt(self.write_newest):
                self._failures += 1  # so that the next attempt follows soon
            if closing:
                return
            if not self._wake.wait(RETRY_SECONDS if self._failures else REPEAT_SECONDS):
                self._written = None
            self._wake.clear()

    def write_newest(self) -> None:
        newest = self._newest
        if not newest or newest == self._written:
            return
        error = self._writer.write_group_offsets(self._group, self._topic, newest)
        if error is None:
            self._succeed(newest)
        else:
            self._fail(error)

    def _succeed(self, written: dict[int, int]) -> None:
        self._written, self._failures = written, 0
        if self._reported is not None:
            _LOG.info("the consumer group accepts the job's position again", extra={"fields": {"group": self._group}})
        self._reported = None

    def _fail(self, error: KafkaError) -> None:
        self._failures += 1
        if error.code() == self._reported or (error.code() in _TEMPORARY and self._failures < FAILURES_BEFORE_WARNING):
            return
        self._reported = error.code()
        _LOG.warning(build_warning(self._group, error), extra={"fields": {"group": self._group, "error": error.name()}})


def build_warning(group: str, error: KafkaError) -> str:
    if error.code() in _HAS_MEMBERS:
        return (
            f"the consumer group {group} has members of its own and does not accept the job's position, so lag tools show the position of "
            "those members: choose another spec.source.consumerGroup"
        )
    return f"the consumer group {group} (spec.source.consumerGroup) does not accept the job's position: {error.str()}"
