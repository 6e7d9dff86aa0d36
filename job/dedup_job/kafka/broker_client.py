"""Asks the brokers about topics and offsets, and creates the progress topic.

No other module uses Kafka's admin interface.

The admin interface never creates a topic as a side effect of a question. Every failure is a JobError with the exit code
that fits it; this module neither waits nor retries.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.connection_errors import ConnectionErrors

REQUEST_SECONDS = 5.0
"""For one question: a healthy broker answers in milliseconds."""
ADMIN_SECONDS = 30.0
"""For creating a topic, and for its settings: the brokers pass the request on to their controller."""
DEFAULT_REPLICATION = -1
"""The brokers choose the replication factor."""

_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id of zeros, which brokers send that know no ids of topics."""
_UNAUTHORIZED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
_MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION}


class OffsetEnd(Enum):
    """The ends of a partition. LATEST and HIGH_WATERMARK differ while a transaction is open."""

    EARLIEST = "earliest"
    LATEST = "latest"
    """After the last stable record, up to which a read-committed consumer reads."""
    HIGH_WATERMARK = "high watermark"
    """After the last record."""


@dataclass(frozen=True)
class TopicInfo:
    id: str
    """The brokers choose it when the topic is created, so a recreated topic has another id. Empty where they know
    none."""
    partitions: list[int]


class TopicLookup(Protocol):
    def fetch_topic(self, topic: str) -> TopicInfo | None: ...


class ClusterLookup(TopicLookup, Protocol):
    def fetch_cluster_id(self) -> str: ...


class OffsetLookup(TopicLookup, Protocol):
    def fetch_offsets(self, topic: str, partitions: list[int], end: OffsetEnd) -> dict[int, int]: ...


class BrokerClient:
    """A connection that lasts as long as the driver. It sends one question at a time."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings, self._servers = settings, settings.bootstrap_servers
        self._errors = ConnectionErrors(settings.bootstrap_servers)
        self._admin = AdminClient(settings.build_broker_client(), logger=self._errors.logger)

    def fetch_topic(self, topic: str) -> TopicInfo | None:
        """None if the topic does not exist; JobError when no broker answers."""
        try:
            future = self._admin.describe_topics(TopicCollection([topic]), request_timeout=REQUEST_SECONDS)[topic]
            found = future.result(REQUEST_SECONDS + 1)
        except KafkaException as error:
            if error.args[0].code() in _MISSING:
                return None
            raise self._build_refusal(error.args[0]) from error
        except TimeoutError as error:
            raise self._build_silence() from error
        self._admin.poll(0)
        self._errors.clear()
        known = str(found.topic_id)
        return TopicInfo("" if known == _NO_ID else known, [partition.id for partition in found.partitions])

    def fetch_cluster_id(self) -> str:
        """Empty where the brokers do not tell it; JobError when no broker answers."""
        try:
            found = self._admin.describe_cluster(request_timeout=REQUEST_SECONDS).result(REQUEST_SECONDS + 1)
        except KafkaException as error:
            raise self._build_refusal(error.args[0]) from error
        except TimeoutError as error:
            raise self._build_silence() from error
        return str(found.cluster_id or "")

    def fetch_offsets(self, topic: str, partitions: list[int], end: OffsetEnd) -> dict[int, int]:
        """By partition. JobError when no broker answers, or the brokers refuse."""
        spec = OffsetSpec.earliest() if end is OffsetEnd.EARLIEST else OffsetSpec.latest()  # type: ignore[no-untyped-call]
        isolation = IsolationLevel.READ_UNCOMMITTED if end is OffsetEnd.HIGH_WATERMARK else IsolationLevel.READ_COMMITTED
        wanted = {TopicPartition(topic, partition): spec for partition in partitions}
        try:
            futures = self._admin.list_offsets(wanted, isolation_level=isolation, request_timeout=REQUEST_SECONDS)
            return {key.partition: future.result(REQUEST_SECONDS + 1).offset for key, future in futures.items()}
        except KafkaException as error:
            raise self._build_refusal(error.args[0]) from error
        except TimeoutError as error:
            raise self._build_silence() from error

    def fetch_group_members(self, group: str) -> int:
        """How many members the consumer group has; 0 when it does not exist."""
        try:
            future = self._admin.describe_consumer_groups([group], request_timeout=REQUEST_SECONDS)[group]
            return len(future.result(REQUEST_SECONDS + 1).members)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            raise self._build_refusal(error.args[0]) from error
        except TimeoutError as error:
            raise self._build_silence() from error

    def fetch_group_marks(self, group: str, topic: str, partitions: list[int]) -> dict[int, str]:
        """The metadata of the group's offsets on the topic, by partition; empty for offsets without metadata."""
        consumer = Consumer(self._settings.build_group_writer(group), logger=self._errors.logger)
        try:
            found = consumer.committed([TopicPartition(topic, partition) for partition in partitions], timeout=REQUEST_SECONDS)
        except KafkaException as error:
            consumer.poll(0)
            raise self._build_refusal(error.args[0]) from error
        finally:
            consumer.close()
        refused = next((entry.error for entry in found if entry.error is not None), None)
        if refused is not None:
            raise self._build_refusal(refused)
        return {entry.partition: entry.metadata or "" for entry in found if entry.offset >= 0}

    def _build_refusal(self, error: KafkaError) -> JobError:
        if error.code() in _UNAUTHORIZED:
            return JobError(ExitCode.AUTHORIZATION, f"the brokers of {self._servers} refuse the driver: {error.str()}")
        self._admin.poll(0)
        return JobError(ExitCode.UNAVAILABLE, f"no broker of {self._servers} answers: {self._errors.explain(error)}")

    def _build_silence(self) -> JobError:
        return self._build_refusal(KafkaError(KafkaError._TIMED_OUT))


def create_topic(settings: ClientSettings, topic: str, partitions: int, topic_settings: dict[str, str]) -> None:
    """KafkaException when the brokers refuse or none answers."""
    wanted = NewTopic(topic, partitions, DEFAULT_REPLICATION, config=topic_settings)
    _ask_once(settings, lambda admin: admin.create_topics([wanted], request_timeout=ADMIN_SECONDS)[topic])


def fetch_topic_settings(settings: ClientSettings, topic: str) -> dict[str, str]:
    """By name. KafkaException when the brokers refuse or none answers."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = _ask_once(settings, lambda admin: admin.describe_configs([resource], request_timeout=ADMIN_SECONDS)[resource])
    return {name: str(entry.value) for name, entry in found.items()}


def _ask_once(settings: ClientSettings, ask: Callable[[AdminClient], Future[Any]]) -> Any:
    """KafkaException when the brokers refuse or none answers; then its text says what happened at each address."""
    errors = ConnectionErrors(settings.bootstrap_servers)
    admin = AdminClient(settings.build_topic_admin(), logger=errors.logger)  # a request ends when its client is collected
    try:
        return ask(admin).result(ADMIN_SECONDS + 1)
    except KafkaException as error:
        found: KafkaError = error.args[0]
    except TimeoutError:
        found = KafkaError(KafkaError._TIMED_OUT)
    admin.poll(0)
    raise KafkaException(KafkaError(found.code(), errors.explain(found)))
