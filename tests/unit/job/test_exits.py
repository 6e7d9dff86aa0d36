"""Which exit code a failure has, and that a termination message fits into its file."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.driver_status import TerminationMessage
from dedup_api.exits import EXITS, ExitCode
from dedup_api.reasons import Reason
from dedup_job.errors import JobError
from dedup_job.exits import MAX_TERMINATION_BYTES, Cause, build_termination_message, decide_failure, write_termination_message
from dedup_job.main import Arguments, report_failure
from dedup_job.report.status import State

OUTER = Cause("org.apache.spark.sql.streaming.StreamingQueryException", "Job aborted due to stage failure")
BROKERS_UNAVAILABLE = JobError(ExitCode.UNAVAILABLE, "no broker of k:9092 answers")
SINK_TOPIC_MISSING = JobError(ExitCode.TOPIC_MISSING, "the topic out does not exist", Reason.SINK_TOPIC_MISSING)


@pytest.mark.parametrize(
    ("cause", "problem", "code", "reason"),
    [
        (Cause("java.io.IOException", "No space left on device"), None, ExitCode.CHECKPOINT_NOT_WRITABLE, None),
        (Cause("java.io.FileNotFoundException", "/checkpoint/x (Read-only file system)"), None, ExitCode.CHECKPOINT_NOT_WRITABLE, None),
        (Cause("java.io.FileNotFoundException", "/checkpoint/x (Permission denied)"), None, ExitCode.CHECKPOINT_NOT_WRITABLE, None),
        (Cause("java.nio.file.AccessDeniedException", "/checkpoint"), None, ExitCode.CHECKPOINT_NOT_WRITABLE, None),
        (Cause("org.apache.kafka.common.errors.TimeoutException", "Timed out"), None, ExitCode.UNAVAILABLE, None),
        (Cause("org.apache.kafka.common.errors.TimeoutException", "Timed out"), BROKERS_UNAVAILABLE, ExitCode.UNAVAILABLE, None),
        (Cause("org.apache.kafka.common.errors.RecordTooLargeException", "too large"), None, ExitCode.SINK_REFUSED, None),
        (Cause("org.apache.kafka.common.errors.InvalidTxnTimeoutException", "too long"), BROKERS_UNAVAILABLE, ExitCode.SINK_REFUSED, None),
        (
            Cause(
                "org.apache.kafka.common.KafkaException", "The transaction timeout is larger than the maximum value allowed by the broker"
            ),
            None,
            ExitCode.SINK_REFUSED,
            None,
        ),
        (Cause("org.apache.kafka.common.errors.ProducerFencedException", "newer"), BROKERS_UNAVAILABLE, ExitCode.FENCED, None),
        (Cause("org.apache.kafka.common.errors.InvalidProducerEpochException", "old"), None, ExitCode.FENCED, None),
        (Cause("org.apache.kafka.common.errors.TransactionalIdAuthorizationException", "no"), None, ExitCode.AUTHORIZATION, None),
        (Cause("org.apache.kafka.common.errors.SaslAuthenticationException", "no"), None, ExitCode.AUTHORIZATION, None),
        (Cause("org.apache.kafka.clients.consumer.OffsetOutOfRangeException", "gone"), None, ExitCode.SOURCE_DATA_LOST, None),
        (Cause("SparkException", "[KAFKA_DATA_LOSS.START_OFFSET_RESET] gone"), None, ExitCode.SOURCE_DATA_LOST, None),
        (Cause("SparkException", "[KAFKA_DATA_LOSS.PARTITIONS_DELETED] gone"), BROKERS_UNAVAILABLE, ExitCode.UNAVAILABLE, None),
        (Cause("org.apache.kafka.common.errors.UnknownTopicOrPartitionException", "gone"), None, ExitCode.TOPIC_MISSING, None),
        (
            Cause("org.apache.kafka.common.errors.TimeoutException", "out"),
            SINK_TOPIC_MISSING,
            ExitCode.TOPIC_MISSING,
            Reason.SINK_TOPIC_MISSING,
        ),
        (Cause("java.lang.OutOfMemoryError", "Java heap space"), BROKERS_UNAVAILABLE, ExitCode.INTERNAL, Reason.OUT_OF_MEMORY),
        (Cause("SparkUpgradeException", "[INVALID_DATETIME_PATTERN] 'q'"), None, ExitCode.CONFIGURATION, None),
        (Cause("java.lang.IllegalStateException", "what"), None, ExitCode.INTERNAL, None),
    ],
)
def test_a_failure_has_the_exit_code_of_its_cause(cause: Cause, problem: JobError | None, code: ExitCode, reason: Reason | None) -> None:
    error = decide_failure([OUTER, cause], problem)
    assert (error.code, error.reason) == (code, reason or EXITS[code][0].reason)
    assert cause.message in error.message


def test_a_failure_without_a_cause_has_the_exit_code_internal() -> None:
    assert decide_failure([], None).code is ExitCode.INTERNAL


@given(st.text(max_size=20_000), st.sampled_from(Reason))
def test_a_termination_message_fits_for_every_text(message: str, reason: Reason) -> None:
    try:
        message.encode()
    except UnicodeEncodeError:
        return
    content = build_termination_message(reason, message)
    document = json.loads(content)
    assert len(content) <= MAX_TERMINATION_BYTES and len(document["message"]) <= 1024
    assert document["reason"] == reason
    assert document["message"] == message or document["message"].endswith("…")


def test_a_message_of_characters_that_json_escapes_fits() -> None:
    for character in ("\x01", "😀", "ä", "\\"):
        assert len(build_termination_message(Reason.DRIVER_FAILED, character * 5000)) <= MAX_TERMINATION_BYTES


def test_a_termination_log_that_cannot_be_written_is_ignored(tmp_path: Path) -> None:
    write_termination_message(tmp_path / "missing" / "log", Reason.DRIVER_FAILED, "x")


@pytest.mark.parametrize(
    ("files", "code", "proof"),
    [
        ([], ExitCode.CHECKPOINT_NOT_WRITABLE, True),
        (["lock", "generation-1/spark/"], ExitCode.CHECKPOINT_NOT_WRITABLE, True),
        (["attempt"], ExitCode.CHECKPOINT_NOT_WRITABLE, False),
        (["generation-1/job.json"], ExitCode.CHECKPOINT_NOT_WRITABLE, False),
        (None, ExitCode.CHECKPOINT_NOT_WRITABLE, False),  # the folder cannot be read
        ([], ExitCode.CHECKPOINT_LOCKED, False),  # the other driver may store keys now
        ([], ExitCode.CONFIGURATION, False),
    ],
)
def test_a_driver_that_cannot_use_its_volume_says_whether_any_driver_ever_has(
    tmp_path: Path, files: list[str] | None, code: ExitCode, proof: bool
) -> None:
    root, log = tmp_path / "volume", tmp_path / "log"
    for name in files or []:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("1")
    root.mkdir(exist_ok=True) if files is not None else root.write_text("not a folder")
    report_failure(JobError(code, "no"), Arguments(config=tmp_path, checkpoint=root, port=0, termination_log=log), State())
    said = TerminationMessage.model_validate_json(log.read_bytes())
    assert (said.checkpoint_has_state, said.attempt) == ((False, 0) if proof else (None, None))
