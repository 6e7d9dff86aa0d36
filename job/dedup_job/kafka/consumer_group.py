"""The job's position as committed offsets of a consumer group, so that lag tools see it. Nobody reads them here.

Spark's Kafka source commits nothing. The offsets are written for the group from outside, without ever joining it, by a
thread of their own: a group that refuses them, or a coordinator that is away, must neither delay nor stop a batch.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from dedup_api.job_config import JobConfig
from dedup_job.kafka.client_settings import ClientSettings, get_silent_logger

REPEAT = 3600.0
"""Seconds after which an unchanged position is written again: brokers forget a group without members after offsets.retention.minutes,
a week by default."""
RETRY = 5.0
"""Seconds after a failure, unless a batch commits before."""
CLOSE = 5.0
"""Seconds for the last write when the driver ends; the next start writes the position too."""
PATIENT_FAILURES = 3
"""Failures in a row before it is said: a coordinator that has just been found mostly needs one more request."""

_MEMBERS = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.NON_EMPTY_GROUP}
_COMING = {
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
    """Commits offsets for a group without joining it. By a consumer, not by the admin client: librdkafka's requests of that kind end the
    process where the connection to the coordinator breaks (github.com/confluentinc/librdkafka/issues/4605)."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._consumer: Consumer | None = None

    def write_group_offsets(self, group: str, topic: str, offsets: dict[int, int]) -> KafkaError | None:
        """What the brokers answered, None when they took them. Always for the same group."""
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        try:
            answers = self._open(group).commit(offsets=wanted, asynchronous=False) or []
        except KafkaException as error:
            found: KafkaError = error.args[0]
            return found
        return next((answer.error for answer in answers if answer.error is not None), None)

    def _open(self, group: str) -> Consumer:
        if self._consumer is None:
            self._consumer = Consumer(self._settings.build_group_writer(group), logger=get_silent_logger())
        return self._consumer


class GroupMirror:
    """Keeps the newest position and writes it; positions that come faster than they can be written are passed over."""

    def __init__(self, writer: GroupWriter, config: JobConfig) -> None:
        self._writer, self._group, self._topic = writer, config.consumer_group, config.source.topic
        self._newest: dict[int, int] = {}
        self._written: dict[int, int] | None = {}
        self._wake, self._closing = threading.Event(), threading.Event()
        self._failures = 0
        self._said: int | None = None
        self._thread = threading.Thread(target=self._run, name="consumer-group", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def mirror(self, end_offsets: dict[int, int]) -> None:
        """Takes a committed batch's end offsets, by partition; returns at once."""
        self._newest = end_offsets
        self._wake.set()

    def close(self) -> None:
        """Writes what is left, for at most `CLOSE` seconds."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE)

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()  # asked before the position is taken: what came before closing is still written
            self.write_newest()
            if closing:
                return
            if not self._wake.wait(RETRY if self._failures else REPEAT):
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
        if self._said is not None:
            _LOG.info("the consumer group takes the job's position again", extra={"fields": {"group": self._group}})
        self._said = None

    def _fail(self, error: KafkaError) -> None:
        self._failures += 1
        if error.code() == self._said or (error.code() in _COMING and self._failures < PATIENT_FAILURES):
            return
        self._said = error.code()
        _LOG.warning(build_warning(self._group, error), extra={"fields": {"group": self._group, "error": error.name()}})


def build_warning(group: str, error: KafkaError) -> str:
    if error.code() in _MEMBERS:
        return (
            f"the consumer group {group} has members of its own and does not take the job's position: lag tools show theirs. "
            "Choose another spec.source.consumerGroup"
        )
    return f"the consumer group {group} (spec.source.consumerGroup) does not take the job's position: {error.str()}"
