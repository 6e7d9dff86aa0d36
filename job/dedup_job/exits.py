"""From the text of a failure to an exit code, and the termination message that the kubelet picks up.

Spark wraps the cause of a failed task in text more often than in exception objects, so the whole chain is matched as
text. Pure, but for `write_termination_message`.
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
"""The kubelet cuts a termination message here, and a cut JSON document cannot be read."""


@dataclass(frozen=True)
class Cause:
    """One link of an exception chain, outermost first."""

    kind: str
    message: str


_NOT_WRITABLE = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Permission denied|java\.nio\.file\.AccessDeniedException"
)
_OUT_OF_MEMORY = re.compile(r"java\.lang\.OutOfMemoryError")
_PATTERN = re.compile(r"INVALID_DATETIME_PATTERN|DATETIME_PATTERN_RECOGNITION|DATETIME_WEEK_BASED_PATTERN")
_KAFKA_ERRORS = r"org\.apache\.kafka\.common\.errors\."
_FENCED = re.compile(_KAFKA_ERRORS + r"(ProducerFenced|InvalidProducerEpoch|FencedInstanceId)Exception")
"""A newer driver has opened the transactional id, or the broker has given the transaction up for its age."""
_UNAUTHORIZED = re.compile(_KAFKA_ERRORS + r"\w*(Authorization|Authentication)Exception")
_SINK_REFUSED = re.compile(
    _KAFKA_ERRORS + r"(RecordTooLarge|InvalidTxnTimeout|InvalidRecord|InvalidTimestamp|PolicyViolation|UnsupportedVersion"
    r"|UnsupportedForMessageFormat|InvalidRequiredAcks|InvalidTopic|TransactionCoordinatorFenced)Exception"
    r"|transaction timeout is larger than the maximum"  # the client gives this one no class of its own
)
"""What trying again does not heal as long as nobody changes a setting of the topic or the brokers."""
_TOPIC_MISSING = re.compile(r"UnknownTopicOrPartitionException|UNKNOWN_TOPIC_OR_PART|does not host this topic-partition")
_TIMESTAMP = re.compile(r"java\.lang\.ArithmeticException: long overflow")
"""Spark's Kafka source multiplies a record's timestamp by 1000 before the record can be looked at; nothing else of a driver overflows."""
_DATA_LOST = re.compile(r"KAFKA_DATA_LOSS|OffsetOutOfRangeException")
_KAFKA_AWAY = re.compile(
    r"org\.apache\.kafka\.common\.errors\.(Timeout|Disconnect|Network|NotLeaderOrFollower|CoordinatorNotAvailable|BrokerNotAvailable)"
    r"|No resolvable bootstrap urls"
)
"""Only what a broker that comes back would heal: a record that is refused is no outage, and must not be reported as one."""


def build_cause_text(causes: list[Cause]) -> str:
    return "\n".join(f"{cause.kind}: {cause.message}" for cause in causes)


def decide_failure(causes: list[Cause], broker_finding: JobError | None) -> JobError:
    """What a failed query ends with. `broker_finding` is what a look at the brokers, taken after the failure, found missing."""
    text = build_cause_text(causes)
    message = build_summary(causes)
    if _OUT_OF_MEMORY.search(text):
        return JobError(ExitCode.INTERNAL, message, Reason.OUT_OF_MEMORY)
    if _NOT_WRITABLE.search(text):
        return JobError(ExitCode.CHECKPOINT_NOT_WRITABLE, message)
    if _TIMESTAMP.search(text):
        message = (
            "a record has a Kafka timestamp that no calendar holds, mostly microseconds or nanoseconds in place of milliseconds, and Spark "
            "cannot read it: delete the records up to it, and see message.timestamp.after.max.ms in docs/operations.md"
        )
        return JobError(ExitCode.INVALID_RECORD, message)
    if _PATTERN.search(text):
        return JobError(ExitCode.CONFIGURATION, f"spec.eventTime.format: {message}")
    for pattern, code in ((_FENCED, ExitCode.FENCED), (_UNAUTHORIZED, ExitCode.AUTHORIZATION), (_SINK_REFUSED, ExitCode.SINK_REFUSED)):
        if pattern.search(text):
            return JobError(code, message)
    if broker_finding is not None:
        return JobError(broker_finding.code, f"{broker_finding.message}. Seen as: {message}", broker_finding.reason)
    if _TOPIC_MISSING.search(text):
        return JobError(ExitCode.TOPIC_MISSING, message)
    if _DATA_LOST.search(text):
        return JobError(ExitCode.SOURCE_DATA_LOST, message)
    if _KAFKA_AWAY.search(text):
        return JobError(ExitCode.UNAVAILABLE, message)
    return JobError(ExitCode.INTERNAL, message)


def build_summary(causes: list[Cause]) -> str:
    """The innermost cause in a line: the outer ones only say that a query, a job, a stage and a task failed."""
    if not causes:
        return "the query ended without saying why"
    innermost = causes[-1]
    for line in innermost.message.splitlines():
        if line.strip():
            return f"{innermost.kind.rsplit('.', 1)[-1]}: {line.strip()}"
    return innermost.kind


def build_termination_message(reason: Reason, message: str, status: DriverStatus | None = None) -> bytes:
    """JSON of at most 4096 bytes; the message is shortened until it fits. `status`: of a driver that was through."""
    room = 1024  # as long as a condition's message may be
    while True:
        text = message if len(message) <= room else message[: room - 1] + "…"
        document = TerminationMessage(reason=reason, message=text, status=status).model_dump_json(by_alias=True, exclude_none=True).encode()
        if len(document) <= MAX_TERMINATION_BYTES:
            return document
        room = room * 3 // 4


def write_termination_message(path: Path, reason: Reason, message: str, status: DriverStatus | None = None) -> None:
    """Best effort: outside a pod there may be no such file, and the exit code says the same in short."""
    try:
        path.write_bytes(build_termination_message(reason, message, status))
    except OSError:
        return
