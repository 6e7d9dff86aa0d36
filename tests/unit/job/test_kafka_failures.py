"""What becomes of each exception of Kafka's Java client, and what the driver says about it."""

from __future__ import annotations

import pytest

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.errors import JobError
from dedup_job.exits import Cause, decide_failure
from dedup_job.kafka_failures import ERRORS_PACKAGE, FAILURES, Failure, Place, Side, Verdict, find_place
from dedup_job.kafka_messages import JobTopics

OUTER = Cause("org.apache.spark.SparkException", "Job aborted due to stage failure")
TOPICS = JobTopics(source="in", output="out")
UNREACHABLE = JobError(ExitCode.UNAVAILABLE, "no broker of k:9092 answers")
REFUSED = {Side.OUTPUT: ExitCode.SINK_REFUSED, Side.TRANSACTION: ExitCode.SINK_REFUSED}
UNAVAILABLE = {Side.OUTPUT: Reason.SINK_UNAVAILABLE, Side.TRANSACTION: Reason.TRANSACTIONS_UNAVAILABLE}
CODES = {
    Verdict.FENCED: ExitCode.FENCED,
    Verdict.AUTHORIZATION: ExitCode.AUTHORIZATION,
    Verdict.TOPIC_MISSING: ExitCode.TOPIC_MISSING,
    Verdict.DATA_LOST: ExitCode.SOURCE_DATA_LOST,
    Verdict.INTERNAL: ExitCode.INTERNAL,
    Verdict.UNAVAILABLE: ExitCode.UNAVAILABLE,
}


def fail(name: str, said: str = "what Kafka says", thrown_in: str = "") -> JobError:
    return decide_failure([OUTER, Cause(ERRORS_PACKAGE + name, said, thrown_in)], None, TOPICS)


def fail_in_sink(name: str, place: str) -> JobError:
    causes = [Cause("dev.streamdedup.SinkFailure", f"{place}: {ERRORS_PACKAGE}{name}: no"), Cause(ERRORS_PACKAGE + name, "no")]
    return decide_failure([OUTER, *causes], None, TOPICS)


@pytest.mark.parametrize(("name", "failure"), FAILURES.items())
def test_each_exception_has_the_exit_code_of_its_verdict_and_the_reason_of_its_side(name: str, failure: Failure) -> None:
    for side in (Side.OUTPUT, Side.TRANSACTION):
        error, seen = fail_in_sink(name, f"side={side} topic=out"), failure.side if failure.always else side
        if failure.verdict is Verdict.REFUSED:
            assert error.code is REFUSED[seen]
        else:
            assert error.code is CODES[failure.verdict]
        if failure.verdict is Verdict.UNAVAILABLE:
            assert error.reason is UNAVAILABLE[seen]
    assert "what Kafka says" in fail(name).message


@pytest.mark.parametrize("name", [name for name, failure in FAILURES.items() if failure.verdict is Verdict.UNAVAILABLE])
def test_an_outage_at_the_source_is_never_one_of_the_output(name: str) -> None:
    error = fail(name, thrown_in="org.apache.spark.sql.kafka010.KafkaMicroBatchStream")
    assert error.reason is (Reason.TRANSACTIONS_UNAVAILABLE if FAILURES[name].always else Reason.SOURCE_UNAVAILABLE)


@pytest.mark.parametrize("name", [name for name, failure in FAILURES.items() if failure.verdict is Verdict.REFUSED])
def test_a_refusal_names_topic_record_size_and_remedy(name: str) -> None:
    message = fail_in_sink(name, "side=output topic=dead partition=3 offset=17 bytes=2000000").message
    assert (
        "Remedy: " in message
        and "in the source, the record at offset 17 of partition 3 of the topic in has 2000000 bytes" in message.lower()
    )
    assert FAILURES[name].always or "the topic dead" in message


@pytest.mark.parametrize(
    ("name", "place", "texts"),
    [
        ("RecordTooLargeException", "side=output topic=out", ["max.message.bytes", "the topic out"]),
        ("InvalidTxnTimeoutException", "side=transaction topic=", ["transaction.max.timeout.ms", "900000"]),
        ("NotEnoughReplicasException", "side=output topic=out", ["min.insync.replicas", "the topic out"]),
        ("TimeoutException", "side=output topic=out", ["min.insync.replicas", "the topic out", "leader"]),
        ("TimeoutException", "side=transaction topic=", ["transaction.state.log.replication.factor", "__transaction_state"]),
        ("TransactionAbortableException", "side=output topic=out", ["asked the driver to abort", "repeats the batch"]),
        ("OutOfOrderSequenceException", "side=output topic=out", ["producer.id.expiration.ms", "retention.ms"]),
    ],
)
def test_a_message_names_setting_and_topic(name: str, place: str, texts: list[str]) -> None:
    message = fail_in_sink(name, place).message
    assert all(text in message for text in texts), message


@pytest.mark.parametrize(
    ("said", "thrown_in", "reason"),
    [
        ("Expiring 3 record(s) for out-0:120000 ms has passed since batch creation", "", Reason.SINK_UNAVAILABLE),
        ("Topic out not present in metadata after 60000 ms.", "", Reason.SINK_UNAVAILABLE),
        ("Timed out", "org.apache.spark.sql.kafka010.KafkaRowWriter", Reason.SINK_UNAVAILABLE),
        ("Timed out", "org.apache.spark.sql.kafka010.KafkaWriter$", Reason.SINK_UNAVAILABLE),
        ("Timed out", "org.apache.spark.sql.kafka010.consumer.InternalKafkaConsumer", Reason.SOURCE_UNAVAILABLE),
        ("Timed out", "org.apache.spark.sql.kafka010.KafkaOffsetReaderAdmin", Reason.SOURCE_UNAVAILABLE),
        ("Timeout of 60000ms expired before the position for partition in-0 could be determined", "", Reason.SOURCE_UNAVAILABLE),
        ("Timed out", "", Reason.SOURCE_UNAVAILABLE),
    ],
)
def test_spark_s_own_clients_are_told_apart(said: str, thrown_in: str, reason: Reason) -> None:
    assert fail("TimeoutException", said, thrown_in).reason is reason


def test_the_innermost_exception_with_a_stack_trace_decides() -> None:
    """With AtLeastOnce one Spark job reads the source and writes the output."""
    frames = ["org.apache.spark.sql.kafka010.KafkaWriter$", "org.apache.spark.sql.kafka010.consumer.KafkaDataConsumer", ""]
    assert find_place("", frames) == Place(Side.SOURCE)


def test_a_record_that_spark_cannot_fetch_is_an_outage_of_the_source() -> None:
    cause = Cause("java.util.concurrent.TimeoutException", "Cannot fetch record for offset 7 in 120000 milliseconds")
    assert decide_failure([OUTER, cause], None, TOPICS).reason is Reason.SOURCE_UNAVAILABLE


def test_a_failure_that_stands_only_in_a_text_has_its_place_too() -> None:
    text = "Lost task 0.0: dev.streamdedup.SinkFailure: side=output topic=out partition=0 offset=5 bytes=9: "
    error = decide_failure([Cause("SparkException", f"{text}{ERRORS_PACKAGE}RecordTooLargeException: no")], None, TOPICS)
    assert error.code is ExitCode.SINK_REFUSED and "offset 5 of partition 0" in error.message


def test_a_record_that_the_topic_does_not_accept_is_refused() -> None:
    """The client has this exception outside of its package of exceptions."""
    cause = Cause("org.apache.kafka.common.InvalidRecordException", "One or more records have been rejected")
    error = decide_failure([OUTER, cause], None, TOPICS)
    assert error.code is ExitCode.SINK_REFUSED and "cleanup.policy compact" in error.message


def test_brokers_that_do_not_answer_explain_an_outage_of_the_output() -> None:
    cause = Cause("dev.streamdedup.SinkFailure", f"side=output topic=out: {ERRORS_PACKAGE}TimeoutException: no")
    assert decide_failure([cause], UNREACHABLE, TOPICS).reason is Reason.SOURCE_UNAVAILABLE


def test_a_listener_of_another_protocol_is_no_lack_of_memory() -> None:
    frames = "java.nio.HeapByteBuffer\norg.apache.kafka.common.memory.MemoryPool$1\norg.apache.kafka.common.network.NetworkReceive"
    error = decide_failure([OUTER, Cause("java.lang.OutOfMemoryError", "Java heap space", frames)], None, TOPICS)
    assert error.reason is Reason.SOURCE_UNAVAILABLE and "TLS listener" in error.message and "spec.source.bootstrapServers" in error.message
