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
from dedup_job.kafka_failures import FAILURES, Place, Side, Verdict, decide_side, find_classes, find_place
from dedup_job.kafka_messages import NO_TOPICS, TLS_AS_SIZE, JobTopics, build_refused, build_unavailable

MAX_TERMINATION_BYTES = 4096
"""kubelet cuts off a longer termination message, and a JSON document that is cut off cannot be parsed."""


@dataclass(frozen=True)
class Cause:
    """One exception of a chain. Lists of them start with the outermost exception."""

    kind: str
    """The name of its class."""
    message: str
    thrown_in: str = ""
    """The classes of its stack trace, one a line. Most of Kafka's exceptions have none."""


_NOT_WRITABLE = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Permission denied|java\.nio\.file\.AccessDeniedException"
)
_OUT_OF_MEMORY = re.compile(r"java\.lang\.OutOfMemoryError")
_TIME_PATTERN = re.compile(r"INVALID_DATETIME_PATTERN|DATETIME_PATTERN_RECOGNITION|DATETIME_WEEK_BASED_PATTERN")
_TIMESTAMP_OVERFLOW = re.compile(r"java\.lang\.ArithmeticException: long overflow")
"""Spark's Kafka source multiplies a record's timestamp by 1000 before the driver can check it. Nothing else in a driver
overflows."""
_TLS_AS_SIZE = re.compile(r"org\.apache\.kafka\.common\.(network\.NetworkReceive|memory\.MemoryPool)")
"""In the stack of an OutOfMemoryError: a Kafka client has read the first bytes of another protocol as the size of a message."""


def decide_failure(causes: list[Cause], broker_problem: JobError | None, topics: JobTopics = NO_TOPICS) -> JobError:
    """The error with which the driver ends after its query has failed.

    `broker_problem`: what the driver found missing when it asked the brokers after the failure; None when nothing was.
    """
    text = "\n".join(f"{cause.kind}: {cause.message}" for cause in causes)
    return (
        _find_local_failure(text, causes)
        or _find_kafka_failure(text, causes, broker_problem, topics)
        or broker_problem
        or JobError(ExitCode.INTERNAL, build_summary(causes))
    )


def _find_local_failure(text: str, causes: list[Cause]) -> JobError | None:
    """A failure that is none of Kafka's, and that explains every failure of Kafka in the same chain."""
    message = build_summary(causes)
    if _OUT_OF_MEMORY.search(text):
        if _TLS_AS_SIZE.search("\n".join([text, *(cause.thrown_in for cause in causes)])):
            return JobError(ExitCode.UNAVAILABLE, f"{TLS_AS_SIZE}. Java says: {message}")
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
    return None


_BEFORE_BROKER_PROBLEMS = {Verdict.FENCED, Verdict.AUTHORIZATION, Verdict.REFUSED}
"""Only a broker that answers says these."""


def _find_kafka_failure(text: str, causes: list[Cause], broker_problem: JobError | None, topics: JobTopics) -> JobError | None:
    found, summary = find_classes(text), build_summary(causes)
    verdict = FAILURES[found[0]].verdict if found else Verdict.INTERNAL
    if broker_problem is not None and verdict not in _BEFORE_BROKER_PROBLEMS:
        return JobError(broker_problem.code, f"{broker_problem.message}. The query failed with: {summary}", broker_problem.reason)
    if verdict is Verdict.INTERNAL:
        return None
    kinds = [name for name in found if FAILURES[name].verdict is verdict]
    kind = next((name for name in kinds if name != "TimeoutException"), kinds[0])
    place = find_place(text, [cause.thrown_in for cause in causes])
    return _build_kafka_error(kind, place, topics, summary)


def _build_kafka_error(kind: str, place: Place, topics: JobTopics, summary: str) -> JobError:
    """`kind`: the class of the exception, a key of FAILURES."""
    failure = FAILURES[kind]
    side = decide_side(failure, place)
    if failure.verdict is Verdict.REFUSED:
        if side in {Side.SOURCE, Side.ADMIN}:
            return JobError(ExitCode.INTERNAL, f"the brokers refuse a request about {topics.describe_source()}: {summary}")
        return JobError(ExitCode.SINK_REFUSED, build_refused(kind, place, topics, summary))
    if failure.verdict is Verdict.UNAVAILABLE:
        reason = {Side.OUTPUT: Reason.SINK_UNAVAILABLE, Side.TRANSACTION: Reason.TRANSACTIONS_UNAVAILABLE}.get(side)
        return JobError(ExitCode.UNAVAILABLE, build_unavailable(kind, side, place, topics, summary), reason)
    if failure.verdict is Verdict.TOPIC_MISSING and side is Side.OUTPUT:
        return JobError(ExitCode.TOPIC_MISSING, f"{topics.describe_output(place)} is missing: {summary}", Reason.SINK_TOPIC_MISSING)
    return JobError(_CODES[failure.verdict], summary)


_CODES = {
    Verdict.FENCED: ExitCode.FENCED,
    Verdict.AUTHORIZATION: ExitCode.AUTHORIZATION,
    Verdict.TOPIC_MISSING: ExitCode.TOPIC_MISSING,
    Verdict.DATA_LOST: ExitCode.SOURCE_DATA_LOST,
}


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
