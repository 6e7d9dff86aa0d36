"""Looks at the brokers before the JVM is started, and waits there for what is missing.

Waiting in the process costs a tenth of the memory of a JVM that fails, and `/status` can say what is waited for. Brokers
are asked through the admin interface only, which never creates a topic.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from dedup_api.driver_status import Blocked, Phase
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.spec import OnDataLoss
from dedup_job.errors import JobError
from dedup_job.report.status import State

REQUEST_TIMEOUT = 5.0
"""Seconds for one look: a healthy broker answers in milliseconds."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between looks: doubled each time, so that a topic made by the same `kubectl apply` is found at once."""

PATIENCE = 60.0
"""Seconds for which a running driver asks again: longer than a broker's restart, shorter than anybody waits for a log line."""

Answer = TypeVar("Answer")
_LOG = logging.getLogger("dedup_job.kafka.brokers")
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id of zeros, which brokers send that know none."""
_UNAUTHORIZED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
_MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION}


class End(Enum):
    """Of a partition."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True)
class TopicInfo:
    id: str
    """Given by the brokers when the topic is made, so that one made again under the same name differs. Empty where they know none."""
    partitions: list[int]


def get_silent_logger() -> logging.Logger:
    """For librdkafka, which otherwise writes lines of its own that are no JSON; what matters of them comes as an error too."""
    silent = logging.getLogger("dedup_job.librdkafka")
    silent.propagate = False
    silent.handlers = [logging.NullHandler()]
    return silent


class Brokers:
    """The source's brokers, asked one question at a time."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers
        self._last_error = ""
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            "client.id": "dedup-driver-probe",
            "error_cb": self._remember,
            "reconnect.backoff.max.ms": 2000,
            "socket.connection.setup.timeout.ms": 5000,
            "log.connection.close": False,
        }
        self._admin = AdminClient(settings, logger=get_silent_logger())

    def _remember(self, error: KafkaError) -> None:
        self._last_error = error.str()

    def fetch_topic(self, topic: str) -> TopicInfo | None:
        """None if there is no such topic; JobError when no broker answers."""
        try:
            future = self._admin.describe_topics(TopicCollection([topic]), request_timeout=REQUEST_TIMEOUT)[topic]
            found = future.result(REQUEST_TIMEOUT + 1)
        except KafkaException as error:
            if error.args[0].code() in _MISSING:
                return None
            raise self._build_refusal(error.args[0]) from error
        except TimeoutError as error:
            raise self._build_unavailable("no answer") from error
        self._last_error = ""
        known = str(found.topic_id)
        return TopicInfo("" if known == _NO_ID else known, [partition.id for partition in found.partitions])

    def fetch_offsets(self, topic: str, partitions: list[int], end: End) -> dict[int, int]:
        """By partition; the latest offset is that of the last stable record, as a read-committed consumer sees it."""
        spec = OffsetSpec.latest() if end is End.LATEST else OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(topic, partition): spec for partition in partitions}
        try:
            futures = self._admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_TIMEOUT)
            return {key.partition: future.result(REQUEST_TIMEOUT + 1).offset for key, future in futures.items()}
        except KafkaException as error:
            raise self._build_refusal(error.args[0]) from error
        except TimeoutError as error:
            raise self._build_unavailable("no answer") from error

    def _build_refusal(self, error: KafkaError) -> JobError:
        if error.code() in _UNAUTHORIZED:
            return JobError(ExitCode.AUTHORIZATION, f"the brokers of {self._servers} refuse the driver: {error.str()}")
        return self._build_unavailable(error.str())

    def _build_unavailable(self, detail: str) -> JobError:
        cause = self._last_error or detail
        return JobError(ExitCode.UNAVAILABLE, f"no broker of {self._servers} answers: {cause}")


class TopicLookup(Protocol):
    def fetch_topic(self, topic: str) -> TopicInfo | None: ...


class OffsetLookup(TopicLookup, Protocol):
    def fetch_offsets(self, topic: str, partitions: list[int], end: End) -> dict[int, int]: ...


def fetch_finding(brokers: TopicLookup, config: JobConfig, topic_id: str = "") -> JobError | None:
    """What is missing outside, the brokers first; None when a query can run. `topic_id` is that of the topic that is read, where known."""
    try:
        source = fetch_source(brokers, config)
        if is_replaced(topic_id, source):
            return build_replaced(config)
        sink = config.sink.kafka
        if sink is not None and brokers.fetch_topic(sink.topic) is None:
            return JobError(ExitCode.TOPIC_MISSING, f"the topic {sink.topic} does not exist", Reason.SINK_TOPIC_MISSING)
        dead = config.dead_letter_topic
        if dead is not None and brokers.fetch_topic(dead) is None:
            return JobError(ExitCode.TOPIC_MISSING, f"the topic {dead} does not exist", Reason.DEAD_LETTER_TOPIC_MISSING)
    except JobError as error:
        return error
    return None


def fetch_source(brokers: TopicLookup, config: JobConfig) -> TopicInfo:
    """The topic that is read; JobError where it does not exist."""
    found = brokers.fetch_topic(config.source.topic)
    if found is None:
        raise JobError(ExitCode.TOPIC_MISSING, f"the topic {config.source.topic} does not exist")
    return found


def is_replaced(topic_id: str, found: TopicInfo) -> bool:
    """Whether the topic of this id was deleted and made again. Unknown ids say nothing."""
    return bool(topic_id and found.id) and topic_id != found.id


def build_replaced(config: JobConfig) -> JobError:
    """What ends the driver. With Continue it is not for good: the next start moves to the new topic, see `moved_topic`."""
    message = f"the topic {config.source.topic} was deleted and made again"
    if config.source.on_data_loss is OnDataLoss.CONTINUE:
        message = f"{message}: the next start of the driver goes on at the beginning of the new one"
        return JobError(ExitCode.TOPIC_MISSING, message, Reason.SOURCE_TOPIC_MISSING)
    message = f"{message}, and the offsets of the checkpoint belong to the old one"
    return JobError(ExitCode.TOPIC_MISSING, message, Reason.SOURCE_TOPIC_REPLACED)


def ask_patiently(
    ask: Callable[[], Answer], wait: Callable[[float], object] = time.sleep, clock: Callable[[], float] = time.monotonic
) -> Answer:
    """The answer, asked for again while no broker gives one, for PATIENCE seconds; the last JobError then. A stop does not end it: the
    batch that asks is to end too. `wait(seconds)` pauses."""
    deadline = clock() + PATIENCE
    for pause in build_pauses():
        try:
            return ask()
        except JobError as error:
            if error.code is not ExitCode.UNAVAILABLE or clock() >= deadline:
                raise
        wait(pause)
    raise AssertionError("pauses never end")


def build_pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(LONGEST_PAUSE, pause * 2)


def wait_for_kafka(brokers: TopicLookup, config: JobConfig, state: State, wait: Callable[[float], bool]) -> bool:
    """Until nothing is missing: True. `wait(seconds)` says whether a stop was requested meanwhile: False then."""
    blocked: Blocked | None = None
    for pause in build_pauses():
        finding = fetch_finding(brokers, config)
        found = None if finding is None else Blocked(reason=finding.reason, message=finding.message)
        if found is None:
            state.update(phase=Phase.STARTING, blocked_by=None, starting_since=time.time())
            if blocked is not None:
                _LOG.info("what was missing is there", extra={"fields": {"reason": blocked.reason}})
            return True
        state.update(phase=Phase.WAITING, blocked_by=found)
        if blocked is None or blocked.reason != found.reason:
            _LOG.warning(found.message, extra={"fields": {"reason": found.reason}})
        blocked = found
        if wait(pause):
            return False
    return False
