"""Finds the exit code for a failed query, and writes the termination message that kubelet reads.

Spark often puts the cause of a failed task into an exception's text and not into its chain of causes, so this module
searches the text of the whole chain. Only `write_termination_message` does I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dedup_api.driver_status import DriverStatus, TerminationMessage
from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.errors import JobError

MAX_TERMINATION_BYTES = 4096
"""kubelet cuts off a longer termination message, and a JSON document that is cut off cannot be parsed."""


@dataclass(frozen=True)
class Cause:
    """One exception of a chain. Lists of them start with the outermost exception."""

    kind: str
    """The name of its class."""
    message: str


_NOT_WRITABLE = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Permission denied|java\.nio\.file\.AccessDeniedException"
)
_OUT_OF_MEMORY = re.compile(r"java\.lang\.OutOfMemoryError")
_TIME_PATTERN = re.compile(r"INVALID_DATETIME_PATTERN|DATETIME_PATTERN_RECOGNITION|DATETIME_WEEK_BASED_PATTERN")
_KAFKA_ERRORS = r"org\.apache\.kafka\.common\.errors\."
_FENCED = re.compile(_KAFKA_ERRORS + r"(ProducerFenced|InvalidProducerEpoch|FencedInstanceId)Exception")
"""A newer driver has opened the transactional id, or the broker has aborted the transaction because of its timeout."""
_UNAUTHORIZED = re.compile(_KAFKA_ERRORS + r"\w*(Authorization|Authentication)Exception")
_SINK_REFUSED = re.compile(
    _KAFKA_ERRORS + r"(RecordTooLarge|InvalidTxnTimeout|InvalidRecord|InvalidTimestamp|PolicyViolation|UnsupportedVersion"
    r"|UnsupportedForMessageFormat|InvalidRequiredAcks|InvalidTopic|TransactionCoordinatorFenced)Exception"
    r"|transaction timeout is larger than the maximum"  # the client throws a plain KafkaException for this one
)
"""A new attempt fails in the same way until somebody changes a setting of the topic or of the brokers."""
_TOPIC_MISSING = re.compile(r"UnknownTopicOrPartitionException|UNKNOWN_TOPIC_OR_PART|does not host this topic-partition")
_TIMESTAMP_OVERFLOW = re.compile(r"java\.lang\.ArithmeticException: long overflow")
"""Spark's Kafka source multiplies a record's timestamp by 1000 before the driver can check it. Nothing else in a driver
overflows."""
_DATA_LOST = re.compile(r"KAFKA_DATA_LOSS|OffsetOutOfRangeException")
_KAFKA_UNAVAILABLE = re.compile(
    r"org\.apache\.kafka\.common\.errors\.(Timeout|Disconnect|Network|NotLeaderOrFollower|CoordinatorNotAvailable|BrokerNotAvailable)"
    r"|No resolvable bootstrap urls"
)
"""Only failures that end when the brokers answer again. A record that the broker rejects is not an outage, and must not
be reported as one."""


def decide_failure(causes: list[Cause], broker_problem: JobError | None) -> JobError:
    """The error with which the driver ends after its query has failed.

    `broker_problem`: what the driver found missing when it asked the brokers after the failure; None when nothing was.
    """
    text = "\n".join(f"{cause.kind}: {cause.message}" for cause in causes)
    message = build_summary(causes)
    if _OUT_OF_MEMORY.search(text):
        return JobError(ExitCode.INTERNAL, message, Reason.OUT_OF_MEMORY)
    if _NOT_WRITABLE.search(text):
        return JobError(ExitCode.CHECKPOINT_NOT_WRITABLE, message)
    if _TIMESTAMP_OVERFLOW.search(text):
        message = (
            "Spark cannot read a record because its Kafka timestamp is too large. Usually its producer wrote microseconds or "
            "nanoseconds instead of milliseconds. Delete the topic's records up to that one, and see "
            "message.timestamp.after.max.ms in docs/operations.md"
        )
        return JobError(ExitCode.INVALID_RECORD, message)
    if _TIME_PATTERN.search(text):
        return JobError(ExitCode.CONFIGURATION, f"spec.eventTime.format: {message}")
    for pattern, code in ((_FENCED, ExitCode.FENCED), (_UNAUTHORIZED, ExitCode.AUTHORIZATION), (_SINK_REFUSED, ExitCode.SINK_REFUSED)):
        if pattern.search(text):
            return JobError(code, message)
    if broker_problem is not None:
        return JobError(broker_problem.code, f"{broker_problem.message}. The query failed with: {message}", broker_problem.reason)
    if _TOPIC_MISSING.search(text):
        return JobError(ExitCode.TOPIC_MISSING, message)
    if _DATA_LOST.search(text):
        return JobError(ExitCode.SOURCE_DATA_LOST, message)
    if _KAFKA_UNAVAILABLE.search(text):
        return JobError(ExitCode.UNAVAILABLE, message)
    return JobError(ExitCode.INTERNAL, message)


def build_summary(causes: list[Cause]) -> str:
    """One line about the innermost cause. The outer ones only say that a query, a job, a stage and a task have
    failed."""
    if not causes:
        return "the query ended without an error message"
    innermost = causes[-1]
    for line in innermost.message.splitlines():
        if line.strip():
            return f"{innermost.kind.rsplit('.', 1)[-1]}: {line.strip()}"
    return innermost.kind


@dataclass(frozen=True)
class LastWords:
    """What a driver says at its end, beside reason and message."""

    status: DriverStatus | None = None
    """Only of a driver that has read everything (`spec.trigger.availableNow`)."""
    checkpoint_has_state: bool | None = None
    """Whether keys may be stored in the checkpoint. None when the driver has not looked."""
    attempt: int | None = None


def build_termination_message(reason: Reason, message: str, last_words: LastWords | None = None) -> bytes:
    """JSON of at most MAX_TERMINATION_BYTES. The message is shortened until it fits."""
    more, max_length = last_words or LastWords(), 1024  # as long as a condition's message may be
    while True:
        text = message if len(message) <= max_length else message[: max_length - 1] + "…"
        said = TerminationMessage(
            reason=reason, message=text, status=more.status, checkpoint_has_state=more.checkpoint_has_state, attempt=more.attempt
        )
        document = said.model_dump_json(by_alias=True, exclude_none=True).encode()
        if len(document) <= MAX_TERMINATION_BYTES:
            return document
        max_length = max_length * 3 // 4


def write_termination_message(path: Path, reason: Reason, message: str, last_words: LastWords | None = None) -> None:
    """Ignores a file that cannot be written: outside of a pod it may not exist, and the exit code says the same."""
    try:
        path.write_bytes(build_termination_message(reason, message, last_words))
    except OSError:
        return
